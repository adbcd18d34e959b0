"""Mixtures as tokens: rows of published tables, both orders, one vocabulary with molecules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diffcore.errors import DataError
from diffcore.transformer import Size
from molgen.tokens.mixtures import (
    EVERY,
    JointTable,
    held_out,
    joint_table,
    mixture_rows,
    texts,
    turned,
)
from molgen.tokens.tables import token_table
from molgen.tokens.task import MULTITASK, TokenTask
from molgen.tokens.vocabulary import END, MIXED, readable, split
from tests.molgen.test_table import table_of

ALCOHOLS = ["C" * n + "O" for n in range(1, 12)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path)


def written(folder: Path) -> Path:
    """Tables of alcohols with urea, in the columns of the published ones."""
    liquidus = ["Component#1,Smiles#1,H#1,T#1,Component#2,Smiles#2,H#2,T#2,X#1,T_EP,PD,Type"]
    shares = "X#1 (molar fraction),X#2 (molar fraction),X#3 (molar fraction)"
    liquid = ["Component#1,Component#2,Component#3," + shares + ',"Temperature, K","{}"']
    ono = ["HBA_,HBD_,XHBA_,XHBD_,T/K_,Viscosity"]
    for k, one in enumerate(ALCOHOLS):
        liquidus.append(f"a,{one},10,{250 + k},urea,NC(N)=O,14,406,0.5,{240 + k},Yes,Type V")
        for kelvin in (293.15, 313.15, 333.15):
            value = 1.1 - 0.001 * (kelvin - 293.15)
            liquid.append(f"{one},NC(N)=O,,0.3,0.7,,{kelvin},{value}")
        liquid.append(f"{one},NC(N)=O,O,0.3,0.6,0.1,313.15,1.0")
        ono.append(f"{one},NC(N)=O,0.4,0.6,303.15,{5 + k}")
    names = ("Density.csv", "Density, g/cm^3"), ("Viscosity.csv", "Viscosity, cP")
    (folder / "lavrinenko2023_DES_init_update.csv").write_text("\n".join(liquidus))
    for name, column in names:
        text = "\n".join([liquid[0].format(column), *liquid[1:]])
        if name == "Viscosity.csv":
            for kelvin, value in ((293.15, 20), (313.15, 10), (333.15, 5)):
                dense = 1.1 - 0.001 * (kelvin - 293.15)
                text = text.replace(f",{kelvin},{dense}", f",{kelvin},{value}")
        (folder / f"designsolvents2024_{name}").write_text(text)
    (folder / "viscosity_ono1025_Raw_dataset.csv").write_text("\n".join(ono))
    return folder


def joint(folder: Path) -> JointTable:
    molecules = token_table(table_of(["C", "O", "CO", "C=O"] * 3), "smiles")
    return joint_table(molecules, mixture_rows(folder))


def test_rows_of_three_tables_with_what_each_knows(folder: Path) -> None:
    rows = mixture_rows(folder)
    assert rows["liquidus"].notna().sum() == len(ALCOHOLS)
    assert rows["log_density"].notna().sum() == 3 * len(ALCOHOLS)
    assert rows["log_viscosity"].notna().sum() == 4 * len(ALCOHOLS)
    assert (rows[["liquidus", "log_density", "log_viscosity"]].notna().sum(axis=1) == 1).all()
    assert rows["temperature"].isna().equals(rows["liquidus"].notna())


def test_whole_systems_are_held_out(folder: Path) -> None:
    rows = mixture_rows(folder)
    out = held_out(rows)
    assert 0 < out.sum() < len(rows)
    assert not set(rows["system"][out]) & set(rows["system"][~out])


def test_turning_twice_changes_nothing(folder: Path) -> None:
    rows = mixture_rows(folder)
    assert np.allclose(turned(turned(rows))["x_1"], rows["x_1"])
    assert texts(turned(rows)) == [MIXED.join(t.split(MIXED)[::-1]) for t in texts(rows)]


def test_one_vocabulary_says_molecules_and_mixtures(folder: Path) -> None:
    table = joint(folder)
    assert table.vocabulary.decode(table.molecules.tokens[0, :4].long()) == ["C", "O", "CO", "C=O"]
    said = [table.vocabulary.text(row) for row in table.mixtures.tokens[0].tolist()]
    assert said == texts(mixture_rows(folder)) + texts(turned(mixture_rows(folder)))
    kind = table.names.index("mixture")
    assert (table.molecules.properties[:, kind] == 0).all()
    assert (table.mixtures.properties[:, kind] == 1).all()
    assert (table.molecules.tokens[..., -1] == END).all()
    mean, std = table.moments["liquidus"]
    assert mean == pytest.approx(245.0) and std > 0


def test_batches_alternate_and_answers_are_not_hidden(folder: Path) -> None:
    table = joint(folder)
    task = TokenTask(table.vocabulary, table.moments, MULTITASK, Size(32, 1, 1))
    batches = table.batches(task, 4, seed=0)
    kind = table.names.index("mixture")
    mean, std = table.moments["mixture"]
    found = []
    for _ in range(2 * EVERY):
        state = next(batches)
        found.append(round(float(state["property"][0, kind] * std + mean)))
        assert torch.equal(state["property"].isnan(), state["answer"].isnan())
    assert found == [0] * (EVERY - 1) + [1] + [0] * (EVERY - 1) + [1]
    again = table.batches(task, 4, seed=0, start=2 * EVERY)
    assert torch.equal(next(batches)["token"], next(again)["token"])


def test_what_is_read_of_a_mixture() -> None:
    assert readable("OCC|NC(N)=O", "smiles") == "CCO|NC(N)=O"
    assert readable("OCC|", "smiles") is None and readable("C(|C", "smiles") is None
    assert split("CO|O", "smiles") == ["C", "O", "|", "O"]


def test_mixtures_need_smiles(folder: Path) -> None:
    pytest.importorskip("selfies")
    molecules = token_table(table_of(["C", "CO"]), "selfies")
    with pytest.raises(DataError, match="SELFIES"):
        joint_table(molecules, mixture_rows(folder))
