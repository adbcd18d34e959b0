"""Three toy tasks: pixels, tokens with padding, and molecules of positions, atoms and bonds.

Each has finite data with an exact denoiser (`Oracle`), an untrained network that accepts padding,
and a reward.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffcore import random
from diffcore.denoisers import Context, Denoiser, Oracle, as_clean
from diffcore.domains import Grid, Nodes, Pairs, Points
from diffcore.processes import (
    Categorical,
    Gaussian,
    Process,
    absorbing_kernel,
    marginal_kernel,
    uniform_kernel,
)
from diffcore.samplers import Solver, solver
from diffcore.schedules import Cosine, FlowTime
from diffcore.state import State, Times


@dataclass(frozen=True)
class Toy:
    """One task.

    Attributes:
        processes: one per field.
        data: M examples, without padding; the field ``cond`` [M, 1] is a condition.
        templates: masks (with padding) and conditions to start from.
        reward: clean state -> [B].
        method: a solver with randomness.
    """

    processes: Mapping[str, Process]
    data: State
    templates: State
    reward: Callable[[State], Tensor]
    method: Solver

    @property
    def oracle(self) -> Denoiser:
        """The exact denoiser, which knows no condition and no padding."""
        return Oracle(self.processes, self.data)

    @property
    def whole(self) -> State:
        """Templates of the data's own size."""
        return State({"cond": self.data["cond"][:1]}, self.data.mask[:1])

    def network(self) -> "TinyNetwork":
        """An untrained network; the same one every time."""
        return TinyNetwork(self.processes, self.templates.mask.shape[1]).requires_grad_(False)


class TinyNetwork(nn.Module):
    """A perceptron on all fields, times and the condition; its weights are a fixed draw."""

    def __init__(self, processes: Mapping[str, Process], nodes: int, width: int = 16) -> None:
        super().__init__()
        self.processes = processes
        mask = torch.ones(1, nodes, dtype=torch.bool)
        self.shapes = {}
        for name, process in processes.items():
            shape = process.domain.shape(mask)[1:]
            extra = (process.kernel.classes,) if isinstance(process, Categorical) else ()
            self.shapes[name] = (*shape, *extra)
        total = sum(torch.Size(shape).numel() for shape in self.shapes.values())
        self.sizes = [torch.Size(shape).numel() for shape in self.shapes.values()]
        self.begin = nn.Linear(total + len(self.shapes) + 2, width)
        self.end = nn.Linear(width, total)
        rng = random.generator(7)
        for weight in self.parameters():
            weight.data = 0.3 * random.normal(rng, weight.data)

    def forward(self, state: State, times: Times, context: Context) -> State:
        """A denoiser: the clean state."""
        told = state["cond"] if "cond" in state else torch.full_like(state.mask[:, :1], torch.nan)
        parts = [told.nan_to_num(0.0), told.isnan().to(told.dtype)]
        for name, shape in self.shapes.items():
            x = state[name]
            if isinstance(self.processes[name], Categorical):
                x = nn.functional.one_hot(x, shape[-1])
            parts += [x.flatten(1).to(told.dtype), times[name].unsqueeze(1).to(told.dtype)]
        parts = [x.to(self.begin.weight.dtype) for x in parts]
        out = self.end(torch.tanh(self.begin(torch.cat(parts, 1))))
        fields = {}
        for (name, shape), raw in zip(self.shapes.items(), out.split(self.sizes, 1), strict=True):
            process, raw = self.processes[name], raw.reshape(-1, *shape)
            if isinstance(process.domain, Pairs):
                raw = raw + raw.transpose(1, 2)
            fields[name] = as_clean(raw, state[name], times[name], process, state.mask, "x0")
        return State(fields, state.mask)


def _pixels() -> Toy:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pix = torch.from_numpy(images[:12]).float().reshape(-1, 1, 8, 8) / 8 - 1
    cond = torch.from_numpy(labels[:12]).float().unsqueeze(1)
    mask = torch.ones(12, 1, dtype=torch.bool)
    data = State({"pix": pix, "cond": cond}, mask)
    return Toy(
        {"pix": Gaussian(Cosine(), Grid((1, 8, 8)))},
        data,
        State({"cond": cond[:3]}, mask[:3]),
        lambda s: s["pix"].mean((1, 2, 3)),
        solver("ancestral"),
    )


def _tokens() -> Toy:
    rng = random.generator(0)
    tok = torch.randint(3, (9, 5), generator=rng)
    cond = (tok == 0).sum(1, keepdim=True).float()
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1, 3:] = False
    mask[2, 1:] = False
    return Toy(
        {"tok": Categorical(FlowTime(), Nodes(), absorbing_kernel(4))},
        State({"tok": tok, "cond": cond}, torch.ones(9, 5, dtype=torch.bool)),
        State({"cond": torch.tensor([[1.0], [2.0], [torch.nan]])}, mask),
        lambda s: ((s["tok"] == 0) & s.mask).sum(1),
        solver("ancestral"),
    )


def _molecules() -> Toy:
    n, rng = 4, random.generator(1)
    whole = torch.ones(6, n, dtype=torch.bool)
    pos = Points().project(random.normal(rng, torch.zeros(6, n, 3)), whole)
    atom = torch.randint(3, (6, n), generator=rng)
    bond = Pairs().project(torch.randint(3, (6, n, n), generator=rng), whole)
    cond = (atom == 0).sum(1, keepdim=True).float()
    mask = torch.ones(3, n, dtype=torch.bool)
    mask[1, 3:] = False
    mask[2, 2:] = False
    return Toy(
        {
            "pos": Gaussian(FlowTime(), Points()),
            "atom": Categorical(
                FlowTime(), Nodes(), marginal_kernel(torch.tensor([0.4, 0.4, 0.2]))
            ),
            "bond": Categorical(Cosine(), Pairs(), uniform_kernel(3)),
        },
        State({"pos": pos, "atom": atom, "bond": bond, "cond": cond}, whole),
        State({"cond": torch.tensor([[1.0], [torch.nan], [0.0]])}, mask),
        lambda s: ((s["atom"] == 0) & s.mask).sum(1) - s["pos"].square().sum((1, 2)),
        solver("renoise"),
    )


TOYS: Mapping[str, Callable[[], Toy]] = {
    "pixels": _pixels,
    "tokens": _tokens,
    "molecules": _molecules,
}
"""The tasks by name."""
