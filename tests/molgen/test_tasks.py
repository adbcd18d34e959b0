"""Molecules as a task: encoding, the design space as configuration, batches of one size."""

import json
from types import SimpleNamespace

import pytest
import torch

from diffcore import random
from diffcore.errors import ConfigError, DataError
from diffcore.objective import Objective, denoising_loss
from diffcore.processes import Categorical, Gaussian
from diffcore.samplers import prior, sample, solver
from diffcore.schedules import uniform_grid
from diffcore.state import State
from molgen.models.eqgat import EqgatConfig
from molgen.tasks.batches import SizeBatches
from molgen.tasks.molecules import NODE_FEATURES, MoleculeDenoiser, MoleculeTask

TINY = EqgatConfig(layers=1, scalars=16, vectors=4, pairs=8, hidden=8, heads=4)
FEATURES = ("hybridisation", "ring", "aromatic")


def task(**options: object) -> MoleculeTask:
    given = {
        "elements": (1, 6, 8),
        "charges": (-1, 0, 1),
        "marginals": {
            "atom": (0.5, 0.3, 0.2),
            "charge": (0.1, 0.8, 0.1),
            "bond": (0.5, 0.3, 0.15, 0.05),
            "hybridisation": (0.5, 0.1, 0.1, 0.1, 0.2),
            "ring": (0.7, 0.3),
            "aromatic": (0.9, 0.1),
        },
        "sizes": {3: 5, 4: 2},
        "scale": 1.5,
        "network": TINY,
    }
    return MoleculeTask(**{**given, **options})  # type: ignore[arg-type]


def batch() -> dict[str, torch.Tensor]:
    """Water and formaldehyde, the first one padded, and a hydroxide-like third with a charge."""
    z = torch.tensor([[8, 1, 1, 0], [6, 8, 1, 1], [8, 1, 0, 0]])
    bond = torch.zeros(3, 4, 4, dtype=torch.long)
    for row, i, j, order in [(0, 0, 1, 1), (0, 0, 2, 1), (1, 0, 1, 2), (1, 0, 2, 1), (1, 0, 3, 1),
                             (2, 0, 1, 1)]:  # fmt: skip
        bond[row, i, j] = bond[row, j, i] = order
    mask = z > 0
    pos = random.normal(random.generator(0), torch.zeros(3, 4, 3)) * mask.unsqueeze(-1)
    pos = (pos - pos.sum(1, keepdim=True) / mask.sum(1).reshape(-1, 1, 1)) * mask.unsqueeze(-1)
    charge = torch.zeros_like(z)
    charge[2, 0] = -1
    return {
        "atomic_number": z, "charge": charge, "bond": bond, "pos": pos, "mask": mask,
        "hybridisation": 4 * (z > 1), "ring": torch.zeros_like(z), "aromatic": torch.zeros_like(z),
    }  # fmt: skip


@pytest.mark.parametrize("chemistry", ["categorical", "continuous"])
@pytest.mark.parametrize("kind", ["marginal", "uniform", "absorbing"])
def test_encode_and_decode_are_inverse(chemistry: str, kind: str) -> None:
    one, given = task(chemistry=chemistry, prior=kind, features=FEATURES), batch()
    state = one.encode(given)
    assert set(state) == set(one.processes())
    for name, process in one.processes().items():
        assert state[name].shape == _full_shape(process, given["mask"])
        torch.testing.assert_close(process.domain.project(state[name], state.mask), state[name])
    torch.testing.assert_close(state["pos"] * 1.5, given["pos"])
    for row, arrays in enumerate(one.decode(state)):
        n = int(given["mask"][row].sum())
        assert arrays["atomic_number"].tolist() == given["atomic_number"][row, :n].tolist()
        assert arrays["charge"].tolist() == given["charge"][row, :n].tolist()
        assert arrays["bond_order"].tolist() == given["bond"][row, :n, :n].tolist()
        torch.testing.assert_close(arrays["pos"], given["pos"][row, :n])


def _full_shape(process: object, mask: torch.Tensor) -> tuple[int, ...]:
    assert isinstance(process, Gaussian | Categorical)
    return process.domain.shape(mask)


def test_unknown_elements_and_charges_are_named() -> None:
    given = batch()
    given["atomic_number"] = given["atomic_number"].masked_fill(given["atomic_number"] == 6, 14)
    with pytest.raises(DataError, match="^unknown element Si: expected one of H, C, O$"):
        task().encode(given)
    given = batch()
    given["charge"][1, 0] = 2
    said = r"^unknown formal charge \+2: expected one of -1, \+0, \+1$"
    with pytest.raises(DataError, match=said):
        task().encode(given)


def test_padding_may_hold_anything() -> None:
    given = batch()
    given["atomic_number"][0, 3] = 99
    assert task().encode(given)["atom"][0, 3].item() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "cosine"}, "unknown schedule 'cosine'; known: flow, adaptive_cosine"),
        ({"chemistry": "none"}, "unknown chemistry 'none'; known: categorical, continuous"),
        ({"prior": "mask"}, "unknown prior 'mask'; known: marginal, uniform, absorbing"),
        ({"predicts": "noise"}, "unknown predicts 'noise'; known: x0, eps, v"),
        ({"features": ("size",)}, "unknown feature 'size'; known: hybridisation, ring, aromatic"),
    ],
)
def test_unknown_options_are_refused_in_one_line(options: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        task(**options)
    assert str(caught.value) == message


def test_json_round_trip() -> None:
    one = task(features=FEATURES, chemistry="continuous", predicts="eps", prior="uniform")
    text = json.dumps(one.to_json())
    assert MoleculeTask.from_json(json.loads(text)) == one


@pytest.mark.parametrize("change", [{"elements": None}, {"extra": 1}, {"network": {"depth": 3}}])
def test_a_broken_card_is_a_config_error(change: dict) -> None:
    value = json.loads(json.dumps(task().to_json())) | change
    with pytest.raises(ConfigError, match=r"^not a molecule task: ") as caught:
        MoleculeTask.from_json(value)
    assert "\n" not in str(caught.value)
    del value["elements"]
    with pytest.raises(ConfigError):
        MoleculeTask.from_json(value)


def trains_and_samples(one: MoleculeTask, objective: Objective, steps: int = 2) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(random.generator(0).get_state())
        network = one.build()
    processes = one.processes()
    denoiser = MoleculeDenoiser(network, processes, one.predicts)
    rng = random.generator(1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    loss, parts = denoising_loss(denoiser, processes, one.encode(batch()), objective, rng)
    assert loss.isfinite() and loss > 0
    assert set(parts) == set(processes)
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    optimizer.step()
    with torch.no_grad():
        start = prior(processes, batch()["mask"], rng)
        name = "masked" if one.prior == "absorbing" else "ddim"
        made = sample(denoiser, processes, start, uniform_grid(steps), rng, method=solver(name))
    check_molecules(one, made)


def check_molecules(one: MoleculeTask, made: State) -> None:
    molecules = one.decode(made)
    assert [len(m["pos"]) for m in molecules] == [3, 4, 2]
    for arrays in molecules:
        assert arrays["pos"].isfinite().all()
        assert arrays["pos"].sum(0).abs().max() < 1e-3 * (1 + arrays["pos"].abs().max())
        assert set(arrays["atomic_number"].tolist()) <= set(one.elements)
        assert set(arrays["charge"].tolist()) <= set(one.charges)
        order = arrays["bond_order"]
        assert torch.equal(order, order.T)
        assert order.min() >= 0 and order.max() <= 3
        assert (order.diagonal() == 0).all()


@pytest.mark.parametrize("features", [(), FEATURES], ids=["plain", "features"])
@pytest.mark.parametrize("predicts", ["x0", "eps", "v"])
@pytest.mark.parametrize("chemistry", ["categorical", "continuous"])
def test_the_design_space(chemistry: str, predicts: str, features: tuple[str, ...]) -> None:
    one = task(
        chemistry=chemistry, predicts=predicts, features=features, schedule="adaptive_cosine"
    )
    for weighting in ("uniform", "clipped_snr", "min_snr"):
        trains_and_samples(one, Objective(weighting=weighting))
    if predicts == "eps":
        objective = Objective(weighting="uniform", noise_loss=True, self_condition=1.0)
        trains_and_samples(one, objective)


@pytest.mark.parametrize("schedule", ["flow", "adaptive_cosine"])
@pytest.mark.parametrize("kind", ["marginal", "uniform", "absorbing"])
def test_schedules_and_priors(schedule: str, kind: str) -> None:
    one = task(schedule=schedule, prior=kind)
    trains_and_samples(one, Objective(self_condition=1.0, distort=0.1, independent=0.5), steps=4)


@pytest.mark.parametrize("schedule", ["flow", "adaptive_cosine"])
@pytest.mark.parametrize("predicts", ["eps", "v"])
def test_an_untrained_network_stays_finite_at_every_time(schedule: str, predicts: str) -> None:
    """Where alpha is almost zero a small error of the noise is a large one of the clean value."""
    one = task(schedule=schedule, predicts=predicts, chemistry="continuous")
    processes = one.processes()
    denoiser = MoleculeDenoiser(one.build(), processes, predicts)
    clean = one.encode(batch())
    for t in (0.0, 1e-6, 1e-3, 0.5, 0.999, 1.0):
        times = {name: torch.full((3,), t) for name in processes}
        noisy = {
            n: p.forward(clean[n], times[n], clean.mask, random.generator(0))
            for n, p in processes.items()
        }
        with torch.no_grad():
            out = denoiser(State(noisy, clean.mask), times, {})
        assert all(x.isfinite().all() for x in out.values()), t
        if t == 0:
            # without noise there is nothing to predict: the input is the answer
            for name in processes:
                torch.testing.assert_close(out[name], clean[name], rtol=1e-4, atol=1e-4)


def test_probabilities_of_the_denoiser() -> None:
    one = task(prior="absorbing")
    processes, clean = one.processes(), one.encode(batch())
    times = {name: torch.full((3,), 0.5) for name in processes}
    with torch.no_grad():
        out = MoleculeDenoiser(one.build(), processes)(clean, times, {})
    for name in ("atom", "charge", "bond"):
        torch.testing.assert_close(out[name].sum(-1), torch.ones_like(out[name][..., 0]))
        assert (out[name][..., -1] == 0).all()  # nothing is predicted to be masked
    torch.testing.assert_close(out["bond"], out["bond"].transpose(1, 2))


def test_features_have_a_class_for_every_value() -> None:
    assert set(NODE_FEATURES) == set(FEATURES)
    one = task(features=FEATURES)
    assert one.node_classes == {
        "atom": 3,
        "charge": 3,
        "hybridisation": 5,
        "ring": 2,
        "aromatic": 2,
    }
    assert task(prior="absorbing").node_classes == {"atom": 4, "charge": 4}
    assert task(prior="absorbing").pair_classes == {"bond": 5}


class Table(SimpleNamespace):
    """Only what the batches need: sizes, and rows that tell which molecule they are."""

    def batch(self, index: torch.Tensor) -> torch.Tensor:
        return index


def batches(world: int = 1, rank: int = 0, start: int = 0) -> SizeBatches:
    n_atoms = torch.tensor([3, 4, 5] * 40 + [6])
    table, same = Table(n_atoms=n_atoms), SimpleNamespace(encode=lambda index: index)
    everything = torch.arange(len(n_atoms))
    return SizeBatches(
        table, everything, same, size=8, seed=3, rank=rank, world=world, start=lambda: start
    )  # type: ignore[arg-type]


def test_an_epoch_holds_every_molecule_once_in_batches_of_one_size() -> None:
    one = batches()
    epoch = one.epoch(0)
    assert torch.equal(torch.cat(epoch).sort().values, one.indices)
    assert all(one.table.n_atoms[index].unique().numel() == 1 for index in epoch)
    assert max(len(index) for index in epoch) == 8
    again, other = batches().epoch(0), one.epoch(1)
    assert all(torch.equal(a, b) for a, b in zip(epoch, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(epoch, other, strict=True))


def test_processes_share_an_epoch_evenly() -> None:
    first, second = (batches(2, rank).epoch(0) for rank in (0, 1))
    assert len(first) == len(second)
    sizes = batches().table.n_atoms
    for a, b in zip(first, second, strict=True):
        assert sizes[a].unique().tolist() == sizes[b].unique().tolist()  # no process waits
    seen = torch.cat([*first, *second])
    assert seen.unique().numel() == len(seen)
    assert len(seen) >= 120  # what cannot be shared, less than one batch a size, may be left out


def test_a_resumed_run_goes_on_with_the_next_batch() -> None:
    per_epoch = len(batches().epoch(0))
    whole = iter(batches())
    expected = [next(whole) for _ in range(per_epoch + 5)]
    for skip in (3, per_epoch - 1, per_epoch, per_epoch + 2):
        later = iter(batches(start=skip))
        for k in range(skip, min(skip + 3, len(expected))):
            assert torch.equal(next(later), expected[k])
