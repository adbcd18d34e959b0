"""Scoring a molecule file from any tool: the command `designloom evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from diffcore.errors import ConfigError, DataError

if TYPE_CHECKING:
    from molgen.evaluate.score import Evaluation
    from molgen.io import Entry

OUTPUTS = (".html", ".csv")


def evaluate_file(
    path: str | Path,
    output: str | Path | None = None,
    reference: str | None = "qm9",
    force: bool = False,
) -> Evaluation:
    """Scores a molecule file, prints the summary, writes a report or the rows.

    Args:
        path: .sdf, .mol, .smi, .smiles or .xyz file, each also with .gz.
        output: .html (a self-contained report) or .csv (one row a molecule); None to print only.
        reference: Name of a shipped reference; None or "none" to judge without one.
        force: Overwrite `output`.

    Returns:
        The rows and the summary.

    Raises:
        ConfigError: Unknown suffix.
        DataError: The file is missing, empty or holds no readable molecule; unknown reference.
        OutputError: `output` exists without `force`, or cannot be written.
    """
    target = None if output is None else Path(output)
    if target is not None:
        _check_target(target, force)

    from molgen.datasets.reference import load_reference
    from molgen.evaluate.score import evaluate
    from molgen.io import read_molecules

    known = None if reference in (None, "none") else load_reference(str(reference))
    kept: list[Entry] = []
    entries = read_molecules(path)
    wants_report = target is not None and target.suffix.lower() == ".html"
    evaluation = evaluate(_keeping(entries, kept) if wants_report else entries, known)
    unread = evaluation.table["smiles"].isna()
    if unread.all():
        first = evaluation.table["reason"].iloc[0]
        raise DataError(f"{path}: none of {len(unread)} entries is readable; the first: {first}")
    if target is not None and wants_report:
        from pipelines.report import write_report

        run = {"file": Path(path).name, "entries": len(kept), "unreadable": int(unread.sum())}
        mols = [entry.mol for entry in kept]
        write_report(mols, evaluation, target, f"Evaluation of {Path(path).name}", run, force)
    elif target is not None:
        evaluation.to_csv(target, force)
    sys.stdout.write(evaluation.text() + "\n")
    if target is not None:
        sys.stdout.write(f"written: {target}\n")
    return evaluation


def _keeping(entries: Iterator[Entry], kept: list[Entry]) -> Iterator[Entry]:
    """Passes entries on and keeps them: a report needs the molecules, a table does not."""
    for entry in entries:
        kept.append(entry)
        yield entry


def _check_target(target: Path, force: bool) -> None:
    from pipelines.report import check_output

    if target.suffix.lower() not in OUTPUTS:
        known = " or ".join(OUTPUTS)
        raise ConfigError(f"cannot write {target.name!r}: expected a file name ending in {known}")
    check_output(target, force)
