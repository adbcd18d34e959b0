"""Rows of several sizes, each evaluated at its own: against the same rows one by one."""

import torch

from diffcore import random
from diffcore.batching import by_size
from diffcore.denoisers import PREVIOUS, Counted
from diffcore.domains import Grid, Nodes, Pairs, Points
from diffcore.processes import Categorical, Gaussian, uniform_kernel
from diffcore.samplers import prior
from diffcore.schedules import FlowTime
from diffcore.state import State

PROCESSES = {
    "pos": Gaussian(FlowTime(), Points()),
    "atom": Categorical(FlowTime(), Nodes(), uniform_kernel(3)),
    "bond": Categorical(FlowTime(), Pairs(), uniform_kernel(2)),
    "pix": Gaussian(FlowTime(), Grid((2,))),
}
SIZES = torch.tensor([5, 2, 4, 2])


def denoiser(state: State, times, context) -> State:
    """Something that depends on the size, the times, the context and the last prediction."""
    n = state.mask.shape[1]
    assert state.mask.all(), "no padding"
    shift = (times["pos"] + context["offset"]).reshape(-1, 1, 1) + state["cond"].unsqueeze(1)
    previous = context[PREVIOUS]
    pos = state["pos"] * n + shift + (previous["pos"] if previous else 0)
    atom = torch.nn.functional.one_hot(state["atom"], 3).float().softmax(-1)
    bond = torch.nn.functional.one_hot(state["bond"], 2).float().softmax(-1)
    fields = {
        "pos": pos,
        "atom": atom,
        "bond": bond,
        "pix": state["pix"] + pos.sum((1, 2))[:, None],
    }
    return State(fields, state.mask)


def batch() -> tuple[State, dict[str, torch.Tensor], dict[str, object]]:
    mask = torch.arange(6) < SIZES.unsqueeze(1)
    state = prior(PROCESSES, mask, random.row_generators(0, range(4)))
    state = state.replace(cond=torch.arange(4.0).unsqueeze(1))
    times = {name: torch.linspace(0.2, 0.8, 4) for name in PROCESSES}
    return state, times, {"offset": torch.arange(4.0), "shared": 3, PREVIOUS: None}


def test_every_row_is_what_it_would_be_alone() -> None:
    state, times, context = batch()
    counted = Counted(denoiser)
    together = by_size(PROCESSES, lambda size: counted)
    first = together(state, times, context)
    assert (counted.calls, counted.evaluations) == (3, 4)  # three sizes, four rows
    assert set(first) == set(PROCESSES) and torch.equal(first.mask, state.mask)
    second = together(state, times, {**context, PREVIOUS: first})
    for row, n in enumerate(SIZES.tolist()):
        one = torch.tensor([row])
        bare = State(
            {
                "pos": state["pos"][one, :n],
                "atom": state["atom"][one, :n],
                "bond": state["bond"][one, :n, :n],
                "pix": state["pix"][one],
                "cond": state["cond"][one],
            },
            state.mask[one, :n],
        )
        at = {name: t[one] for name, t in times.items()}
        told = {"offset": torch.tensor([float(row)]), PREVIOUS: None}
        alone = denoiser(bare, at, told)
        again = denoiser(bare, at, {**told, PREVIOUS: alone})
        for mine, theirs in ((first, alone), (second, again)):
            assert torch.equal(mine["pos"][row, :n], theirs["pos"][0])
            assert torch.equal(mine["bond"][row, :n, :n], theirs["bond"][0])
            assert torch.equal(mine["pix"][row], theirs["pix"][0])
            assert not mine["pos"][row, n:].any() and not mine["bond"][row, n:].any()


def test_every_size_has_a_denoiser_of_its_own_and_is_asked_for_once() -> None:
    asked: list[int] = []

    def make(size: int):
        asked.append(size)
        return denoiser

    together = by_size(PROCESSES, make)
    for _ in range(2):
        together(*batch())
    assert asked == [2, 4, 5]
