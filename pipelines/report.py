"""Reports as files: where they may be written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import OutputError

if TYPE_CHECKING:
    from molgen.evaluate.report import Molecules
    from molgen.evaluate.score import Evaluation


def write_report(
    mols: Molecules,
    evaluation: Evaluation,
    path: str | Path,
    title: str = "Molecules",
    run: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Path:
    """Writes the report of a scored set; the file needs no network and no other file.

    Args:
        mols: The scored molecules, in the order of `evaluation.table` or by row number.
        evaluation: What `molgen.evaluate` gave for them.
        path: Output file.
        title: Heading.
        run: How the set was made (model, seed, steps, seconds, ...), shown as it is.
        force: Overwrite an existing file.

    Returns:
        The path written.

    Raises:
        DataError: `mols` is a list of another length than the table.
        OutputError: The file exists and `force` is not given, or it cannot be written.
    """
    from molgen.evaluate.report import report

    path = Path(path)
    check_output(path, force)
    return report(evaluation, title, mols, run).save(path, force)


def check_output(path: Path, force: bool) -> None:
    """Raises OutputError early if `path` exists without `force` or its folder is missing."""
    if path.exists() and not force:
        raise OutputError(f"{path} exists: give force (--force) to overwrite it")
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise OutputError(f"cannot write {path}: expected a file in an existing folder")
