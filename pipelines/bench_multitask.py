"""One model for every task of tokens, beside the models that were made for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffcore.errors import ConfigError

if TYPE_CHECKING:
    from molgen.datasets.table import MoleculeTable
    from molgen.solvents.forest import Floats
    from molgen.tokens.generator import PropertyReader, TokenGenerator


@dataclass(frozen=True)
class Compared:
    """Mean absolute errors of one task.

    Attributes:
        task: what is asked.
        unit: of the errors.
        several: of the multi-task model.
        single: of the model made for it.
        baseline: of the mean, or of molecules written unasked.
    """

    task: str
    unit: str
    several: float
    single: float
    baseline: float

    @property
    def holds(self) -> bool:
        """Whether the multi-task model is at least as good."""
        return self.several <= self.single


def bench_multitask(
    number: int = 300,
    model: str = "qm9-multitask-smiles",
    reader: str = "qm9-direct-smiles",
    writer: str = "qm9-causal-selfies",
    strength: float = 3.0,
    data: Path | None = None,
    mixtures: Path | None = None,
    seed: int = 0,
    threads: int = 1,
) -> str:
    """Compare one model of all tasks with the models made for one task each.

    Forward: QM9's properties off test molecules. Inverse: molecules for a property, judged by the
    reader. Prediction: liquidus, density and viscosity of mixtures of systems that neither learnt
    from; the other side are forests, and UNIFAC where it applies.

    Args:
        number: Molecules read, and written for each property.
        model: Multi-task model.
        reader: Model that reads properties.
        writer: Model that writes molecules.
        strength: Of the guidance, where a property is asked for.
        data: Converted data file; by default QM9 from the cache.
        mixtures: Folder of the published tables; `shared/data/solvents` beside the checkout by
            default.
        seed: Of the choice and the drawing.
        threads: Threads of the tensor library.

    Returns:
        The table.

    Raises:
        ConfigError: A number below 2.
        DataError: There are no test molecules, or no tables.
    """
    import torch

    from molgen.datasets import qm9
    from molgen.datasets.table import MoleculeTable
    from molgen.solvents.training import default_data
    from molgen.tokens.generator import PropertyReader, TokenGenerator
    from pipelines.tokens import drawn_for_test

    if number < 2:
        raise ConfigError(f"--number: expected at least 2, got {number}")
    torch.set_num_threads(threads)
    one, judge = PropertyReader.from_pretrained(model), PropertyReader.from_pretrained(reader)
    test = drawn_for_test(MoleculeTable.load(data) if data else qm9.load(), number, seed)
    rows = forward(one, judge, test)
    writers = (TokenGenerator.from_pretrained(model), TokenGenerator.from_pretrained(writer))
    rows += inverse(writers, judge, test, seed, strength)
    rows += prediction(one, mixtures or default_data())
    return "\n".join(lines(rows))


def lines(rows: Sequence[Compared]) -> list[str]:
    """The table, and how often the multi-task model holds."""
    made = ["| task | unit | multi-task | single | baseline | as good |", "| --- |" + " --- |" * 5]
    for row in rows:
        yes = "yes" if row.holds else "no"
        made.append(
            f"| {row.task} | {row.unit} | {row.several:.3g} | {row.single:.3g} "
            f"| {row.baseline:.3g} | {yes} |"
        )
    good = sum(row.holds for row in rows)
    return [*made, "", f"at least as good on {good} of {len(rows)} tasks"]


def forward(one: PropertyReader, single: PropertyReader, test: MoleculeTable) -> list[Compared]:
    """Properties read off test molecules."""
    smiles = test.smiles()
    both = one.predict(smiles), single.predict(smiles)
    rows = []
    for name, (mean, _) in single.denoiser.task.properties.items():
        true = test.properties[:, test.property_names.index(name)].numpy()
        errors = [_mean(found[name].to_numpy() - true) for found in both]
        unit = test.card["properties"][name]
        rows.append(Compared(f"read {name}", unit, errors[0], errors[1], _mean(mean - true)))
    return rows


def inverse(
    writers: tuple[TokenGenerator, TokenGenerator],
    judge: PropertyReader,
    test: MoleculeTable,
    seed: int,
    strength: float,
) -> list[Compared]:
    """Molecules written for a property; shares that are no molecule, without any asked for."""
    from pipelines.tokens import ASKED

    number, rows = len(test), []
    extra: list[dict[str, float]] = [{"mixture": 0.0}, {}]
    free = [w.sample(number, seed=seed, properties=e) for w, e in zip(writers, extra, strict=True)]
    bad = [100 * (1 - sum(s is not None for s in made) / number) for made in free]
    rows.append(Compared("write molecules: not valid", "%", bad[0], bad[1], 100.0))
    unasked = judge.predict([s or "" for s in free[1]])
    for name in ASKED:
        true = test.properties[:, test.property_names.index(name)].numpy()
        errors = []
        for w, e in zip(writers, extra, strict=True):
            each = [e | {name: float(value)} for value in true]
            made = w.sample(number, seed=seed + 1, properties=each, strength=strength)
            errors.append(_mean(judge.predict([s or "" for s in made])[name].to_numpy() - true))
        apart = _mean((unasked[name].to_numpy()[None] - true[:, None]).ravel())
        unit = test.card["properties"][name]
        rows.append(Compared(f"write for {name}", unit, errors[0], errors[1], apart))
    return rows


def prediction(one: PropertyReader, folder: Path) -> list[Compared]:
    """Mixtures of systems held out."""
    from molgen.tokens.mixtures import held_out, mixture_rows

    rows = mixture_rows(folder)
    out = set(rows["system"][held_out(rows)])
    return [
        _liquidus(one, folder, out),
        *(_liquid(one, folder, out, q) for q in ("density", "viscosity")),
    ]


def _liquidus(one: PropertyReader, folder: Path, out: set[str]) -> Compared:
    from molgen.solvents import training
    from molgen.solvents.data import LIQUIDUS_FILE, read_liquidus

    table = read_liquidus(folder / LIQUIDUS_FILE)
    test = table["system"].isin(out).to_numpy()
    split = [(np.flatnonzero(~test), np.flatnonzero(test))]
    learned = training.held_out(table, split, 100)
    found = training.combined(table, learned, training.unifac_liquidus(table))[0][test]
    part = table[test]
    pairs = list(zip(part["smiles_1"], part["smiles_2"], strict=True))
    told = asked(one, pairs, part["x_1"].to_numpy(np.float64), None, "liquidus")
    true = part["temperature"].to_numpy(np.float64)
    mean = table["temperature"][~test].mean()
    return Compared(
        "liquidus of mixtures", "K", _mean(told - true), _mean(found - true), _mean(mean - true)
    )


def _liquid(one: PropertyReader, folder: Path, out: set[str], quantity: str) -> Compared:
    from molgen.solvents.data import read_liquid
    from molgen.solvents.liquid_training import held_out_lines, lines_of

    table = read_liquid(folder, quantity)
    held = table["system"].isin(out).to_numpy()
    test = held & (table["smiles"].map(len) == 2).to_numpy()
    data = lines_of(quantity, table)
    found = held_out_lines(data, [(np.flatnonzero(~held), np.flatnonzero(test))])[0][test]
    part = table[test]
    x = part["x"].str[0].to_numpy(np.float64)
    hot = part["temperature"].to_numpy(np.float64)
    told = asked(one, list(part["smiles"]), x, hot, f"log_{quantity}")
    true, mean = data.answers[test], data.answers[~held].mean()
    return Compared(
        f"{quantity} of mixtures", "ln", _mean(told - true), _mean(found - true), _mean(mean - true)
    )


def asked(
    one: PropertyReader,
    pairs: Sequence[tuple[str, str]],
    x: Floats,
    temperature: Floats | None,
    name: str,
) -> Floats:
    """What a multi-task model says of mixtures, the mean over both orders of the components.

    Args:
        one: the model.
        pairs: SMILES of the components.
        x: mole fractions of the first ones, [m].
        temperature: K, [m].
        name: of the number.
    """
    from molgen.tokens.vocabulary import MIXED

    found = []
    for turn in (False, True):
        texts = [MIXED.join(pair[::-1] if turn else pair) for pair in pairs]
        shares = 1 - x if turn else x
        given = [{"mixture": 1.0, "x_1": float(v)} for v in shares]
        if temperature is not None:
            for row, kelvin in zip(given, temperature, strict=True):
                row["temperature"] = float(kelvin)
        found.append(one.predict(texts, given=given)[name].to_numpy())
    return np.asarray(np.mean(found, 0))


def _mean(off: Floats) -> float:
    """Mean size of those that are numbers; NaN if none is."""
    good = np.abs(off[~np.isnan(off)])
    return float(good.mean()) if good.size else float("nan")
