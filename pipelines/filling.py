"""Filling a file with molecules, from the first or from where an interrupted run left it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import DataError, YieldError
from molgen.progress import molecule_bar
from pipelines.resume import Held, check_origin, held, made, read_rejected, write_rejected

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.deliver import Ledger
    from molgen.demands import Demands
    from molgen.generate import MoleculeGenerator
    from molgen.writer import MoleculeWriter


def loader(model: str, threads: int) -> Callable[[], MoleculeGenerator]:
    """How the model will be loaded, once it is known that there is work for it."""

    def load() -> MoleculeGenerator:
        import torch

        from diffcore.memory import keep_freed_memory
        from molgen.generate import MoleculeGenerator

        torch.set_num_threads(threads)
        keep_freed_memory()
        return MoleculeGenerator.from_pretrained(model)

    return load


def fill(
    writer: MoleculeWriter,
    number: int,
    seed: int,
    load: Callable[[], MoleculeGenerator],
    options: dict[str, Any],
) -> str:
    """Write the molecules up to `number`, under a bar with the time left."""
    start, asked = writer.count, request_text(options)
    for one in islice(made(writer.path), 1 if start else 0):
        check_origin(writer.path, one, seed, "", asked)
    if start >= number:
        return ""
    generator = load()
    # The bar waits a moment, so that a refused option stays one line of text.
    with molecule_bar(number, initial=start, show=True) as bar:
        for mol in generator.stream(
            number - start, seed=seed, start=start, progress=bar.update, **options
        ):
            writer.write(_told(mol, asked))
    return ""


def climb(
    writer: MoleculeWriter,
    number: int,
    seed: int,
    load: Callable[[], MoleculeGenerator],
    options: dict[str, Any],
    how: dict[str, Any],
) -> str:
    """Write the best molecules of a search, the best first; says what it cost.

    Raises:
        YieldError: it found fewer than `number`; the file holds those.
    """
    found = load().optimise(number, seed=seed, progress=True, **how, **options)
    asked = request_text({**options, "reward": how["reward"]})
    for mol in found.mols:
        writer.write(_told(mol, asked))
    if len(found.mols) < number:
        raise YieldError(f"{len(found.mols)} of {number} molecules; {found}")
    return str(found)


def read_fragment(path: Path) -> Chem.Mol:
    """The one molecule of a file with coordinates.

    Raises:
        ConfigError: an unknown suffix.
        DataError: the file cannot be read, or holds anything but one molecule with coordinates.
    """
    from molgen.io import read_molecules

    entries = list(islice(read_molecules(path), 2))
    if len(entries) != 1:
        raise DataError(f"--keep: {path}: expected one molecule, got several")
    mol = entries[0].mol
    if mol is None:
        raise DataError(f"--keep: {path}: {entries[0].reason}")
    if not mol.GetNumConformers() or not mol.GetConformer().Is3D():
        raise DataError(f"--keep: {path}: expected 3D coordinates; --scaffold takes a graph alone")
    return mol


REQUEST = ("formula", "charge", "scaffold", "keep", "property", "strength", "candidates", "reward")


def request_text(options: dict[str, Any]) -> str:
    """What is asked of every molecule, as it stands in the file; a fragment by its SMILES."""
    words = []
    for name in REQUEST:
        value = options.get(name)
        if name == "keep" and value is not None:
            words.append(f"keep={_written(value)}")
        elif value is not None:
            words.append(f"{name}={value}")
    return " ".join(words)


def _written(mol: Chem.Mol) -> str:
    """SMILES and a digest of the places."""
    from hashlib import sha256

    from rdkit import Chem

    places = mol.GetConformer().GetPositions().round(4).tolist()
    return f"{Chem.MolToSmiles(mol)}@{sha256(repr(places).encode()).hexdigest()[:8]}"


def _told(mol: Chem.Mol, asked: str) -> Chem.Mol:
    if asked:
        mol.SetProp("request", asked)
    return mol


def fill_with_good(
    writer: MoleculeWriter,
    number: int,
    seed: int,
    load: Callable[[], MoleculeGenerator],
    options: dict[str, Any],
    demands: Demands,
    max_tries: int | None = None,
    rejected: Path | None = None,
) -> str:
    """Write molecules that meet the demands up to `number`; says what was rejected and why."""
    from molgen.deliver import good_molecules  # loads every metric: for those who demand something

    asked = request_text(options)
    before = held(writer.path, seed, str(demands), asked) if writer.count else Held([], [])
    ledger = _ledger(before.indices, rejected)
    ledger.repaired = len(before.indices) if demands.repair else 0
    if writer.count >= number:
        return ledger.summary()
    generator = load()
    demands = replace(demands, reference=generator.reference)
    try:
        for mol in good_molecules(
            generator.source(seed=seed, **options),
            number,
            demands,
            ledger,
            seen=before.smiles,
            max_tries=max_tries,
            progress=True,
        ):
            writer.write(_told(mol, asked))
    finally:
        if rejected is not None and ledger.made:
            write_rejected(rejected, [(row.index, row.reason, row.smiles) for row in ledger.log])
    return ledger.summary()


def _ledger(indices: list[int], rejected: Path | None) -> Ledger:
    """The account of an interrupted run; reasons that no file holds are called so."""
    from molgen.deliver import Ledger, Rejected
    from molgen.demands import kind_of

    made = indices[-1] + 1 if indices else 0
    ledger = Ledger(made, indices)
    for row in read_rejected(rejected, made) if made else []:
        ledger.log.append(Rejected(*row))
        ledger.kinds[kind_of(row[1])] += 1
    unknown = made - len(indices) - len(ledger.log)
    if unknown > 0:
        ledger.kinds["before the interruption"] = unknown
    return ledger
