"""Inpainting and partial noising against the conditional distributions of small data sets."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch

from diffcore import random
from diffcore.coupling import align_noise
from diffcore.denoisers import Counted, Denoiser, Oracle
from diffcore.domains import Grid, Nodes, Pairs, Points
from diffcore.editing import Jumps, Known, inpaint
from diffcore.errors import ConfigError
from diffcore.noising import noised, renoised, vary
from diffcore.processes import (
    Categorical,
    Gaussian,
    Kernel,
    Process,
    absorbing_kernel,
    marginal_kernel,
    mask_and_replace_kernel,
    uniform_kernel,
)
from diffcore.samplers import solver
from diffcore.schedules import Cosine, EdmSigmas, FlowTime, Schedule, power_grid
from diffcore.state import State, expand

SCHEDULES: list[Schedule] = [Cosine(), FlowTime(), EdmSigmas()]


def ones(rows: int, nodes: int = 1) -> torch.Tensor:
    return torch.ones(rows, nodes, dtype=torch.bool)


def test_the_path_of_jumps() -> None:
    assert Jumps().path(4) == [0, 1, 2, 3, 4]
    assert Jumps(2, 2).path(6) == [0, 1, 2, 0, 1, 2, 3, 4, 2, 3, 4, 5, 6]
    assert Jumps(1, 3).path(2) == [0, 1, 0, 1, 0, 1, 2]
    for length, repeats, steps in [(3, 4, 20), (10, 2, 5)]:
        path = Jumps(length, repeats).path(steps)
        moves = {b - a for a, b in pairwise(path)}
        assert moves <= {1, -length} and path[-1] == steps
        assert sum(b < a for a, b in pairwise(path)) == ((repeats - 1) * ((steps - 1) // length))
    with pytest.raises(ConfigError, match="length and repeats of 1 or more, got 0 and 2"):
        Jumps(0, 2)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_jump_up_composes_with_the_forward_process(schedule: Schedule) -> None:
    """q(x_t | x_s) after q(x_s | x_0) is q(x_t | x_0), mean and variance."""
    rows = 20_000
    process, rng = Gaussian(schedule, Grid((1,))), random.generator(0)
    s, t = (torch.full((rows,), v, dtype=torch.float64) for v in (0.3, 0.6))
    clean = torch.full((rows, 1), 2.0, dtype=torch.float64)
    up = renoised(process, process.forward(clean, s, ones(rows), rng), s, t, ones(rows), rng)
    sigma = schedule.sigma(t)[0]
    assert (up.mean() - 2 * schedule.alpha(t)[0]).abs() < 5 * sigma / rows**0.5
    assert (up.std() / sigma - 1).abs() < 5 / (2 * rows) ** 0.5


KERNELS = [uniform_kernel(3), absorbing_kernel(3), mask_and_replace_kernel(3, 0.5)]


@pytest.mark.parametrize("kernel", KERNELS, ids=["uniform", "mask", "both"])
def test_a_jump_up_of_classes_composes_with_the_forward_process(kernel: Kernel) -> None:
    rows = 20_000
    process, rng = Categorical(FlowTime(), Nodes(), kernel), random.generator(1)
    s, t = (torch.full((rows,), v, dtype=torch.float64) for v in (0.3, 0.6))
    clean = torch.ones(rows, 1, dtype=torch.long)
    up = renoised(process, process.forward(clean, s, ones(rows), rng), s, t, ones(rows), rng)
    shares = up.flatten().bincount(minlength=3).double() / rows
    assert (shares - process.cumulative(t)[0, 1]).abs().max() < 0.02


def test_a_jump_up_stays_on_the_domain() -> None:
    mask = torch.tensor([[True] * 4, [True] * 3 + [False]])
    s, t, rng = torch.full((2,), 0.2), torch.full((2,), 0.7), random.generator(2)
    points, pairs = Gaussian(FlowTime(), Points()), Categorical(Cosine(), Pairs(), KERNELS[0])
    x = renoised(points, points.prior(mask, rng), s, t, mask, rng)
    assert x.sum(1).abs().max() < 1e-5 and (x[~mask] == 0).all()
    e = renoised(pairs, pairs.prior(mask, rng), s, t, mask, rng)
    assert torch.equal(e, e.transpose(1, 2)) and (e.diagonal(dim1=1, dim2=2) == 0).all()


def pixels(scale: float, schedule: Schedule, dtype=torch.float64) -> tuple[dict, Counted]:
    """Points (known, free) with p(free = 1 | known = scale) = 0.8, 0.3 for the other."""
    corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=dtype)
    data = State({"x": corners * torch.tensor([scale, 1.0], dtype=dtype)}, ones(4))
    processes: dict[str, Process] = {"x": Gaussian(schedule, Grid((2,)))}
    weights = torch.tensor([0.4, 0.1, 0.15, 0.35]).double()
    return processes, Counted(Oracle(processes, data, weights.log()))


def share_of_ones(scale: float, schedule: Schedule, noise: str, jumps: Jumps, rows: int) -> float:
    processes, oracle = pixels(scale, schedule)
    x = torch.tensor([[scale * (1 + 1e-3), 7.0]]).expand(rows, 2)
    known = Known(State({"x": x}, ones(rows)), {"x": torch.tensor([[True, False]]).expand(rows, 2)})
    grid = power_grid(30, 1.0 if isinstance(schedule, EdmSigmas) else 1.5)
    method = solver("ancestral")
    made = inpaint(
        oracle, processes, known, grid, random.generator(3), method=method, noise=noise, jumps=jumps
    )["x"]
    assert oracle.calls == sum(b > a for a, b in pairwise(jumps.path(30)))
    assert torch.equal(made[:, 0], x[:, 0])  # bit for bit, not what the oracle knows
    torch.testing.assert_close(made[:, 1].abs(), torch.ones(rows), rtol=0, atol=1e-3)
    return (made[:, 1] > 0).double().mean().item()


@pytest.mark.parametrize("noise", ["fresh", "kept"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_the_rest_follows_the_conditional(schedule: Schedule, noise: str) -> None:
    """The known part shows which it is before the free part has to choose: few jumps do."""
    assert abs(share_of_ones(3.0, schedule, noise, Jumps(5, 3), 600) - 0.8) < 0.055


def test_jumps_bring_the_rest_closer_to_the_conditional() -> None:
    """Both parts on one scale: without jumps the free part has chosen too early."""
    without = share_of_ones(1.0, FlowTime(), "fresh", Jumps(), 1_000)
    much = share_of_ones(1.0, FlowTime(), "fresh", Jumps(5, 12), 1_000)
    assert abs(without - 0.8) > 0.07 > 0.05 > abs(much - 0.8)


@pytest.mark.parametrize(
    ("kernel", "noise", "jumps"),
    [(uniform_kernel(2), "fresh", Jumps(2, 8)), (absorbing_kernel(3), "fresh", Jumps(5, 12)),
     (absorbing_kernel(3), "clean", Jumps()), (uniform_kernel(2), "kept", Jumps(2, 12))],
    ids=["uniform", "mask", "mask-clean", "uniform-kept"],
)  # fmt: skip
def test_free_tokens_follow_the_conditional(kernel: Kernel, noise: str, jumps: Jumps) -> None:
    rows = 600
    processes: dict[str, Process] = {"tok": Categorical(FlowTime(), Nodes(), kernel)}
    data = State({"tok": torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])}, ones(4, 2))
    oracle = Oracle(processes, data, torch.tensor([0.4, 0.1, 0.15, 0.35]).double().log())
    known = Known(
        State({"tok": torch.zeros(rows, 2, dtype=torch.long)}, ones(rows, 2)),
        {"tok": torch.tensor([[True, False]]).expand(rows, 2)},
    )
    made = inpaint(
        oracle, processes, known, power_grid(20), random.generator(4), method=solver("ancestral"),
        noise=noise, jumps=jumps,
    )["tok"]  # fmt: skip
    assert (made[:, 0] == 0).all()
    assert abs((made[:, 1] == 0).double().mean().item() - 0.8) < 0.075


N = 4


def molecules(dtype=torch.float32) -> tuple[dict[str, Process], State, Oracle]:
    """Six labelled graphs in space; three nodes of one give away which it is."""
    rng, rows = random.generator(5), 6
    mask = ones(rows, N)
    processes: dict[str, Process] = {
        "pos": Gaussian(FlowTime(), Points()),
        "atom": Categorical(
            FlowTime(), Nodes(), marginal_kernel(torch.tensor([0.4, 0.3, 0.2, 0.1]))
        ),
        "bond": Categorical(FlowTime(), Pairs(), uniform_kernel(3)),
    }
    points = 2 * random.normal(rng, torch.zeros(rows, N, 3, dtype=dtype))
    data = State(
        {
            "pos": Points().project(points, mask),
            "atom": torch.randint(0, 4, (rows, N), generator=rng),
            "bond": Pairs().project(torch.randint(0, 3, (rows, N, N), generator=rng), mask),
        },
        mask,
    )
    return processes, data, Oracle(processes, data)


def fragment(data: State, nodes: Sequence[Sequence[int]], shift: torch.Tensor) -> Known:
    """Row i of the data known at ``nodes[i]``, moved by ``shift``; rubbish elsewhere."""
    here = torch.zeros(data.rows, N, dtype=torch.bool)
    for row, own in enumerate(nodes):
        here[row, list(own)] = True
    both = here.unsqueeze(1) & here.unsqueeze(2)
    pos = torch.where(here.unsqueeze(-1), data["pos"] + shift, torch.full_like(data["pos"], 9.0))
    atom = torch.where(here, data["atom"], torch.zeros_like(data["atom"]))
    bond = torch.where(both, data["bond"], torch.ones_like(data["bond"]))
    state = State({"pos": pos, "atom": atom, "bond": bond}, data.mask)
    return Known(state, {"pos": here, "atom": here, "bond": both})


NODES = [[0, 1, 2], [1, 2, 3], [0, 2, 3], [3, 1, 0], [0, 1, 2, 3], [2, 3, 1]]
POLICIES = ["fresh", "kept", {"pos": "kept", "atom": "fresh", "bond": "clean"}]


@pytest.mark.parametrize(
    ("method", "dtype"),
    [("ddim", torch.float32), ("renoise", torch.float64), ("ancestral", torch.float32),
     ("heun", torch.float64)],
)  # fmt: skip
@pytest.mark.parametrize("noise", POLICIES, ids=str)
def test_a_fragment_is_completed_in_its_own_frame(noise, method: str, dtype) -> None:
    """Every row finds the only graph with its fragment; the fragment is exact, where it was."""
    processes, data, oracle = molecules(dtype)
    shift = random.normal(random.generator(6), torch.zeros(6, 1, 3, dtype=dtype)) * 10
    known = fragment(data, NODES, shift)
    rngs = random.row_generators(7, range(6))
    with torch.inference_mode():
        made = inpaint(
            oracle, processes, known, power_grid(12), rngs, method=solver(method), noise=noise,
            jumps=Jumps(3, 3),
        )  # fmt: skip
    for name, where in known.where.items():
        assert made[name].dtype == data[name].dtype
        assert torch.equal(made[name][where], known.state[name][where])
    assert torch.equal(made["bond"], made["bond"].transpose(1, 2))
    right = (made["bond"] == data["bond"]).flatten(1).all(1) & (made["atom"] == data["atom"]).all(1)
    near = (made["pos"] - data["pos"] - shift).norm(dim=-1).amax(1) < 1e-2
    assert (right & near).sum() >= 5  # one row may choose too early, as in any inpainting


def test_a_row_does_not_depend_on_its_batch() -> None:
    processes, data, oracle = molecules()
    known = fragment(data, NODES, torch.zeros(1))
    rows = torch.tensor([4, 1])
    made = [
        inpaint(
            oracle, processes, some, power_grid(8), random.row_generators(8, index),
            method=solver("ancestral"), noise="kept", jumps=Jumps(2, 2),
        )
        for some, index in ((known, range(6)), (known.take(rows), rows.tolist()))
    ]  # fmt: skip
    for name in processes:
        torch.testing.assert_close(made[0][name][rows], made[1][name])


def watched(denoiser: Denoiser) -> tuple[Denoiser, list]:
    seen: list = []

    def wrapped(state: State, times, context) -> State:
        seen.append((state, times))
        return denoiser(state, times, context)

    return wrapped, seen


@pytest.mark.parametrize("noise", ["fresh", "kept", "clean"])
def test_what_the_denoiser_sees_of_the_known_part(noise: str) -> None:
    """Fresh: another noise at every step; kept: one noise; clean: none."""
    processes, oracle = pixels(1.0, FlowTime())
    denoiser, seen = watched(oracle)
    where = torch.tensor([[True, False]]).expand(500, 2)
    known = Known(State({"x": torch.ones(500, 2)}, ones(500)), {"x": where})
    inpaint(
        denoiser, processes, known, power_grid(5), random.generator(9), method=solver("ancestral"),
        noise=noise,
    )  # fmt: skip
    eps = []
    for state, times in seen:
        alpha, sigma = FlowTime().alpha(times["x"]), FlowTime().sigma(times["x"])
        eps.append((state["x"][:, 0] - alpha) / sigma)
    if noise == "clean":
        assert all((state["x"][:, 0] == 1).all() for state, _ in seen)
        return
    assert all(abs(e.mean()) < 0.2 and abs(e.std() - 1) < 0.15 for e in eps)
    likeness = torch.corrcoef(torch.stack(eps))[0, 1:]
    assert (likeness > 0.999).all() if noise == "kept" else (likeness.abs() < 0.2).all()


def test_noise_is_aligned_with_predictions_that_carry_a_gradient() -> None:
    target = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    noise = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, 4, dtype=torch.bool)
    found = align_noise(noise, target, mask)
    torch.testing.assert_close(found.detach(), align_noise(noise, target.detach(), mask))


def test_kept_noise_of_points_is_aligned_with_the_known_ones() -> None:
    """Nodes take the noise that lies near them: no swap or rotation brings it nearer."""
    processes, data, oracle = molecules()
    only = {"pos": processes["pos"]}
    denoiser, seen = watched(Oracle(only, State({"pos": data["pos"]}, data.mask)))
    known = fragment(data, [[0, 1, 2]] * 6, torch.zeros(1))
    known = Known(State({"pos": known.state["pos"]}, data.mask), {"pos": known.where["pos"]})
    products = {}
    for noise in ("kept", "fresh"):
        seen.clear()
        inpaint(denoiser, only, known, power_grid(3), random.generator(10), method=solver("ddim"),
                noise=noise)  # fmt: skip
        x = seen[0][0]["pos"][:, :3]
        target = known.state["pos"][:, :3]
        target = target - target.mean(1, keepdim=True)
        products[noise] = (x * target).sum((1, 2))
    assert (products["kept"] > 0).all()
    assert products["kept"].mean() > 3 * products["fresh"].abs().mean()


def test_kept_noise_of_points_is_aligned_with_a_guess_of_the_free_ones() -> None:
    """The free points start on the side where the guess has them."""
    processes, data, _ = molecules()
    only = {"pos": processes["pos"]}
    state = State({"pos": data["pos"]}, data.mask)
    denoiser, seen = watched(Oracle(only, state))
    known = Known(state, {"pos": fragment(data, [[0, 1]] * 6, torch.zeros(1)).where["pos"]})
    likeness = []
    for guess in (False, True):
        seen.clear()
        inpaint(denoiser, only, known, power_grid(3), random.generator(10), method=solver("ddim"),
                noise="kept", guess=guess)  # fmt: skip
        likeness.append((seen[0][0]["pos"] * data["pos"])[:, 2:].sum((1, 2)))
    assert likeness[1].mean() > likeness[0].mean() + 1
    assert (likeness[1] > 0).all()


def test_inpainting_from_the_middle_varies_the_free_part() -> None:
    """From a small first time the free part stays near what it was."""
    processes, data, oracle = molecules()
    known = fragment(data, NODES, torch.zeros(1))
    known = Known(data, known.where)
    made = inpaint(
        oracle, processes, known, 0.1 * power_grid(5), random.generator(11), method=solver("ddim"),
        noise="kept",
    )  # fmt: skip
    torch.testing.assert_close(made["pos"], data["pos"], rtol=0, atol=1e-3)
    assert torch.equal(made["atom"], data["atom"]) and torch.equal(made["bond"], data["bond"])


def test_a_field_that_is_given_is_clean_throughout() -> None:
    processes, data, oracle = molecules()
    denoiser, seen = watched(oracle)
    known = fragment(data, [[0]] * 6, torch.zeros(1))
    known = Known(known.state.replace(atom=data["atom"]), {"pos": known.where["pos"]})
    made = inpaint(
        denoiser, processes, known, power_grid(20), random.generator(12), method=solver("ddim"),
        given=("atom",),
    )  # fmt: skip
    assert all(torch.equal(state["atom"], data["atom"]) for state, _ in seen)
    assert all((times["atom"] == 0).all() for _, times in seen)
    assert torch.equal(made["atom"], data["atom"]) and torch.equal(made["bond"], data["bond"])


def test_what_cannot_be_inpainted_is_refused_in_a_line() -> None:
    processes, data, oracle = molecules()
    where = {"atom": torch.zeros(6, N, dtype=torch.bool)}

    def attempt(state: State = data, at=where, **options) -> State:
        options = {"noise": "fresh", "given": (), **options}
        return inpaint(oracle, processes, Known(state, at), power_grid(3), random.generator(0),
                       method=solver("ddim"), **options)  # fmt: skip

    attempt()
    one_way = torch.zeros(6, N, N, dtype=torch.bool)
    one_way[:, 0, 1] = True
    for options, message in [
        ({"at": {"ring": where["atom"]}}, "known fields among pos, atom, bond, got 'ring'"),
        ({"at": {"atom": where["atom"][:, :2]}}, r"'atom' \(6, 4\), got torch.bool \(6, 2\)"),
        ({"at": {"bond": where["atom"]}}, r"shape of 'bond' \(6, 4, 4\), got torch.bool \(6, 4\)"),
        ({"at": {"atom": where["atom"].float()}}, "got torch.float32"),
        ({"at": {"bond": one_way}}, "a symmetric mask of 'bond'"),
        ({"noise": "none"}, r"noise of fresh, kept, clean .* got \['none'\]"),
        ({"given": ("atom",)}, r"known fields that are not given, got \['atom'\]"),
        ({"given": ("ring",)}, "given fields: expected some of"),
        (
            {"state": State({"pos": data["pos"]}, data.mask)},
            r"every field, none of \['atom', 'bond'",
        ),
    ]:
        with pytest.raises(ConfigError, match=message):
            attempt(**options)


def test_partial_noising() -> None:
    """At time 0 nothing moves; aligned noise is as long as any and lies nearer to the points."""
    processes, data, _ = molecules()
    zero, some = ({n: torch.full((6,), t) for n in processes} for t in (0.0, 0.5))
    same = noised(processes, data, zero, random.generator(13))
    assert all(torch.equal(same[n], data[n]) for n in ("atom", "bond"))
    torch.testing.assert_close(same["pos"], data["pos"])
    plain, near = (
        noised(processes, data, some, random.generator(14), align=a) for a in (False, True)
    )
    eps = [2 * (state["pos"] - 0.5 * data["pos"]) for state in (plain, near)]
    torch.testing.assert_close(eps[0].norm(dim=(1, 2)), eps[1].norm(dim=(1, 2)))
    likeness = [(e * data["pos"]).sum((1, 2)) for e in eps]
    assert (likeness[1] > likeness[0]).all()


def test_the_later_an_edit_starts_the_less_is_left() -> None:
    processes, data, oracle = molecules()
    many = data.take(torch.arange(6).repeat(20))
    left = []
    for t in (0.05, 0.8, 1.0):
        made = vary(oracle, processes, many, t * power_grid(10), random.generator(15),
                    method=solver("ddim"), align=True)  # fmt: skip
        distance = (made["pos"].unsqueeze(1) - data["pos"]).norm(dim=(2, 3))
        left.append((distance.argmin(1) == torch.arange(6).repeat(20)).double().mean().item())
    assert left[0] == 1.0 > left[1] > left[2] + 0.1
    kept = vary(oracle, processes, many, power_grid(10), random.generator(15),
                method=solver("ddim"), given=("atom",))  # fmt: skip
    assert torch.equal(kept["atom"], many["atom"])


def test_a_condition_travels_with_an_edit() -> None:
    processes, oracle = pixels(1.0, Cosine())
    denoiser, seen = watched(oracle)
    state = State({"x": torch.ones(3, 2), "property": torch.arange(3.0).unsqueeze(1)}, ones(3))
    where = torch.tensor([[True, False]]).expand(3, 2)
    made = inpaint(denoiser, processes, Known(state, {"x": where}), power_grid(3),
                   random.generator(16), method=solver("ddim"))  # fmt: skip
    assert all(torch.equal(s["property"], state["property"]) for s, _ in seen)
    assert torch.equal(made["property"], state["property"])
    assert expand(torch.ones(3), made["x"]).shape == (3, 1)
