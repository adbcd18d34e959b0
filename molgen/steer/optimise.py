"""Molecules of high reward: a search over the trajectories of a generator."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from diffcore import random
from diffcore.batching import by_size
from diffcore.chain import Chain
from diffcore.denoisers import Denoiser
from diffcore.errors import ConfigError, YieldError
from diffcore.random import Rng
from diffcore.samplers import solver
from diffcore.schedules import power_grid
from diffcore.search import Search as Going
from diffcore.search import SearchResult
from diffcore.searches import search as search_named
from diffcore.state import State
from diffcore.tree import Widening
from molgen.progress import molecule_bar
from molgen.steer.draw import Plan
from molgen.steer.properties import with_predictor
from molgen.steer.request import Request
from molgen.steer.rewards import MoleculeReward, StateReward, reward_of
from molgen.targets import draw_condition

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.generate import MoleculeGenerator
    from molgen.sampling import Sampling

DEFAULT_SEARCH = "evolution"

TUNED: Mapping[str, Mapping[str, Any]] = {
    "best_of_n": {"batch": 32},
    "feynman_kac": {"particles": 256, "window": (0.35, 0.7)},
    "tree_sampling": {"window": (0.4, 0.8), "widening": Widening(2.0, 0.5)},
    "tree_search": {"window": (0.4, 0.8), "widening": Widening(2.0, 0.5), "exploration": 0.3},
    "evolution": {"window": (0.6, 0.8), "elite": 4},
}
"""Options of the searches that suit molecules. Before three quarters of the steps are left nothing
is decided, and predictions are no molecules; when a third is left, all branches end alike."""

TEMPLATES = 256
"""Sizes and conditions that a trajectory may start with, in the proportions of the request."""

TRAJECTORIES = 64
"""Budget in whole trajectories where none is given, or twice as many as molecules."""


@dataclass(frozen=True)
class Search:
    """What is climbed, and how; see `MoleculeGenerator.optimise`."""

    reward: str | MoleculeReward
    budget: float | None = None
    search: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    stop: Callable[[], bool] | None = None


@dataclass(frozen=True)
class Optimised:
    """What a search has found.

    Attributes:
        mols: valid molecules that are what was asked for, no two of one graph, the best first; each
            has its reward as a property.
        rewards: theirs.
        search: name of the search.
        evaluations: network evaluations; ``calls`` of the network with several rows each.
        calls: calls of the network.
        finished: molecules that were finished, those without a reward included.
        scored: states that were looked at, predictions on the way included.
        reward_calls: calls of the reward: of those states that were valid molecules.
        dropped: finished molecules without a reward.
        failed: why states had no reward, on the way or finished, counted.
        error: what the reward said when it raised first; empty if it never did.
        history: (network evaluations, best reward so far) whenever molecules were finished.
        seconds: wall time.
        interrupted: stopped before the budget was spent.
    """

    mols: list[Chem.Mol] = field(repr=False)
    rewards: list[float]
    search: str
    evaluations: int
    calls: int
    finished: int
    scored: int
    reward_calls: int
    dropped: int
    failed: dict[str, int]
    error: str
    history: tuple[tuple[int, float], ...] = field(repr=False)
    seconds: float
    interrupted: bool

    def all_of(self, n: int) -> list[Chem.Mol]:
        """The molecules, if there are ``n``.

        Raises:
            YieldError: there are fewer; its ``delivery`` is this.
        """
        if len(self.mols) < n:
            error = YieldError(f"{len(self.mols)} of {n} molecules with a reward; {self}")
            error.delivery = self
            raise error
        return self.mols

    def __str__(self) -> str:
        """One line."""
        best = f"best reward {self.rewards[0]:.4g}" if self.rewards else "no reward"
        text = (
            f"{self.search}: {best} after {self.evaluations} network evaluations; "
            f"{self.finished} molecules finished, {self.dropped} dropped; reward called "
            f"{self.reward_calls} times"
        )
        text += f"; the reward failed first with {self.error}" if self.error else ""
        return f"{text}; stopped early" if self.interrupted else text


def optimise(
    generator: MoleculeGenerator,
    n: int,
    how: Search,
    seed: int,
    settings: Sampling,
    request: Request,
    progress: bool | None = None,
) -> Optimised:
    """Search for molecules of high reward; see `MoleculeGenerator.optimise`.

    Raises:
        ConfigError: an option is outside what is allowed.
    """
    began = time.monotonic()
    judge = StateReward(generator.task, request, reward_of(how.reward))
    if n < 1:
        raise ConfigError(f"n: expected at least 1 molecule, got {n}")
    name, spend = how.search or DEFAULT_SEARCH, _checked_budget(how.budget, n, settings.steps)
    make = search_named(name)
    steps = chain(generator, settings, request, random.generator(seed, 1))
    chosen = {**TUNED.get(name, {}), **how.options}
    try:
        going = make(steps, judge, random.generator(seed), budget=spend, **chosen)
    except TypeError as error:
        raise ConfigError(f"search {name}: {error}") from None
    result, interrupted = _driven(going, spend, how.stop, progress, settings.steps)
    generator.evaluations += result.evaluations
    mols, rewards = _distinct(result, judge, n, generator.name, seed)
    return Optimised(
        mols,
        rewards,
        name,
        result.evaluations,
        result.calls,
        len(result.rewards) + result.dropped if result.complete else 0,
        result.scored,
        judge.calls,
        result.dropped,
        dict(judge.failed.most_common()),
        judge.error,
        result.history,
        time.monotonic() - began,
        interrupted,
    )


def _checked_budget(budget: float | None, n: int, steps: int) -> float:
    if budget is None:
        return float(steps * max(TRAJECTORIES, 2 * n))
    if isinstance(budget, bool) or not isinstance(budget, int | float):
        raise ConfigError(f"budget: expected a number of network evaluations, got {budget!r}")
    if not budget >= n * steps:
        raise ConfigError(
            f"budget: expected at least {n * steps} network evaluations ({n} molecules of {steps} "
            f"steps), got {budget}"
        )
    return budget


def _driven(
    going: Going,
    budget: float,
    stop: Callable[[], bool] | None,
    progress: bool | None,
    steps: int,
) -> tuple[SearchResult, bool]:
    """Run a search under a bar; Ctrl-C keeps the best so far, if there is any."""
    done, interrupted = 0, False
    with molecule_bar(int(budget // steps), show=progress) as bar:
        try:
            for evaluations, best in going:
                bar.update((evaluations - done) / steps)
                done = evaluations
                if best > -math.inf:
                    bar.set_postfix_str(f"best {best:.3g}", refresh=False)
                if stop is not None and stop():
                    interrupted = True
                    break
        except KeyboardInterrupt:
            interrupted = True
            if not going.ledger.kept:
                raise
    return going.result(), interrupted


def _distinct(
    result: SearchResult, judge: StateReward, n: int, name: str, seed: int
) -> tuple[list[Chem.Mol], list[float]]:
    """The best molecules, one of each graph."""
    from molgen.evaluate.prepared import Prepared
    from molgen.evaluate.validity import smiles

    mols: list[Chem.Mol] = []
    rewards: list[float] = []
    seen: set[str] = set()
    for row, value in enumerate(result.rewards.tolist()):
        if len(mols) == n:
            break
        (arrays,) = judge.task.decode(result.states.take(torch.tensor([row])))
        mol = judge.molecule(arrays, name, seed, len(mols))
        graph = smiles(Prepared(mol))
        if graph in seen:
            continue
        seen.add(graph)
        mol.SetProp("reward", f"{value:.6g}")
        mols.append(mol)
        rewards.append(value)
    return mols, rewards


def chain(
    generator: MoleculeGenerator, settings: Sampling, request: Request, rng: torch.Generator
) -> Chain:
    """The generator's reverse process, steered towards a request, for a search.

    Particles of all sizes of the request are in one state; each size is evaluated by itself.
    """
    task, device = generator.task, generator.device
    processes = task.processes()
    network = generator.denoiser
    steerer = generator.predictor() if request.targets else None
    if steerer is not None:
        network = with_predictor(
            network, processes, steerer, tuple(task.conditions), request.strength
        )

    def plan(size: int) -> Plan:
        return Plan(task, request, size, device)

    def make(size: int) -> Denoiser:
        return plan(size).steer(network, settings.temperature)

    def begin(state: State, rngs: Rng) -> State:
        """Noise that lies near a fragment's places goes to its atoms, size by size."""
        assert not isinstance(rngs, torch.Generator)
        pos, sizes = state["pos"].clone(), state.mask.sum(1)
        for row, n in enumerate(sizes.tolist()):
            one = State({"pos": pos[row : row + 1, :n]}, state.mask[row : row + 1, :n])
            pos[row, :n] = plan(n).start(one, [rngs[row]])["pos"][0]
        return state.replace(pos=pos)

    placed = request.fragment is not None and bool(request.fragment.placed.any())
    return Chain(
        by_size(processes, make),
        processes,
        power_grid(settings.steps, settings.power),
        solver(settings.sampler),
        _templates(generator, request, rng),
        align=True,
        begin=begin if placed else None,
    )


def _templates(generator: MoleculeGenerator, request: Request, rng: torch.Generator) -> State:
    """Masks and conditions in the proportions of the request."""
    task, device = generator.task, generator.device
    sizes = np.array(sorted(request.sizes))
    weights = np.array([request.sizes[n] for n in sizes], dtype=float)
    shares = (np.arange(TEMPLATES) + 0.5) / TEMPLATES
    drawn = sizes[np.searchsorted(weights.cumsum() / weights.sum(), shares)]
    mask = torch.arange(int(drawn.max())) < torch.as_tensor(drawn).unsqueeze(1)
    state = State({}, mask.to(device))
    if not task.conditions:
        return state
    condition = draw_condition(request.targets, task, [rng] * TEMPLATES)
    return state.replace(property=condition.to(device))
