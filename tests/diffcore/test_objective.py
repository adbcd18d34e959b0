"""The training loss: weights by their formulas, coupling, times, and a toy problem end to end."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from diffcore import random
from diffcore.coupling import align_noise, rotation_onto
from diffcore.denoisers import PREVIOUS, as_clean
from diffcore.domains import Grid, Nodes, Pairs, Points
from diffcore.errors import ConfigError
from diffcore.objective import (
    SMALLEST_TIME,
    Objective,
    corrupt,
    denoising_loss,
    draw_times,
    staged,
    time_weight,
)
from diffcore.processes import Categorical, Gaussian, Process, uniform_kernel
from diffcore.samplers import prior, sample, solver
from diffcore.schedules import Cosine, FlowTime, power_grid
from diffcore.state import State

PLAIN = Objective(weighting="uniform", self_condition=0.0, independent=0.0, align=False)
PROCESSES: dict[str, Process] = {
    "pos": Gaussian(FlowTime(), Points()),
    "atom": Categorical(Cosine(), Nodes(), uniform_kernel(3)),
    "bond": Categorical(Cosine(nu=1.5), Pairs(), uniform_kernel(4)),
}


def batch(rows: int = 6, atoms: int = 5) -> State:
    rng = random.generator(0)
    mask = torch.ones(rows, atoms, dtype=torch.bool)
    mask[0, 3:] = False
    pos = Points().project(random.normal(rng, torch.zeros(rows, atoms, 3)), mask)
    atom = torch.randint(0, 3, (rows, atoms), generator=rng) * mask
    bond = Pairs().project(torch.randint(0, 4, (rows, atoms, atoms), generator=rng), mask)
    return State({"pos": pos, "atom": atom, "bond": bond}, mask)


def perfect(clean: State):
    """Knows the answer."""

    def denoiser(state: State, times, context) -> State:
        classes = {"atom": 3, "bond": 4}
        hot = {n: nn.functional.one_hot(clean[n], k).float() for n, k in classes.items()}
        return clean.replace(**hot)

    return denoiser


@pytest.mark.parametrize("weighting", ["uniform", "clipped_snr", "min_snr"])
@pytest.mark.parametrize("self_condition", [0.0, 1.0])
def test_a_perfect_denoiser_has_no_loss(weighting: str, self_condition: float) -> None:
    clean = batch()
    objective = Objective(weighting=weighting, self_condition=self_condition, independent=0.5)
    loss, parts = denoising_loss(perfect(clean), PROCESSES, clean, objective, random.generator(1))
    assert abs(loss.item()) < 1e-6
    assert parts.keys() == PROCESSES.keys()
    assert all(abs(p.item()) < 1e-6 for p in parts.values())


def test_the_loss_is_the_weighted_mean() -> None:
    """Off by 0.1 in every coordinate and half sure of every class: the value is known."""
    clean = batch()

    def denoiser(state: State, times, context) -> State:
        sure = perfect(clean)(state, times, context)
        half = {n: 0.5 * sure[n] + 0.5 / sure[n].shape[-1] for n in ("atom", "bond")}
        return sure.replace(pos=sure["pos"] + 0.1, **half)

    objective = replace(PLAIN, weights={"pos": 3.0, "atom": 0.4, "bond": 2.0})
    loss, parts = denoising_loss(denoiser, PROCESSES, clean, objective, random.generator(1))
    atom, bond = -math.log(0.5 + 0.5 / 3), -math.log(0.5 + 0.5 / 4)
    assert parts["pos"].item() == pytest.approx(0.01, rel=1e-4)
    assert parts["atom"].item() == pytest.approx(atom, rel=1e-4)
    assert parts["bond"].item() == pytest.approx(bond, rel=1e-4)
    assert loss.item() == pytest.approx(3 * 0.01 + 0.4 * atom + 2 * bond, rel=1e-4)


def test_conditions_are_hidden_and_what_else_is_known_is_not() -> None:
    """A table [B, P] is a condition; a field per node is there whatever is dropped."""
    told = random.normal(random.generator(2), torch.zeros(6, 4))
    clean = batch().replace(told=told, sketch=batch()["pos"] + 1)
    seen = []

    def denoiser(state: State, times, context) -> State:
        seen.append(state)
        return perfect(clean)(state, times, context)

    objective = replace(PLAIN, condition_drop=0.5)
    for seed in range(20):
        denoising_loss(denoiser, PROCESSES, clean, objective, random.generator(seed))
    hidden = torch.stack([state["told"].isnan() for state in seen])
    assert 0.4 < hidden.all(-1).float().mean() < 0.6
    kept = [state["told"][~state["told"].isnan()] for state in seen]
    assert all(torch.isin(one, told).all() for one in kept)
    assert all(torch.equal(state["sketch"], clean["sketch"]) for state in seen)


def test_a_further_term_counts_by_its_weight() -> None:
    """What a state means may be judged as well: here its radius of gyration, off by a factor."""
    clean = batch()

    def radius(state: State) -> torch.Tensor:
        return state["pos"].square().sum((1, 2))

    def term(predicted: State, truth: State, times) -> torch.Tensor:
        return radius(predicted) / radius(truth) - 1

    def denoiser(state: State, times, context) -> State:
        sure = perfect(clean)(state, times, context)
        return sure.replace(pos=3.0**0.5 * sure["pos"])

    objective = replace(PLAIN, weights={"pos": 0.0, "radius": 0.5})
    terms = {"radius": term}
    loss, parts = denoising_loss(
        denoiser, PROCESSES, clean, objective, random.generator(1), terms=terms
    )
    assert parts["radius"].item() == pytest.approx(2.0, rel=1e-5)
    assert loss.item() == pytest.approx(1.0, rel=1e-5)
    assert parts.keys() == {*PROCESSES, "radius"}


@pytest.mark.parametrize("schedule", [FlowTime(), Cosine(), Cosine(nu=2.5)], ids=repr)
def test_time_weights_equal_their_formulas(schedule) -> None:
    process = Gaussian(schedule, Grid((1,)))
    t = torch.tensor([0.0, 1e-3, 0.1, 0.4, 0.6, 0.9, 1.0], dtype=torch.float64)
    late = t.clamp_min(SMALLEST_TIME)
    snr = schedule.alpha(late) ** 2 / schedule.sigma(late) ** 2
    bounds = (0.05, 1.5)
    expected = {
        "uniform": torch.ones_like(t),
        "clipped_snr": snr.clamp(0.05, 1.5),
        "min_snr": torch.minimum(snr, torch.tensor(1.5)),
    }
    for weighting, weight in expected.items():
        objective = Objective(weighting=weighting, bounds=bounds)
        torch.testing.assert_close(time_weight(objective, "x", process, t), weight)
    own = Objective(bounds=bounds, field_bounds={"x": (0.5, 0.6)})
    torch.testing.assert_close(time_weight(own, "x", process, t), snr.clamp(0.5, 0.6))
    torch.testing.assert_close(time_weight(own, "y", process, t), snr.clamp(0.05, 1.5))
    noise = Objective(weighting="uniform", noise_loss=True)
    torch.testing.assert_close(time_weight(noise, "x", process, t), snr)
    discrete = Categorical(schedule, Nodes(), uniform_kernel(2))
    assert (time_weight(noise, "x", discrete, t) == 1).all()


def test_noise_loss_is_the_error_of_the_noise() -> None:
    """SNR |x0 - x0_hat|^2 = |eps - eps_hat|^2 for a network that predicts the noise."""
    process = Gaussian(Cosine(), Grid((4,)))
    rng = random.generator(0)
    x0, eps, guess = (random.normal(rng, torch.zeros(5, 4, dtype=torch.float64)) for _ in range(3))
    t = torch.linspace(0.1, 0.95, 5, dtype=torch.float64)
    mask = torch.ones(5, 1, dtype=torch.bool)
    clean = as_clean(guess, process.mix(x0, eps, t), t, process, mask, "eps")
    objective = Objective(weighting="uniform", noise_loss=True)
    weight = time_weight(objective, "x", process, t)
    found = weight * process.loss(clean, x0, mask)
    torch.testing.assert_close(found, ((guess - eps) ** 2).mean(1))


def test_noise_loss_is_finite_in_float32_at_the_smallest_time() -> None:
    """The adaptive cosine's noise is 3e-5 there, and must not be rounded to nothing."""
    process = Gaussian(Cosine(nu=2.5), Grid((1,)))
    objective = Objective(weighting="uniform", noise_loss=True)
    weight = time_weight(objective, "x", process, torch.tensor([SMALLEST_TIME]))
    assert weight.isfinite().all()


def test_unknown_weighting() -> None:
    with pytest.raises(ConfigError, match=r"^unknown weighting 'snr'; known: uniform, clipped_snr"):
        time_weight(Objective(weighting="snr"), "pos", PROCESSES["pos"], torch.ones(1))


def test_shared_times_are_stratified() -> None:
    rows = 64
    objective = Objective(independent=0.0)
    times = draw_times(["a", "b"], rows, objective, random.generator(0))
    assert torch.equal(times["a"], times["b"])
    assert times["a"].min() >= SMALLEST_TIME and times["a"].max() <= 1
    # one draw in every stratum [k, k + 1) / rows
    assert (times["a"].sort().values * rows).long().tolist() == list(range(rows))
    again = draw_times(["a", "b"], rows, objective, random.generator(0))
    assert torch.equal(times["a"], again["a"])


def test_independent_times_hold_exact_zeros() -> None:
    rows = 30_000
    times = draw_times(["a", "b"], rows, Objective(independent=0.25), random.generator(0))
    own = times["a"] != times["b"]
    zero = times["a"] == 0
    # a quarter of the rows is independent; a third of those is clean in a given field, of which a
    # ninth in both, so that a 0.25 / 9 of all rows are equal although independent
    error = 5 * (0.25 / rows) ** 0.5
    assert own.double().mean().item() == pytest.approx(0.25 * 8 / 9, abs=error)
    assert zero.double().mean().item() == pytest.approx(0.25 / 3, abs=error)
    free = times["a"][own & ~zero]
    assert free.mean().item() == pytest.approx(0.5, abs=5 * (1 / 12 / len(free)) ** 0.5)
    both = own & ~zero & (times["b"] != 0)
    pair = torch.stack([times["a"][both], times["b"][both]])
    assert torch.corrcoef(pair)[0, 1].abs() < 5 / both.sum() ** 0.5


def test_at_a_stage_fields_before_are_clean_those_after_noise_and_neither_counts() -> None:
    stages = (("pos", "atom"), ("bond",))
    objective = replace(PLAIN, stages=stages)
    times, counts = staged(
        draw_times(list(PROCESSES), 400, objective, random.generator(0)),
        objective,
        random.generator(1),
    )
    second = counts["bond"] == 1
    assert 150 < int(second.sum()) < 250
    assert (times["pos"][second] == 0).all() and (times["atom"][second] == 0).all()
    assert (times["bond"][~second] == 1).all()
    assert torch.equal(times["pos"], times["atom"]) and (counts["pos"] == counts["atom"]).all()
    assert (times["pos"][~second] > 0).all() and (times["bond"][second] < 1).all()
    torch.testing.assert_close(counts["pos"] + counts["bond"], torch.ones(400))

    def wrong_bonds(state: State, times, context) -> State:
        return perfect(clean)(state, times, context).replace(
            bond=torch.full((*clean["bond"].shape, 4), 0.25)
        )

    clean = batch(rows=64)
    loss, parts = denoising_loss(wrong_bonds, PROCESSES, clean, objective, random.generator(2))
    assert float(parts["bond"]) == pytest.approx(math.log(4), abs=1e-4)
    assert 0.2 < float(loss) / math.log(4) < 0.8, "only rows at the second stage count"
    rare = replace(objective, shares=(0.9, 0.1))
    _, counts = staged(times, rare, random.generator(1))
    assert 20 < int(counts["bond"].sum()) < 65
    with pytest.raises(ConfigError, match="shares"):
        staged(times, replace(objective, shares=(1.0,)), random.generator(0))
    for wrong in ((("pos",), ("bond",)), (("pos", "atom"), ("bond", "pos"))):
        with pytest.raises(ConfigError, match="stages"):
            staged(times, replace(PLAIN, stages=wrong), random.generator(0))


def test_corrupt_leaves_clean_fields_alone() -> None:
    clean = batch()
    times = {"pos": torch.zeros(6), "atom": torch.zeros(6), "bond": torch.ones(6)}
    objective = Objective(distort=0.5, align=True)
    noisy = corrupt(clean, times, PROCESSES, objective, random.generator(0))
    torch.testing.assert_close(noisy["pos"], clean["pos"])
    assert torch.equal(noisy["atom"], clean["atom"])
    assert not torch.equal(noisy["bond"], clean["bond"])
    assert torch.equal(noisy["bond"], noisy["bond"].transpose(1, 2))


def test_distortion_hits_half_of_the_early_rows_with_its_standard_deviation() -> None:
    n = 4_000
    clean = State({"x": torch.zeros(n, 1)}, torch.ones(n, 1, dtype=torch.bool))
    processes = {"x": Gaussian(FlowTime(), Grid((1,)))}
    objective = Objective(align=False, distort=3.0, distort_below=0.5)
    for t, share in ((0.2, 0.5), (0.7, 0.0)):
        times = {"x": torch.full((n,), t)}
        x = corrupt(clean, times, processes, objective, random.generator(0))["x"]
        expected = t**2 + share * 9
        # the variance of a square is at most 3 * 9^2 / 2 here; five standard errors
        assert x.var().item() == pytest.approx(expected, abs=5 * (122 / n) ** 0.5 * (share + 0.01))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_self_conditioning_happens_in_its_share_of_batches(share: float) -> None:
    clean, seen = batch(2), []

    def denoiser(state: State, times, context) -> State:
        seen.append(context[PREVIOUS])
        return perfect(clean)(state, times, context)

    for k in range(100):
        denoising_loss(
            denoiser, PROCESSES, clean, replace(PLAIN, self_condition=share), random.generator(k)
        )
    used = sum(previous is not None for previous in seen)
    assert len(seen) == 100 + used
    assert used == pytest.approx(100 * share, abs=5 * (100 * share * (1 - share)) ** 0.5)


def test_the_first_pass_carries_no_gradient() -> None:
    network = nn.Linear(1, 1)
    clean = State({"x": torch.ones(4, 1)}, torch.ones(4, 1, dtype=torch.bool))

    def denoiser(state: State, times, context) -> State:
        x = network(state["x"])
        if context[PREVIOUS] is not None:
            assert not context[PREVIOUS]["x"].requires_grad
        return State({"x": x}, state.mask)

    objective = replace(PLAIN, self_condition=1.0)
    processes = {"x": Gaussian(FlowTime(), Grid((1,)))}
    loss, parts = denoising_loss(denoiser, processes, clean, objective, random.generator(0))
    loss.backward()
    assert network.weight.grad is not None
    assert not parts["x"].requires_grad


def points(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    counts = torch.arange(rows) % 6 + 1
    mask = torch.arange(7) < counts.unsqueeze(1)
    x = random.normal(random.generator(seed), torch.zeros(rows, 7, 3, dtype=torch.float64))
    return Points().project(x, mask), mask


def test_aligned_noise_is_permuted_and_rotated_noise() -> None:
    noise, mask = points(30, 0)
    target, _ = points(30, 1)
    aligned = align_noise(noise, target, mask)
    torch.testing.assert_close(aligned.norm(dim=(1, 2)), noise.norm(dim=(1, 2)))
    assert (aligned[~mask] == 0).all()
    assert aligned.sum(1).abs().max() < 1e-12
    # every length comes back: a permutation and an isometry
    torch.testing.assert_close(aligned.norm(dim=2).sort(1).values, noise.norm(dim=2).sort(1).values)
    for row in range(30):
        n = int(mask[row].sum())
        if n < 4:
            continue
        # match the atoms by their length; then the isometry between both is a proper rotation
        a = aligned[row, :n][aligned[row, :n].norm(dim=1).argsort()]
        b = noise[row, :n][noise[row, :n].norm(dim=1).argsort()]
        turn = torch.linalg.lstsq(b, a).solution.T
        torch.testing.assert_close(turn @ turn.T, torch.eye(3).double(), rtol=0, atol=1e-8)
        assert torch.det(turn).item() == pytest.approx(1)


def test_alignment_lowers_the_cost_and_does_not_touch_its_input() -> None:
    noise, mask = points(200, 2)
    target, _ = points(200, 3)
    before = noise.clone()
    aligned = align_noise(noise, target, mask)
    assert torch.equal(noise, before)
    cost = [((x - target) ** 2).sum((1, 2)) for x in (noise, aligned)]
    assert (cost[1] <= cost[0] + 1e-9).all()
    assert cost[1].mean() < 0.8 * cost[0].mean()
    twice = align_noise(noise, target, mask, rounds=3)
    assert (((twice - target) ** 2).sum((1, 2)) <= cost[1] + 1e-9).all()


def test_aligned_noise_is_normal_over_data_without_orientation() -> None:
    """For targets in uniformly random poses the aligned noise is isotropic normal again."""
    n, atoms = 4_000, 3
    mask = torch.ones(n, atoms, dtype=torch.bool)
    noise, target = (
        Points().project(
            random.normal(random.generator(k), torch.zeros(n, atoms, 3).double()), mask
        )
        for k in (4, 5)
    )
    aligned = align_noise(noise, target, mask).flatten(1)
    covariance = aligned.T @ aligned / n
    centre = torch.eye(atoms).double() - 1 / atoms
    expected = torch.kron(centre, torch.eye(3).double())
    assert aligned.mean(0).abs().max() < 5 * n**-0.5
    assert (covariance - expected).abs().max() < 5 * (2 / n) ** 0.5


def test_rotation_onto_finds_a_planted_rotation() -> None:
    q, _ = torch.linalg.qr(random.normal(random.generator(0), torch.zeros(4, 3, 3).double()))
    q = q * torch.det(q).reshape(-1, 1, 1)  # proper
    x = random.normal(random.generator(1), torch.zeros(4, 6, 3).double())
    torch.testing.assert_close(rotation_onto(x, x @ q.transpose(1, 2)), q)
    mirrored = rotation_onto(x, -x)  # no rotation reaches it, and no reflection is allowed
    torch.testing.assert_close(torch.det(mirrored), torch.ones(4).double())


def test_a_toy_network_learns_two_modes() -> None:
    """A mixture at -1 and +2, one dimension: the loss falls and samples find both modes."""
    rng = random.generator(0)
    process: dict[str, Process] = {"x": Gaussian(FlowTime(), Grid((1,)))}
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(random.generator(0).get_state())
        network = nn.Sequential(
            nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)
        )

    def denoiser(state: State, times, context) -> State:
        return State({"x": network(torch.stack([state["x"][:, 0], times["x"]], 1))}, state.mask)

    def data(rows: int) -> State:
        second = torch.rand(rows, 1, generator=rng) < 0.3
        x = torch.where(second, 2.0, -1.0) + 0.1 * torch.randn(rows, 1, generator=rng)
        return State({"x": x}, torch.ones(rows, 1, dtype=torch.bool))

    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(400):
        loss, _ = denoising_loss(denoiser, process, data(256), PLAIN, rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.6 * sum(losses[:5]) * 4
    with torch.no_grad():
        start = prior(process, torch.ones(1000, 1, dtype=torch.bool), rng)
        grid = power_grid(30)
        x = sample(denoiser, process, start, grid, rng, method=solver("heun"))["x"][:, 0]
    low, high = (x + 1).abs() < 0.5, (x - 2).abs() < 0.5
    assert (low | high).float().mean() > 0.9
    assert high.float().mean().item() == pytest.approx(0.3, abs=0.1)
