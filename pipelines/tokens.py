"""Commands of the models of tokens: write SMILES for properties, read properties, compare both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from diffcore.errors import ConfigError, DataError, OutputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from molgen.datasets.table import MoleculeTable
    from molgen.tokens.generator import PropertyReader, TokenGenerator

ASKED = ("gap", "homo", "lumo", "Cv")


def generate_smiles(
    number: int = 100,
    output: Path = Path("molecules.smi"),
    property: Mapping[str, float] | None = None,
    model: str = "qm9-causal-selfies",
    strength: float = 1.0,
    temperature: float | None = None,
    draft: str = "",
    seed: int = 0,
    force: bool = False,
) -> str:
    """Write molecules as SMILES, of the properties asked for, and read back what they have.

    Args:
        number: Molecules.
        output: .smi file: SMILES and a name a line; a draw that is no molecule is left out.
        property: Asked for, as gap=5.0; units of QM9: eV, bohr^3, D, cal/mol/K.
        model: A shipped model, or the path of a .safetensors file.
        strength: Of classifier-free guidance; 1 is the condition alone.
        temperature: Below 1 for likelier molecules; by default what the model's card recommends.
        draft: Symbols to keep, in the model's notation, [?] for one that is open.
        seed: Of the drawing.
        force: Overwrite.

    Returns:
        What was written.

    Raises:
        ConfigError: An option is outside what is allowed.
        OutputError: The file exists.
    """
    from molgen.tokens.generator import TokenGenerator

    if output.suffix != ".smi":
        raise ConfigError(f"--output: expected a .smi file, got {output}")
    if output.exists() and not force:
        raise OutputError(f"{output} exists; --force overwrites it")
    generator = TokenGenerator.from_pretrained(model)
    made = generator.sample(
        number,
        seed=seed,
        properties=property or {},
        strength=strength,
        temperature=temperature,
        draft=draft,
    )
    lines = [f"{one} {seed}-{k}\n" for k, one in enumerate(made) if one is not None]
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_suffix(".smi.part")
    part.write_text("".join(lines))
    part.replace(output)
    return f"{len(lines)} of {number} draws are molecules: {output}"


def bench_tokens(
    number: int = 1000,
    writer: str = "qm9-causal-selfies",
    reader: str = "qm9-direct-smiles",
    strength: float = 3.0,
    data: Path | None = None,
    seed: int = 0,
    threads: int = 1,
) -> str:
    """Forward and inverse task on QM9's test molecules, with the baselines beside them.

    The reader judges the writer; it was trained on the other half of the training molecules.

    Args:
        number: Molecules read, and written for each property.
        writer: Model that writes molecules.
        reader: Model that reads properties.
        strength: Of the guidance, where a property is asked for.
        data: Converted data file; by default QM9 from the cache.
        seed: Of the choice and the drawing.
        threads: Threads of the tensor library.

    Returns:
        Three tables.

    Raises:
        ConfigError: A number below 2.
        DataError: There are no test molecules.
    """
    import torch

    from molgen.datasets import qm9
    from molgen.datasets.table import MoleculeTable
    from molgen.tokens.generator import PropertyReader, TokenGenerator
    from molgen.tokens.tables import choose

    if number < 2:
        raise ConfigError(f"--number: expected at least 2, got {number}")
    torch.set_num_threads(threads)
    judge = PropertyReader.from_pretrained(reader)
    generator = TokenGenerator.from_pretrained(writer)
    table = MoleculeTable.load(data) if data else qm9.load()
    test = drawn_for_test(table, number, seed)
    known = set(choose(table, "train").smiles())
    read = judge.predict(test.smiles())
    free = generator.sample(number, seed=seed)
    lines = [*_forward(judge, read, test), "", *_written(free, known), ""]
    unasked = judge.predict([one for one in free if one is not None])
    return "\n".join(lines + _inverse(generator, judge, (read, unasked), test, seed, strength))


def drawn_for_test(table: MoleculeTable, number: int, seed: int) -> MoleculeTable:
    """Test molecules, chosen at random.

    Raises:
        DataError: there are fewer than two.
    """
    import torch

    from diffcore import random
    from molgen.tokens.tables import choose

    test = choose(table, "test")
    if len(test) < 2:
        raise DataError(f"expected 2 test molecules or more, the data have {len(test)}")
    return test.select(torch.randperm(len(test), generator=random.generator(seed, 1))[:number])


def _forward(judge: PropertyReader, found: pd.DataFrame, test: MoleculeTable) -> list[str]:
    import numpy as np

    lines = [
        "| read off SMILES | unit | MAE | of the mean | R^2 |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, (mean, _) in judge.denoiser.task.properties.items():
        true = _column(test, name)
        off = found[name].to_numpy() - true
        good = np.isfinite(off)
        rest = 1 - (off[good] ** 2).sum() / ((true - true.mean()) ** 2)[good].sum()
        unit = test.card["properties"][name]
        baseline = abs(true - mean).mean()
        lines.append(
            f"| {name} | {unit} | {abs(off[good]).mean():.3g} | {baseline:.3g} | {rest:.3f} |"
        )
    return lines


def _written(free: list[str | None], known: set[str]) -> list[str]:
    from molgen.tokens.vocabulary import plain

    made, number = [plain(one) for one in free if one is not None], len(free)
    valid, unique = len(made), set(made)
    novel = len(unique - known)
    return [
        f"| {number} written unasked | % |",
        "| --- | --- |",
        f"| valid | {100 * valid / number:.1f} |",
        f"| unique among the valid | {100 * len(unique) / max(valid, 1):.1f} |",
        f"| novel among the unique | {100 * novel / max(len(unique), 1):.1f} |",
    ]


def _inverse(
    generator: TokenGenerator,
    judge: PropertyReader,
    read: tuple[pd.DataFrame, pd.DataFrame],
    test: MoleculeTable,
    seed: int,
    strength: float,
) -> list[str]:
    """``read`` holds what the judge reads off the test molecules and off those written unasked."""
    itself, free = read
    head = f"| asked for | unit | MAE | guided, {strength:g} | unasked | ratio | judge's own |"
    lines = [head, "| --- |" + " --- |" * 6]
    for name in (n for n in ASKED if n in generator.denoiser.task.properties):
        true = _column(test, name)
        errors = []
        for scale in (1.0, strength):
            each = [{name: float(value)} for value in true]
            made = generator.sample(len(true), seed=seed + 1, properties=each, strength=scale)
            found = judge.predict([one or "" for one in made])[name].to_numpy()
            errors.append(_mean(abs(found - true)))
        shown = free[name].to_numpy()
        unasked = _mean(abs(shown[None] - true[:, None]))
        own = _mean(abs(itself[name].to_numpy() - true))
        unit = test.card["properties"][name]
        ratio = min(errors) / unasked
        lines.append(
            f"| {name} | {unit} | {errors[0]:.3g} | {errors[1]:.3g} | {unasked:.3g} "
            f"| {ratio:.2f} | {own:.3g} |"
        )
    return lines


def _mean(values: np.ndarray) -> float:
    """Of those that are numbers; NaN if none is."""
    good = values[values == values]
    return float(good.mean()) if good.size else float("nan")


def _column(table: MoleculeTable, name: str) -> np.ndarray:
    values: np.ndarray = table.properties[:, table.property_names.index(name)].numpy()
    return values
