"""The model's own networks: chunks there and back, sets without order, symmetries, card."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffcore import random
from diffcore.errors import ConfigError
from structgen.netweights.denoiser import Size
from structgen.netweights.fitting import gradients
from structgen.netweights.networks import Perceptron, initial
from structgen.netweights.probes import RATE, newton_step, probe, unrolled
from structgen.netweights.stages import contrastive, minimise
from structgen.netweights.task import Parts, WeightTask
from structgen.netweights.vae import ChunkCoder

NET = Perceptron(4, 3, 5)
SMALL = Size(latent=6, width=32, layers=2, seeds=2)


def build(size: Size = SMALL) -> tuple[WeightTask, Parts]:
    task = WeightTask(NET, "components", size)
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(random.generator(0).get_state())
        parts = task.build()
    for p in parts.parameters():  # nothing may hide behind weights that start at zero
        p.data += 0.1 * random.normal(random.generator(p.numel()), p.data)
    return task, parts.requires_grad_(False).eval()


@pytest.fixture
def told() -> dict[str, Tensor]:
    rng = random.generator(1)
    x = random.normal(rng, torch.empty(2, 40, 4))
    y = torch.randint(3, (2, 40), generator=rng)
    present = (torch.arange(5) < 3).expand(2, -1)
    return {"x": x, "y": y, "present": present}


def test_the_coder_gives_back_what_lies_in_a_plane() -> None:
    rng = random.generator(2)
    plane = random.normal(rng, torch.empty(3, 10))
    chunks = random.normal(rng, torch.empty(400, 3)) @ plane
    coder = ChunkCoder(10, 3, hidden=32)
    coder.start(chunks)
    steps, last = minimise(
        lambda step: coder.loss(chunks, random.generator(3, step)),
        coder.parameters(),
        steps=150,
        lr=3e-3,
        seconds=60,
        name="coder",
        progress=False,
    )
    assert steps == 150 and last < 0.1
    coder.standardise(chunks)
    latent = coder.to_latent(chunks)
    torch.testing.assert_close(latent.std(0), torch.ones(3), atol=1e-3, rtol=0)
    lost = (coder.from_latent(latent) - chunks).square().mean() / chunks.var()
    assert lost < 0.05


def test_a_minimisation_ends_in_time() -> None:
    p = torch.nn.Parameter(torch.ones(1))
    steps, _ = minimise(
        lambda _: p.square().sum(), [p], steps=10**6, lr=0.1, seconds=0.2, name="", progress=False
    )
    assert 0 < steps < 10**6 and abs(float(p.detach())) < 0.5


def test_the_code_knows_no_order_of_rows(told: dict[str, Tensor]) -> None:
    _, parts = build()
    encoder = parts.network.encoder
    code = encoder(**told)
    assert code.shape == (2, encoder.tokens, 32)
    order = torch.randperm(40, generator=random.generator(4))
    other = encoder(told["x"][:, order], told["y"][:, order], told["present"])
    torch.testing.assert_close(code, other, atol=1e-4, rtol=1e-4)
    assert not code[:, 3 * 2 : 5 * 2].any(), "absent classes say nothing"
    assert code[:, :6].any() and code[:, 10:].any()
    lengths = encoder.describe(code, told["present"]).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(2))


def test_the_code_depends_on_rows_and_classes(told: dict[str, Tensor]) -> None:
    encoder = build()[1].network.encoder
    code = encoder(**told)
    assert not torch.allclose(code, encoder(2 * told["x"], told["y"], told["present"]))
    assert not torch.allclose(code, encoder(told["x"], 2 - told["y"], told["present"]))


@pytest.mark.parametrize("positions", [True, False])
def test_without_positions_hidden_units_may_be_permuted(
    told: dict[str, Tensor], positions: bool
) -> None:
    size = Size(latent=6, width=32, layers=2, positions=positions, probes=0)
    _, parts = build(size)
    z = random.normal(random.generator(5), torch.empty(2, 4, 6))
    code = parts.network.encoder(**told)
    args = torch.tensor([0.3, 0.7]), code, told["present"], torch.full((2, 2), torch.nan)
    order = torch.tensor([2, 0, 1, 3])
    out, moved = parts.network(z, *args), parts.network(z[:, order], *args)
    assert torch.allclose(moved, out[:, order], atol=1e-5) is not positions
    last = torch.tensor([3, 1, 2, 0])
    moved = parts.network(z[:, last], *args)
    assert not torch.allclose(moved, out[:, last], atol=1e-4), "the last biases are no unit"


def test_the_network_listens_to_all_that_it_is_told(told: dict[str, Tensor]) -> None:
    task, parts = build()
    z = random.normal(random.generator(5), torch.empty(2, 4, 6))
    code = parts.network.encoder(**told)
    probed = task.probed(**told)["probed"]
    nothing = torch.full((2, 2), torch.nan)
    t = torch.tensor([0.3, 0.7])
    out = parts.network(z, t, code, told["present"], nothing, probed)
    for other in (
        parts.network(z, t + 0.1, code, told["present"], nothing, probed),
        parts.network(z, t, 0 * code, told["present"], nothing, probed),
        parts.network(z, t, code, told["present"], task.asked(2, 1.0, None), probed),
        parts.network(z, t, code, told["present"], task.asked(2, None, 0.5), probed),
        parts.network(z, t, code, told["present"], nothing, 0 * probed),
    ):
        assert not torch.allclose(out, other, atol=1e-4)


def test_the_probe_is_plain_gradient_descent(told: dict[str, Tensor]) -> None:
    start = initial(NET, [0], 0.0, 3)
    path = unrolled(NET, **told, steps=2, start=3)
    torch.testing.assert_close(path[0], start.expand(2, -1))
    for k in range(2):
        one = told["x"][k], told["y"][k], told["present"][k : k + 1]
        first = start - RATE * gradients(NET, start, *one)
        torch.testing.assert_close(path[1, k], first[0], atol=1e-6, rtol=1e-4)
    said = probe(NET, path, told["present"])
    assert said.shape == (2, 4, 3 * NET.token)
    torch.testing.assert_close(
        NET.from_tokens(said[..., : NET.token]), path[1] - path[0], atol=1e-6, rtol=1e-4
    )


def test_a_newton_step_solves_the_linearised_network(told: dict[str, Tensor]) -> None:
    x, y, present = told["x"].double(), told["y"], told["present"]
    flat = initial(NET, [0, 1]).double()
    made = newton_step(NET, flat, x, y, present, curvature=0.4, ridge=0.02)
    for k in range(2):
        there = present[k].double()

        def logits(p: Tensor, k: int = k) -> Tensor:
            return NET.logits(p[None], x[k : k + 1])[0]

        jacobian = torch.autograd.functional.jacobian(logits, flat[k]) * there[:, None]
        chance = logits(flat[k]).masked_fill(~present[k], -torch.inf).softmax(-1)
        wrong = (torch.nn.functional.one_hot(y[k], 5) - chance) / 40
        j = jacobian.flatten(0, 1)
        system = 0.4 / 40 * j.T @ j + 0.02 * torch.eye(NET.parameters).double()
        step = torch.linalg.solve(system, j.T @ wrong.flatten())
        torch.testing.assert_close(made[k] - flat[k], step)
    path = unrolled(NET, **told, steps=3, start=3, newton=True)
    loss = [
        torch.nn.functional.cross_entropy(
            NET.logits(flat, told["x"], told["present"]).flatten(0, 1), y.flatten()
        )
        for flat in path
    ]
    assert loss[0] > loss[1] > loss[3]


def test_with_newton_steps_the_network_speaks_of_what_differs_from_their_end(
    told: dict[str, Tensor],
) -> None:
    task = WeightTask(NET, "components", Size(latent=6, width=32, layers=2, newton=True))
    _, parts = build(task.size)
    parts.network.head.weight.zero_()
    parts.network.head.bias.zero_()
    processes = task.processes()
    said = task.probed(**told)
    fields = {**told, **said, "asked": task.asked(2, None, None)}
    hint = parts.coder.to_latent(said["probed"][..., -NET.token :])
    denoiser = task.denoiser(parts.network, parts.coder, processes)
    for t in (torch.full((2,), 1.0), torch.full((2,), 0.5)):
        z = random.normal(random.generator(6), hint)
        found = denoiser(task.state(z, fields), {"z": t}, {})["z"]
        # a network that says nothing: the data are normal around the hint
        a = processes["z"].schedule.alpha(t).reshape(2, 1, 1)
        torch.testing.assert_close(found, hint + a * (z - a * hint))


def test_answers_are_judged_as_torch_judges_them(told: dict[str, Tensor]) -> None:
    """The term beside plain modules and torch's cross-entropy, rows without a class left out."""
    task, parts = build()
    rng = random.generator(5)
    latent = random.normal(rng, torch.empty(2, NET.hidden + 1, SMALL.latent)).requires_grad_()
    x, y = random.normal(rng, torch.empty(2, 9, 4)), torch.randint(3, (2, 9), generator=rng)
    y[1, 4:] = -1
    clean = task.state(latent.detach(), {**told, "judged_x": x, "judged_y": y})
    found = task.answers(parts.coder)(clean.replace(z=latent), clean, {})
    for k, rows in enumerate((9, 4)):
        module = NET.module()
        flat = NET.from_tokens(parts.coder.from_latent(latent[k : k + 1].detach()))
        module.load_state_dict(NET.state_dict(flat[0]))
        expected = torch.nn.functional.cross_entropy(module(x[k, :rows])[:, :3], y[k, :rows])
        torch.testing.assert_close(found[k].detach(), expected.detach())
    found.sum().backward()
    assert latent.grad is not None and float(latent.grad.abs().sum()) > 0


def test_pairs_that_belong_together_have_the_lowest_loss() -> None:
    eye = torch.eye(6)
    right, wrong = contrastive(eye, eye), contrastive(eye, eye.roll(1, 0))
    assert right < 0.01 < 5 < wrong


def test_a_task_survives_its_card() -> None:
    task = WeightTask(NET, "pixels", Size(latent=9), (0.8, 0.1), 4)
    assert WeightTask.from_json(task.to_json()) == task
    assert task.asked(1, 0.9, 0.25).tolist()[0] == pytest.approx([1.0, 0.5])
    assert task.asked(3, None, None).isnan().all()


@pytest.mark.parametrize(
    "change",
    [
        {"encoding": "words"},
        {"net": {"kind": "resnet"}},
        {"size": {"depth": 3}},
        {"skill": [1.0]},
        {"skill": None},
    ],
)
def test_a_card_of_something_else_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        WeightTask.from_json(WeightTask(NET, "components").to_json() | change)
