"""Tables of tensors in a file: whole or not at all, and told from what is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from diffcore.columns import load_columns, save_columns
from diffcore.errors import DataError, OutputError

COLUMNS = {"x": torch.arange(6.0).reshape(2, 3), "n": torch.tensor([1, 2])}


def test_a_table_comes_back(tmp_path: Path) -> None:
    path = save_columns(tmp_path / "new" / "t.safetensors", COLUMNS, {"rows": 2})
    found, note = load_columns(path, "table", ("x", "n"))
    assert note == {"rows": 2} and found.keys() == COLUMNS.keys()
    assert all(torch.equal(found[name], value) for name, value in COLUMNS.items())
    assert [p.name for p in path.parent.iterdir()] == ["t.safetensors"], "nothing is left beside"


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = save_columns(tmp_path / "t.safetensors", COLUMNS, {})
    before = path.read_bytes()
    sparse = torch.eye(2).to_sparse()
    with pytest.raises((OutputError, ValueError, RuntimeError)):
        save_columns(path, {"x": sparse}, {})
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(OutputError, match="expected a file in a writable folder"):
        save_columns(tmp_path, COLUMNS, {})


def test_what_is_no_table_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    with pytest.raises(DataError, match=r"no table at .*t\.safetensors"):
        load_columns(path, "table")
    save_file(COLUMNS, path, metadata={"other": "1"})
    with pytest.raises(DataError, match="is not a table: it has no card"):
        load_columns(path, "table")
    save_columns(path, COLUMNS, {})
    with pytest.raises(DataError, match="is not a table: it has no y"):
        load_columns(path, "table", ("x", "y"))
    whole = path.read_bytes()
    for cut in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="is not a readable table") as error:
            load_columns(path, "table")
        assert "\n" not in str(error.value)
