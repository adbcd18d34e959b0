"""What the searches reach on molecules: the command `designloom bench rewards`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffcore.errors import ConfigError
from diffcore.files import whole

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.generate import MoleculeGenerator
    from molgen.steer.optimise import Optimised

SEARCHES = ("feynman_kac", "tree_search", "evolution")
YARDSTICK = "best_of_n"
PARTS = (0.25, 0.5, 1.0)
"""Shares of the budget at which the best reward is read."""

TOP = 10
"""Best molecules of a run whose diversity is measured."""

Values = NDArray[np.float64]


@dataclass
class Climb:
    """What one search reached for one reward, seed by seed."""

    best: list[list[float]] = field(default_factory=list)
    """Best reward at every part of the budget, [seeds, parts]."""
    valid: list[float] = field(default_factory=list)
    diversity: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)


@dataclass
class Findings:
    """Everything that was measured."""

    budgets: tuple[int, ...]
    trajectories: int
    climbs: dict[tuple[str, str], Climb]
    unsteered: dict[str, list[float]]
    seeds: int = 0

    def spread(self, reward: str) -> float:
        """Standard deviation of the reward over unsteered valid molecules."""
        return float(np.nanstd(self.unsteered[reward], ddof=1))

    def best(self, search: str, reward: str) -> Values:
        """[seeds, parts], of the seeds that are complete."""
        return np.array(self.climbs[search, reward].best[: self.seeds])


def bench_rewards(
    rewards: Sequence[str] = ("qed", "sa", "similarity:CC(=O)NCCO"),
    trajectories: int = 96,
    seeds: int = 5,
    seed: int = 0,
    model: str = "qm9",
    steps: int | None = None,
    threads: int = 1,
    figure: Path | None = None,
    force: bool = False,
) -> str:
    """Compare searches for molecules of high reward with best-of-N, at equal network evaluations.

    Best-of-N are independent molecules. Feynman-Kac resampling is run anew for every budget, the
    other searches once: what they have at a part of the budget is their best so far. The spread is
    the standard deviation of the reward over all valid molecules of best-of-N; gains are
    differences of mean best rewards in spreads. Ctrl-C shows the seeds that are complete.

    Args:
        rewards: Names of rewards, such as qed or similarity:SMILES.
        trajectories: Largest budget, in whole trajectories of the model's steps.
        seeds: Repeats of every search.
        seed: The first of them.
        model: Name of a shipped model, or path of a model file.
        steps: Steps of a trajectory; the model's own if left out.
        threads: Threads of the tensor library.
        figure: .png file for the figure.
        force: Overwrite `figure`.

    Returns:
        The tables.

    Raises:
        ConfigError: An option is outside what is allowed.
        OutputError: `figure` exists without `force`, or cannot be written.
    """
    for name, value in (("seeds", seeds), ("threads", threads)):
        if value < 1:
            raise ConfigError(f"--{name}: expected at least 1, got {value}")
    if trajectories < 8:
        raise ConfigError(f"--trajectories: expected at least 8, got {trajectories}")
    if seed < 0:
        raise ConfigError(f"--seed: expected 0 or more, got {seed}")
    if figure is not None:
        _check_target(figure, force)

    import torch

    from molgen.generate import MoleculeGenerator
    from molgen.steer.rewards import reward_of

    functions = {name: reward_of(name) for name in rewards}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        generator = MoleculeGenerator.from_pretrained(model)
        found = measure(generator, functions, trajectories, range(seed, seed + seeds), steps)
    finally:
        torch.set_num_threads(before)
    lines = list(tables(found))
    if figure is not None:
        _draw(found, figure)
        lines.append(f"\nwritten: {figure}")
    return "\n".join(lines)


Rewards = Mapping[str, Callable[["Chem.Mol"], float]]


def measure(
    generator: MoleculeGenerator,
    rewards: Rewards,
    trajectories: int,
    seeds: range,
    steps: int | None = None,
) -> Findings:
    """Run all of it, seed by seed, under a progress bar."""
    from tqdm import tqdm

    one = generator.sampling.changed(steps, None, None).steps
    parts = [max(1, round(part * trajectories)) for part in PARTS]
    names = [(s, r) for r in rewards for s in (YARDSTICK, *SEARCHES)]
    budgets = tuple(one * n for n in parts)
    climbs = {name: Climb() for name in names}
    found = Findings(budgets, trajectories, climbs, {r: [] for r in rewards})
    with tqdm(total=len(seeds) * (1 + len(SEARCHES) * len(rewards)), desc="search") as bar:
        try:
            for seed in seeds:
                _independent(found, generator, rewards, parts, seed, steps)
                bar.update()
                for reward, search in ((r, s) for r in rewards for s in SEARCHES):
                    _searched(found, generator, reward, rewards[reward], search, seed, steps)
                    bar.update()
                found.seeds += 1
        except KeyboardInterrupt:
            if not found.seeds:
                raise
    return found


def _independent(
    found: Findings,
    generator: MoleculeGenerator,
    rewards: Rewards,
    parts: Sequence[int],
    seed: int,
    steps: int | None,
) -> None:
    """Best-of-N: the same molecules for all rewards."""
    from molgen.evaluate.prepared import Prepared
    from molgen.evaluate.validity import strict_valid

    mols = list(generator.stream(parts[-1], seed=seed, steps=steps))
    good = [strict_valid(Prepared(mol)) for mol in mols]
    for name, reward in rewards.items():
        values = np.array(
            [reward(m) if ok else np.nan for m, ok in zip(mols, good, strict=True)], dtype=float
        )
        found.unsteered[name] += values[np.isfinite(values)].tolist()
        climb = found.climbs[YARDSTICK, name]
        climb.best.append([_highest(values[:n]) for n in parts])
        climb.valid.append(float(np.mean(good)))
        order = [i for i in np.argsort(-values, kind="stable") if np.isfinite(values[i])]
        climb.diversity.append(diversity([mols[i] for i in order]))
        climb.calls.append(int(np.sum(good)))


def _highest(values: Values) -> float:
    known = values[np.isfinite(values)]
    return float(known.max()) if len(known) else np.nan


def _searched(
    found: Findings,
    generator: MoleculeGenerator,
    name: str,
    reward: Callable[[Chem.Mol], float],
    search: str,
    seed: int,
    steps: int | None,
) -> None:
    def climbed(budget: int) -> Optimised:
        return generator.optimise(
            1 if budget < found.budgets[-1] else min(TOP, found.trajectories),
            reward,
            budget=budget,
            search=search,
            seed=seed,
            steps=steps,
            progress=False,
        )

    whole = climbed(found.budgets[-1])
    if search == "feynman_kac":
        best = [_reached(climbed(b), b) for b in found.budgets[:-1]]
        best.append(_reached(whole, found.budgets[-1]))
    else:
        best = [_reached(whole, b) for b in found.budgets]
    climb = found.climbs[search, name]
    climb.best.append(best)
    climb.valid.append(1 - whole.dropped / max(1, whole.finished))
    climb.diversity.append(diversity(whole.mols))
    climb.calls.append(whole.reward_calls)


def _reached(run: Optimised, budget: int) -> float:
    """Best reward of the finished molecules within a part of the budget."""
    known = [best for spent, best in run.history if spent <= budget and best > -np.inf]
    return known[-1] if known else np.nan


def diversity(mols: Sequence[Chem.Mol]) -> float:
    """One minus the mean Tanimoto similarity of pairs of the first ten different graphs."""
    from rdkit import Chem, DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    bare = {Chem.MolToSmiles(m): m for m in (Chem.RemoveHs(mol) for mol in mols)}
    make = rdFingerprintGenerator.GetMorganGenerator(radius=2)
    prints = [make.GetCountFingerprint(m) for m in list(bare.values())[:TOP]]
    pairs = [DataStructs.TanimotoSimilarity(a, b) for i, a in enumerate(prints) for b in prints[:i]]
    return 1 - float(np.mean(pairs)) if pairs else np.nan


# --------------------------------------------------------------------------------------- as text


def tables(found: Findings) -> Iterator[str]:
    """One table in Markdown."""
    budgets = " | ".join(f"{b:,}" for b in found.budgets)
    yield (
        f"Best reward after so many network evaluations, mean of {found.seeds} seeds with its "
        "standard error\n"
    )
    yield (
        f"| reward (unsteered) | search | {budgets} | gain over best-of-N, in spreads | valid | "
        "diversity of the ten best | reward calls |"
    )
    yield "| --- " * (len(found.budgets) + 6) + "|"
    for reward in found.unsteered:
        mean, spread = float(np.mean(found.unsteered[reward])), found.spread(reward)
        for search in (YARDSTICK, *SEARCHES):
            best = found.best(search, reward)
            cells = [f"{m:.3f} +- {e:.3f}" for m, e in zip(best.mean(0), _error(best), strict=True)]
            climb = found.climbs[search, reward]
            gains = (best.mean(0) - found.best(YARDSTICK, reward).mean(0)) / spread
            gain = "" if search == YARDSTICK else " / ".join(f"{g:+.2f}" for g in gains)
            n = found.seeds
            yield (
                f"| {reward} ({mean:.3f} +- {spread:.3f}) | `{search}` | {' | '.join(cells)} | "
                f"{gain} | {100 * np.mean(climb.valid[:n]):.0f} % | "
                f"{_known_mean(climb.diversity[:n]):.2f} | {np.mean(climb.calls[:n]):.0f} |"
            )


def _known_mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else np.nan


def _error(best: Values) -> Values:
    if len(best) < 2:
        return np.zeros(best.shape[1])
    return np.asarray(best.std(0, ddof=1) / len(best) ** 0.5)


# ---------------------------------------------------------------------------------- as a figure


def _check_target(figure: Path, force: bool) -> None:
    from pipelines.report import check_output

    if figure.suffix.lower() != ".png":
        raise ConfigError(f"cannot write {figure.name!r}: expected a file name ending in .png")
    check_output(figure, force)


def _draw(found: Findings, path: Path) -> None:
    """One panel a reward, written beside its place and moved there."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * len(found.unsteered), 4.0), layout="constrained")
    axes: Any = figure.subplots(1, len(found.unsteered), squeeze=False)
    for axis, reward in zip(axes[0], found.unsteered, strict=True):
        _panel(axis, found, reward)
    with whole(path) as beside:
        figure.savefig(beside, dpi=110)


def _panel(axis: Any, found: Findings, reward: str) -> None:
    from pipelines.steering_figure import COLOURS, NAMES

    for search in (YARDSTICK, *SEARCHES):
        best, climb = found.best(search, reward), found.climbs[search, reward]
        valid = 100 * float(np.mean(climb.valid[: found.seeds]))
        axis.errorbar(
            found.budgets,
            best.mean(0),
            yerr=_error(best),
            fmt="o-",
            capsize=2,
            color=COLOURS[search],
            label=f"{NAMES[search]} ({valid:.0f} % valid)",
        )
    mean, spread = float(np.mean(found.unsteered[reward])), found.spread(reward)
    axis.axhspan(mean - spread, mean + spread, color="#dddddd", label="unsteered, +-1 spread")
    axis.set(xlabel="network evaluations", ylabel="best reward", title=reward)
    axis.set_xscale("log")
    axis.set_xticks(found.budgets, [f"{b:,}" for b in found.budgets])
    axis.set_xticks([], minor=True)
    axis.legend(fontsize=7)
