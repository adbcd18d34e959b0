"""A file of mixtures: a bad row never loses the batch."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from diffcore.errors import ConfigError, DataError, OutputError
from pipelines.bench_solvents import bench_solvents
from pipelines.solvents import predict_solvents

ROWS = """component_1,component_2,x_1,melting_1,fusion_1,melting_2,fusion_2
C[N+](C)(C)CCO.[Cl-],NC(N)=O,0.3333,578,4.3,406,14.6
NC(N)=O,NC(N)=O,0.5,406,14.6,406,14.6
no such substance,NC(N)=O,0.5,406,14.6,406,14.6
C[N+](C)(C)CCO.[Cl-],NC(N)=O,1.5,578,4.3,406,14.6
C[N+](C)(C)CCO.[Cl-],NC(N)=O,half,578,4.3,406,14.6
C[N+](C)(C)CCO.[Cl-],NC(N)=O,,578,4.3,406,14.6
"""


def test_bad_rows_keep_their_line_with_the_reason(tmp_path: Path) -> None:
    pytest.importorskip("chemicals")
    source, output = tmp_path / "systems.csv", tmp_path / "out.csv"
    source.write_text(ROWS)
    assert "2 mixtures predicted, 4 failed" in predict_solvents(source, output)
    with output.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [bool(r["reason"]) for r in rows] == [False, True, True, True, True, False]
    assert 230 < float(rows[0]["temperature"]) < 340
    assert float(rows[0]["lower"]) < float(rows[0]["temperature"]) < float(rows[0]["upper"])
    assert float(rows[5]["temperature"]) <= float(rows[0]["temperature"]) + 2
    for row in (rows[0], rows[5]):
        for quantity in ("density", "viscosity"):
            low, high = float(row[f"{quantity}_lower"]), float(row[f"{quantity}_upper"])
            assert 0 < low < float(row[quantity]) < high
    assert rows[0]["at"] == "298.15" and rows[1]["density"] == ""
    with pytest.raises(OutputError, match="force"):
        predict_solvents(source, output)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "component_1,component_2\n"])
def test_a_file_without_mixtures_is_refused(text: str, tmp_path: Path) -> None:
    source = tmp_path / "systems.csv"
    source.write_text(text)
    with pytest.raises(DataError, match="expected"):
        predict_solvents(source, tmp_path / "out.csv")


def test_systems_share_no_fold_and_components_stay_out(repository: Path) -> None:
    from molgen.solvents import training
    from molgen.solvents.data import read_liquidus

    path = repository.parent / "shared/data/solvents/lavrinenko2023_DES_init_update.csv"
    if not path.exists():
        pytest.skip("no data folder beside the checkout")
    table = read_liquidus(path)
    for learn, test in training.by_system(table):
        assert not set(table["system"][learn]) & set(table["system"][test])
    for learn, test in training.by_component(table):
        known = set(table["smiles_1"][learn]) | set(table["smiles_2"][learn])
        pairs = zip(table["smiles_1"][test], table["smiles_2"][test], strict=True)
        assert all(not {a, b} <= known for a, b in pairs)


@pytest.mark.parametrize(
    ("options", "said"), [({"molecules": 5}, "--molecules"), ({"train": True}, "--output")]
)
def test_the_bench_refuses_what_it_cannot_do(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        bench_solvents(**options)
