"""`designloom generate solvents`."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from diffcore.errors import ConfigError, OutputError
from pipelines.solvents_design import generate_solvents, parsed


def test_bounds_are_read() -> None:
    assert parsed(["a<3", "a > 1e0", "b>-2"]) == {"a": [("<", 3), (">", 1)], "b": [(">", -2)]}


@pytest.mark.parametrize("text", ["", "cold", "a=3", "a<", "a<1.2.3", "<3"])
def test_what_is_no_bound_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--target"):
        parsed([text])


def test_proposals_are_written(tmp_path: Path) -> None:
    pytest.importorskip("ugropy")
    out, picture = tmp_path / "s.csv", tmp_path / "s.png"
    said = generate_solvents(out, 3, generated=0, scored=60, picture=picture)
    with out.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert f"{len(rows)} proposals" in said and 0 < len(rows) <= 3
    for row in rows:
        assert float(row["lower"]) < float(row["eutectic_temperature"]) < 300
        assert 0 < float(row["x_acceptor"]) < 1 and row["nearest"] and row["method"]
    assert picture.stat().st_size > 3000
    with pytest.raises(OutputError, match="--force"):
        generate_solvents(out)
    with pytest.raises(ConfigError, match=".png"):
        generate_solvents(tmp_path / "t.csv", picture=tmp_path / "t.pdf")
