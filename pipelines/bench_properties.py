"""Steering towards properties, judged by a predictor that the generator has never met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from molgen.datasets.table import MoleculeTable
    from molgen.generate import MoleculeGenerator
    from molgen.properties import PropertyPredictor

MEV = ("gap", "homo", "lumo")
"""Properties that are shown in meV."""


@dataclass(frozen=True)
class Way:
    """One way of steering; see `MoleculeGenerator.sample`."""

    name: str
    strength: float
    candidates: int


def ways(strengths: Sequence[float], candidates: Sequence[int]) -> list[Way]:
    """The gradient in several strengths (0: the condition alone), then the choice among several.

    Raises:
        ConfigError: a negative strength, or fewer than 2 candidates.
    """
    if any(not 0 <= strength < float("inf") for strength in strengths):
        raise ConfigError(f"--strengths: expected 0 or more, got {list(strengths)}")
    if any(count < 2 for count in candidates):
        raise ConfigError(f"--candidates: expected 2 or more each, got {list(candidates)}")
    names = {0.0: "condition"}
    return [
        *(Way(names.get(s, f"+ gradient, strength {s:g}"), s, 1) for s in strengths),
        *(Way(f"+ gradient, strength 1, {n} candidates", 1.0, n) for n in candidates),
    ]


def bench_properties(
    number: int = 50,
    properties: Sequence[str] = ("alpha", "gap", "homo", "lumo", "mu", "Cv"),
    strengths: Sequence[float] = (0.0, 1.0),
    candidates: Sequence[int] = (4, 8),
    data: Path | None = None,
    model: str = "qm9",
    judge: str = "qm9-judge",
    seed: int = 0,
    threads: int = 1,
) -> str:
    """Ask for properties of test molecules, and let an independent predictor judge the answers.

    After the protocol of EDM (Hoogeboom et al. 2022, section 5.2): value and number of atoms are
    those of a molecule that the generator has not seen, and the mean absolute error is taken
    between the value asked for and the judge's prediction for the molecule that was made. The judge
    was trained on the half of QM9 whose properties the generator and its predictor never saw. The
    rows: values of other molecules (shuffled), the median of molecules of that size, ours, and the
    judge's error on the test molecules themselves. Molecules that are not valid count too, as in
    the paper; shown are the share of valid ones and their diversity: one minus the mean Tanimoto
    similarity of pairs of ten, whose targets differ.

    Args:
        number: Molecules asked for, for each property and way.
        properties: Which properties.
        strengths: Of the gradient; 0 is the condition alone.
        candidates: Molecules made for each one handed out, at strength 1, chosen by the predictor.
        data: Converted data file; by default QM9 from the cache.
        model: Generator, by name or path.
        judge: Predictor that judges, by name or path.
        seed: Of the choice of test molecules and of the molecules made.
        threads: Threads of the tensor library.

    Returns:
        A table of mean absolute errors.

    Raises:
        ConfigError: An unknown property, a number below 2, or a way that cannot be.
    """
    import torch

    from molgen.datasets import qm9
    from molgen.datasets.table import MoleculeTable
    from molgen.generate import MoleculeGenerator
    from molgen.properties import PropertyPredictor

    if number < 2:
        raise ConfigError(f"--number: expected at least 2, got {number}")
    asked = ways(strengths, candidates)
    torch.set_num_threads(threads)
    generator = MoleculeGenerator.from_pretrained(model)
    judging = PropertyPredictor.from_pretrained(judge)
    for name in properties:
        if name not in generator.task.conditions or name not in judging.names:
            known = ", ".join(generator.task.conditions)
            raise ConfigError(f"--properties: unknown property {name!r}; the model knows {known}")
    table = MoleculeTable.load(data) if data else qm9.load()
    rows = ["shuffled", "by size", *(way.name for way in asked), "judge on test molecules"]
    columns = {n: _column(n, number, asked, table, generator, judging, seed) for n in properties}
    lines = ["| | " + " | ".join(f"{n} ({_unit(n, table)})" for n in properties) + " |"]
    lines.append("| --- |" + " --- |" * len(properties))
    for k, row in enumerate(rows):
        lines.append(f"| {row} | " + " | ".join(columns[n][k] for n in properties) + " |")
    return "\n".join(lines)


def _unit(name: str, table: MoleculeTable) -> str:
    return "meV" if name in MEV else str(table.card["properties"][name])


def _column(
    name: str,
    number: int,
    tried: Sequence[Way],
    table: MoleculeTable,
    generator: MoleculeGenerator,
    judge: PropertyPredictor,
    seed: int,
) -> list[str]:
    """Errors of one property, as text, in the order of the rows."""
    from diffcore import random

    values = table.properties[:, table.property_names.index(name)]
    test, train = table.split_indices("test"), table.split_indices("train")
    rng = random.generator(seed, 1)
    chosen = test[_permutation(len(test), rng)[:number]]
    asked = values[chosen]
    shuffled = (asked - asked.roll(1)).abs().mean()
    sizes = table.n_atoms[train]
    medians = [float(values[train[sizes == n]].median()) for n in table.n_atoms[chosen]]
    by_size = (asked - asked.new_tensor(medians)).abs().mean()
    scale = 1e3 if name in MEV else 1.0
    cells = [_shown(float(shuffled) * scale), _shown(float(by_size) * scale)]
    for way in tried:
        error, valid, spread = _asked(
            name, asked, table.n_atoms[chosen], way, generator, judge, seed
        )
        cells.append(f"{_shown(error * scale)} ({100 * valid:.0f} %, {spread:.2f})")
    return [*cells, _shown(_own_error(name, table, chosen, judge) * scale)]


def _permutation(n: int, rng: torch.Generator) -> torch.Tensor:
    import torch

    return torch.randperm(n, generator=rng)


def _asked(
    name: str,
    asked: torch.Tensor,
    sizes: torch.Tensor,
    way: Way,
    generator: MoleculeGenerator,
    judge: PropertyPredictor,
    seed: int,
) -> tuple[float, float, float]:
    """Mean absolute error in the data's unit, share of strictly valid molecules, diversity."""
    import numpy as np
    from tqdm import tqdm

    from molgen.evaluate import evaluate
    from molgen.targets import UNITS
    from pipelines.bench_rewards import diversity

    factor = next(iter(UNITS[name].values()))
    mols: list[Any] = []
    for k, (value, size) in enumerate(
        zip(tqdm(asked.tolist(), desc=f"{name}, {way.name}"), sizes.tolist(), strict=True)
    ):
        mols += generator.sample(
            1,
            seed=seed + k,
            n_atoms=size,
            property={name: value / factor},
            strength=way.strength,
            candidates=way.candidates,
            progress=False,
        )
    found = judge.predict(mols)[name].to_numpy()
    error = float(np.nanmean(np.abs(found - asked.numpy())))
    result = evaluate(mols, progress=False)
    good = [mol for mol, valid in zip(mols, result.table["strict_valid"], strict=True) if valid]
    return error, result.value("strict_valid") / 100, diversity(good)


def _own_error(
    name: str, table: MoleculeTable, chosen: torch.Tensor, judge: PropertyPredictor
) -> float:
    """The judge's mean absolute error on the molecules themselves."""
    from molgen.chem import mol_from_arrays

    mols = []
    for i in chosen.tolist():
        one = {k: v[0] for k, v in table.batch([i]).items()}
        mols.append(
            mol_from_arrays(
                one["atomic_number"].numpy(),
                one["charge"].numpy(),
                one["bond"].numpy(),
                one["pos"].numpy(),
            )
        )
    values = table.properties[chosen, table.property_names.index(name)].numpy()
    return float(abs(judge.predict(mols)[name].to_numpy() - values).mean())


def _shown(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}"
