"""Files come whole or not at all, and nothing is left beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffcore.errors import OutputError
from diffcore.files import whole, write_whole


def test_a_block_that_ends_well_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with whole(path) as beside:
        assert beside.suffix == ".csv" and beside.parent == tmp_path
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path, error: type) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def half() -> None:
        with whole(path) as beside:
            beside.write_text("half")
            raise error("no space left")

    with pytest.raises(OutputError if error is OSError else error):
        half()
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_told_or_made(tmp_path: Path) -> None:
    path = tmp_path / "no" / "such" / "a.txt"
    with pytest.raises(OutputError, match="cannot write .*a.txt: No such file"), whole(path) as out:
        out.write_text("x")
    assert write_whole(path, "grün").read_bytes() == "grün".encode()
    assert write_whole(path, b"\x00").read_bytes() == b"\x00"
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        write_whole(tmp_path / "file" / "a.txt", "x")
