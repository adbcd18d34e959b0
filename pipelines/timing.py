"""What molecules and network evaluations cost: the measurements behind `designloom bench`.

CPU time of the process is the main clock: on a busy machine wall time mostly tells about the other
programs. A plain matrix product runs in turns with the network, so that the machine's speed cancels
in their ratio.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from rdkit import Chem
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from diffcore import random
from diffcore.denoisers import PREVIOUS, Counted, Denoiser
from diffcore.samplers import prior
from molgen.generate import MoleculeGenerator
from molgen.models.eqgat import PAPER
from molgen.tasks.molecules import MoleculeDenoiser, MoleculeTask

DENSE = 1024
"""Rows and columns of the plain matrix product."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "dense layers": ("linear", "addmm", "mm"),
    "products over neighbours": ("matmul", "bmm"),
    "sums, products, copies": ("add", "mul", "sub", "div", "cat", "copy_", "clone", "sum", "mean"),
    "SiLU, exp, softmax, root": ("silu", "exp", "softmax", "_softmax", "sqrt", "rsqrt", "pow"),
}
"""Operators by kind; what is in none of them counts as ``other``."""

OTHER = "other"

PUBLISHED = 144.0
"""CPU milliseconds a molecule of 18 atoms of one evaluation of EQGAT-diff's own implementation.

Its published size, batches of 32, one thread; taken on another machine."""


class Stopwatch:
    """Process CPU time and wall time in seconds, summed over its ``with`` blocks.

    Attributes:
        cpu: CPU time of all threads of the process, the kernel's work for it included.
        wall: time on the clock.
        laps: number of blocks.
    """

    def __init__(self) -> None:
        self.cpu, self.wall, self.laps = 0.0, 0.0, 0
        self._start = (0.0, 0.0)

    def __enter__(self) -> Stopwatch:
        self._start = (time.process_time(), time.perf_counter())
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu += time.process_time() - self._start[0]
        self.wall += time.perf_counter() - self._start[1]
        self.laps += 1

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that is timed."""

        def timed(*args: Any) -> Any:
            with self:
                return function(*args)

        return timed


@dataclass(frozen=True)
class GenerationCost:
    """What generating molecules took.

    Attributes:
        mols: the molecules.
        total: time of everything, the watch stopped once.
        network: time in the network, one lap a call.
        drawing: time in network and sampler, one lap a batch.
        rows: rows that went through the network, those that only fill up a batch included.
    """

    mols: list[Chem.Mol]
    total: Stopwatch
    network: Stopwatch
    drawing: Stopwatch
    rows: int

    @property
    def evaluations(self) -> float:
        """Network evaluations that a molecule took."""
        return self.network.laps / self.drawing.laps

    @property
    def padding(self) -> float:
        """Rows computed for each row that became a molecule."""
        return self.rows / (self.evaluations * len(self.mols))

    def parts(self, clock: str) -> dict[str, float]:
        """Seconds on the clock ``cpu`` or ``wall`` by part."""
        network, drawing, total = (
            getattr(watch, clock) for watch in (self.network, self.drawing, self.total)
        )
        return {"network": network, "sampler": drawing - network, "RDKit": total - drawing}


def time_generation(
    generator: MoleculeGenerator,
    number: int,
    seed: int,
    advance: Callable[[float], object] | None = None,
) -> GenerationCost:
    """Generate with the model's own settings, after a warm-up of one molecule.

    ``advance`` is told the work done since its last call, in molecules.
    """
    list(generator.stream(1, seed=seed, steps=2))
    network, drawing, total = Stopwatch(), Stopwatch(), Stopwatch()
    counted = Counted(network.around(generator.denoiser))
    timed = replace(
        generator, denoiser=counted, evaluations=0, drawing=drawing.around(generator.drawing)
    )
    with total:
        mols = list(timed.stream(number, seed=seed, progress=advance))
    return GenerationCost(mols, total, network, drawing, counted.evaluations)


@dataclass(frozen=True)
class Case:
    """A network and the batch it is evaluated on.

    Attributes:
        name: what the table calls it.
        task: fields and size of the network.
        denoiser: the network in the x0 convention.
        parameters: number of weights.
        rows: molecules of the batch.
        atoms: atoms of every molecule.
        published: what the published implementation takes, ms a molecule, where that is known.
    """

    name: str
    task: MoleculeTask
    denoiser: Denoiser
    parameters: int
    rows: int
    atoms: int
    published: float | None = None

    def call(self) -> Callable[[], object]:
        """One evaluation on a batch of noise at half time, with a last prediction at hand."""
        processes = self.task.processes()
        mask = torch.ones(self.rows, self.atoms, dtype=torch.bool)
        state = prior(processes, mask, random.row_generators(0, range(self.rows)))
        times = {name: torch.full((self.rows,), 0.5) for name in processes}
        context = {PREVIOUS: self.denoiser(state, times, {})}
        return lambda: self.denoiser(state, times, context)


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def cases(generator: MoleculeGenerator) -> list[Case]:
    """The model itself, and the paper's size with fresh weights on the same fields."""
    own = generator.task
    count = _parameters(own.build())
    paper = replace(own, network=PAPER)
    network = paper.build().requires_grad_(False).eval()
    fresh = MoleculeDenoiser(network, paper.processes(), paper.predicts)
    return [
        Case("this model", own, generator.denoiser, count, rows=64, atoms=18),
        Case("the paper's size", paper, fresh, _parameters(network), 32, 18, PUBLISHED),
    ]


@dataclass(frozen=True)
class NetworkCost:
    """What one evaluation of a batch took, repeat by repeat.

    Attributes:
        case: network and batch.
        flops: floating-point operations of the matrix products of one evaluation of the batch.
        network: CPU seconds of an evaluation of the batch.
        dense: CPU seconds of plain matrix products with as many operations.
        shares: part of the CPU time by kind of operator.
    """

    case: Case
    flops: int
    network: Sequence[float]
    dense: Sequence[float]
    shares: Mapping[str, float]

    @property
    def ratio(self) -> float:
        """Network over plain products: the median over the repeats."""
        return median(a / b for a, b in zip(self.network, self.dense, strict=True))

    def milliseconds(self, which: str) -> float:
        """Median CPU time a molecule of ``network`` or ``dense``, ms."""
        seconds: Sequence[float] = getattr(self, which)
        return 1e3 * median(seconds) / self.case.rows


def time_network(
    case: Case, repeats: int, advance: Callable[[], object] = lambda: None
) -> NetworkCost:
    """Evaluate and multiply in turns; ``advance`` is called ``repeats + 2`` times."""
    with torch.inference_mode():
        call = case.call()
        with FlopCounterMode(display=False) as counter:
            call()
        flops = counter.get_total_flops()
        advance()
        left, right = torch.ones(2, DENSE, DENSE).unbind()
        each = 2 * DENSE**3
        products = max(1, round(flops / each))
        torch.mm(left, right)
        network, dense = [], []
        for _ in range(repeats):
            with Stopwatch() as watch:
                call()
            network.append(watch.cpu)
            with Stopwatch() as watch:
                for _ in range(products):
                    torch.mm(left, right)
            dense.append(watch.cpu * flops / (products * each))
            advance()
        shares = _shares(call)
        advance()
    return NetworkCost(case, flops, network, dense, shares)


class _Clocked(TorchDispatchMode):
    """Sums the CPU time of every operator by its name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds: dict[str, float] = defaultdict(float)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        with Stopwatch() as watch:
            out = func(*args, **(kwargs or {}))
        self.seconds[func.overloadpacket.__name__] += watch.cpu
        return out


def _shares(call: Callable[[], object]) -> dict[str, float]:
    """Part of the CPU time of the operators of a call, by kind."""
    with _Clocked() as clocked:
        call()
    kinds = {name: kind for kind, names in GROUPS.items() for name in names}
    seconds = dict.fromkeys([*GROUPS, OTHER], 0.0)
    for name, spent in clocked.seconds.items():
        seconds[kinds.get(name, OTHER)] += spent
    total = sum(seconds.values())
    return {kind: spent / total for kind, spent in seconds.items()}
