"""QM9's properties as data sets of small heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffcore.errors import ConfigError
from molgen.datasets.table import SPLITS
from pipelines.property_heads import COUNTS, described, property_tables
from tests.molgen.test_table import table_of


def test_features_are_what_the_formula_says() -> None:
    ethanol = described("CCO")
    assert ethanol[: len(COUNTS)] == [6, 2, 0, 1, 0] and len(ethanol) == 16
    pyridine = described("c1ccncc1")
    assert pyridine[: len(COUNTS)] == [5, 5, 1, 0, 0]
    assert pyridine[5:8] == [1, 1, 1], "one ring, aromatic, with a heteroatom"


def test_thirds_of_the_test_molecules(tmp_path: Path) -> None:
    table = table_of(["C", "O", "CO", "C=O", "N", "CC"] * 6)
    table.split[:] = SPLITS.index("test")
    tables = property_tables(table.save(tmp_path / "t.safetensors"), 30)
    assert [t.name for t in tables] == [f"qm9 {name}" for name in table.property_names]
    for one in tables:
        assert one.x.shape == (30, 16) and np.isfinite(one.x).all()
        assert set(one.y.tolist()) <= {0, 1, 2}
    with pytest.raises(ConfigError, match="30"):
        property_tables(molecules=10)
