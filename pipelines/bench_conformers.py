"""How near generated conformers come to known ones, and what they cost, beside ETKDG + MMFF94."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError, DataError, OutputError

if TYPE_CHECKING:
    from rdkit import Chem

COUNTS = (1, 10, 50)
THRESHOLDS = (0.5, 1.0, 2.0)
"""RMSD in Angstrom below which a known conformer counts as found."""

COVERAGE = ("cov_recall", "mat_recall", "cov_precision", "mat_precision")
Method = Callable[["Chem.Mol", int, int], "Chem.Mol"]
"""(molecule without conformers, conformers, seed) -> molecule with conformers in order of rank."""


def bench_conformers(
    references: Path,
    model: str = "bound",
    number: int | None = None,
    seed: int = 0,
    only: list[str] | None = None,
    output: Path | None = None,
    force: bool = False,
    threads: int = 1,
    threshold: float = 0.75,
    complexes: Path | None = None,
    redocking: Path = Path("redocking.csv"),
    exhaustiveness: int = 8,
    resume: bool = False,
) -> str:
    """Measure minimum RMSD to known conformers and CPU time, beside ETKDGv3 and ETKDGv3 + MMFF94.

    Every method gets the molecule's graph with its stereo and makes 50 conformers; the first 1 and
    10 are also judged. A method's conformers are compared with the known one by symmetry-corrected
    RMSD of the heavy atoms after alignment. A molecule for which one method fails counts for none,
    and is listed. Records next to each other with one name and one structure are the known
    conformers of one molecule.

    With complexes, their ligands are redocked too, as by `bench redocking`.

    Args:
        references: .sdf file of molecules with hydrogens and the known conformers.
        model: Name of a shipped model, or path of a model file.
        number: Molecules drawn at random; all if left out.
        seed: Seed of the draw and of all conformers.
        only: Methods to run, of etkdg, etkdg_mmff, model; all if left out.
        output: .csv file for the figures of every molecule.
        force: Overwrite `output`.
        threads: Threads of the tensor library.
        threshold: RMSD in Angstrom below which COV counts a conformer as found.
        complexes: Folder of PDB and SDF files, or a .csv of name, protein, ligand, to redock.
        redocking: With complexes: .csv file of their rows.
        exhaustiveness: With complexes: searches of Vina for each ligand.
        resume: With complexes: go on with an interrupted redocking.

    Returns:
        Tables: median minimum RMSD at 1, 10 and 50 conformers, share found below thresholds, CPU
        seconds a molecule; COV and MAT of all 50, recall and precision; shares redocked.

    Raises:
        ConfigError: An option is outside what is allowed.
        DataError: The file cannot be read, or holds no molecule with a conformer.
        OutputError: `output` exists without `force`.
    """
    import torch
    from tqdm import tqdm

    from pipelines.conformers import write_rows

    methods = _methods(model, only)
    if number is not None and number < 1:
        raise ConfigError(f"--number: expected at least 1, got {number}")
    if not threshold > 0:
        raise ConfigError(f"--threshold: expected Angstrom above 0, got {threshold}")
    if output is not None and output.exists() and not force:
        raise OutputError(f"{output} exists: expected --force to overwrite it")
    if complexes is not None and redocking.exists() and not (force or resume):
        raise OutputError(f"{redocking} exists: expected --resume or --force")
    torch.set_num_threads(threads)
    known, left_out = _known(references, number, seed)
    rows: list[dict[str, Any]] = []
    for name, mol in tqdm(known, desc="bench", unit="mol"):
        try:
            rows.append({"name": name, **_measure(mol, methods, seed, threshold)})
        except DataError as error:
            left_out.append(f"{name}: {error}")
    if not rows:
        raise DataError(f"{references}: no molecule could be judged: {'; '.join(left_out[:3])}")
    if output is not None:
        write_rows(output, rows, tuple(rows[0]))
    lines = [*table(rows, list(methods)), *gains(rows, list(methods)), ""]
    lines += [*coverage_table(rows, list(methods), threshold), *left_out]
    if complexes is not None:
        from pipelines.bench_redocking import bench_redocking

        options: dict[str, Any] = {"exhaustiveness": exhaustiveness, "seed": seed}
        lines += ["", bench_redocking(complexes, redocking, resume=resume, force=force, **options)]
    return "\n".join(lines)


def _methods(model: str, only: list[str] | None) -> dict[str, Method]:
    known: dict[str, Method] = {"etkdg": etkdg, "etkdg_mmff": etkdg_mmff}
    for name in only or []:
        if name not in (*known, "model"):
            raise ConfigError(f"unknown method {name!r}; known: {', '.join((*known, 'model'))}")
    chosen = {n: f for n, f in known.items() if only is None or n in only}
    if only is None or "model" in only:
        from molgen.generators import load_generator

        generator = load_generator(model)
        chosen["model"] = lambda mol, n, seed: generator.sample(mol, n, seed=seed)
    return chosen


def etkdg(mol: Chem.Mol, n: int, seed: int) -> Chem.Mol:
    """ETKDGv3 (Wang et al. 2020) as RDKit has it, in the order that it comes.

    Raises:
        DataError: no conformer was made.
    """
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom

    from molgen.conformers import random_seed
    from molgen.embedding import EMBED_SECONDS

    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed = random_seed(seed)
    parameters.timeout = EMBED_SECONDS
    out = Chem.Mol(mol)
    for random_start in (False, True):
        parameters.useRandomCoords = random_start
        rdDistGeom.EmbedMultipleConfs(out, n, parameters)
        if out.GetNumConformers():
            return out
    raise DataError("ETKDG made no conformer")


def etkdg_mmff(mol: Chem.Mol, n: int, seed: int) -> Chem.Mol:
    """The same, every conformer minimised with MMFF94 (200 steps); not where it has no parameters.

    Raises:
        DataError: no conformer was made.
    """
    from rdkit import Chem
    from rdkit.Chem import rdForceFieldHelpers

    out = etkdg(mol, n, seed)
    work = Chem.Mol(out)  # MMFF94 has its own idea of aromaticity and leaves it in the molecule
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(work):
        rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(work, numThreads=1)
        for before, after in zip(out.GetConformers(), work.GetConformers(), strict=True):
            before.SetPositions(after.GetPositions())
    return out


def _known(path: Path, number: int | None, seed: int) -> tuple[list[tuple[str, Any]], list[str]]:
    """Molecules with a 3D conformer, and lines about those that cannot be used."""
    import torch

    from diffcore import random
    from molgen.chem import sanitised
    from molgen.io import read_molecules

    known: list[tuple[str, Any]] = []
    left_out = []
    for entry in read_molecules(path):
        mol = None if entry.mol is None else sanitised(entry.mol)
        if mol is None or not mol.GetNumConformers() or not mol.GetConformer().Is3D():
            left_out.append(f"{entry.name}: {entry.reason or 'no 3D molecule that RDKit accepts'}")
        else:
            _add(known, entry.name, mol)
    if not known:
        raise DataError(f"{path}: expected molecules with 3D conformers, found none")
    if number is not None and number < len(known):
        order = torch.randperm(len(known), generator=random.generator(seed)).tolist()
        known = [known[k] for k in sorted(order[:number])]
    return known, left_out


def _add(known: list[tuple[str, Any]], name: str, mol: Chem.Mol) -> None:
    """Put the molecule on the list, or its conformer to the last one's where they are the same."""
    if known and known[-1][0] == name:
        last = known[-1][1]
        same = [a.GetAtomicNum() for a in last.GetAtoms()] == [
            a.GetAtomicNum() for a in mol.GetAtoms()
        ]
        if same and _smiles(last) == _smiles(mol):
            last.AddConformer(mol.GetConformer(), assignId=True)
            return
    known.append((name, mol))


def _smiles(mol: Chem.Mol) -> str:
    """Without a new order of atoms: one molecule written twice, in the same way."""
    from rdkit import Chem

    return Chem.MolToSmiles(mol, canonical=False)


def _measure(
    mol: Chem.Mol, methods: dict[str, Method], seed: int, threshold: float
) -> dict[str, Any]:
    from dataclasses import asdict

    from rdkit import rdBase

    from molgen.embedding import prepared
    from molgen.evaluate.coverage import coverage, rmsd_matrix

    fresh = prepared(mol)
    found: dict[str, Any] = {"heavy_atoms": fresh.GetNumHeavyAtoms()}
    for name, method in methods.items():
        start = time.process_time()
        with rdBase.BlockLogs():
            made = method(fresh, max(COUNTS), seed)
        found[f"{name}_seconds"] = time.process_time() - start
        rmsd = rmsd_matrix(made, mol)
        found |= {f"{name}_{n}": float(rmsd[:n].min(0).mean()) for n in COUNTS}
        covered = asdict(coverage(rmsd, threshold))
        found |= {f"{name}_{key}": covered[key] for key in COVERAGE}
    return found


def table(rows: list[dict[str, Any]], methods: list[str]) -> list[str]:
    """The figures of all molecules, as a table of lines."""
    import numpy as np

    shares = [f"< {t} A at 50" for t in THRESHOLDS]
    heads = ["method", *(f"median RMSD at {n} / A" for n in COUNTS), *shares, "CPU s a molecule"]
    lines = [f"{len(rows)} molecules", "| " + " | ".join(heads) + " |"]
    lines.append("| --- " * len(heads) + "|")
    for name in methods:
        values = {n: np.array([r[f"{name}_{n}"] for r in rows]) for n in COUNTS}
        cells = [f"{np.median(values[n]):.3f}" for n in COUNTS]
        cells += [f"{100 * (values[max(COUNTS)] < t).mean():.1f} %" for t in THRESHOLDS]
        cells.append(f"{np.mean([r[f'{name}_seconds'] for r in rows]):.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def gains(rows: list[dict[str, Any]], methods: list[str]) -> list[str]:
    """How far the model's medians and cost are from those of ETKDGv3 + MMFF94, in per cent."""
    import numpy as np

    if not {"model", "etkdg_mmff"} <= set(methods):
        return []

    def change(key: str, middle: Callable[[Any], Any]) -> str:
        compared = ("model", "etkdg_mmff")
        ours, theirs = (float(middle([r[f"{m}_{key}"] for r in rows])) for m in compared)
        return f"{100 * (ours / theirs - 1):+.1f} %"

    parts = [f"{change(str(n), np.median)} at {n}" for n in COUNTS]
    cost = change("seconds", np.mean)
    return [f"the model against ETKDGv3 + MMFF94: RMSD {', '.join(parts)}; CPU time {cost}"]


def coverage_table(rows: list[dict[str, Any]], methods: list[str], threshold: float) -> list[str]:
    """Means over molecules of COV and MAT of all conformers, as a table of lines."""
    import numpy as np

    heads = ["method", "COV recall", "MAT recall / A", "COV precision", "MAT precision / A"]
    lines = [
        f"COV below {threshold:g} A and MAT, {max(COUNTS)} conformers, means over molecules",
        "| " + " | ".join(heads) + " |",
        "| --- " * len(heads) + "|",
    ]
    for name in methods:
        mean = {key: float(np.mean([r[f"{name}_{key}"] for r in rows])) for key in COVERAGE}
        lines.append(
            f"| {name} | {100 * mean['cov_recall']:.1f} % | {mean['mat_recall']:.3f} "
            f"| {100 * mean['cov_precision']:.1f} % | {mean['mat_precision']:.3f} |"
        )
    return lines
