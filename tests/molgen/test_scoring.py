"""Scoring in supervised processes: a molecule that kills or hangs costs its own row."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

import molgen.evaluate
from diffcore.errors import ConfigError, DesignloomError
from molgen.evaluate.rows import is_sampled
from molgen.evaluate.table import METRICS, Metric
from molgen.evaluate.workers import Lost, map_supervised
from molgen.io import MoleculeWriter, read_molecules, read_records

HOSTILE = '''
import os, signal, sys, time

def busy():
    sum(range(10**12))  # one call of C code that never looks up

def task(item, tell):
    """What an item says: a number, or a way to end."""
    tell(f"half of {item}")
    if item == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "exit":
        os._exit(7)
    if item == "hang":
        busy()
    if item == "raise":
        raise ValueError("first line\\nsecond line")
    return item

def die(*_):
    os._exit(3)

def fail(*_):
    raise ImportError("no such package")

def row(prepared):
    """A metric: ends by the molecule's name."""
    name = prepared.mol.GetProp("_Name") if prepared.mol.HasProp("_Name") else ""
    if name == "raise":
        raise ValueError("not this one")
    task(name, lambda _: None)
    return len(name)
'''


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that workers can import, too."""
    (tmp_path / "hostile_tasks.py").write_text(HOSTILE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    yield __import__("hostile_tasks")
    sys.modules.pop("hostile_tasks")


def test_results_come_in_order_and_the_lost_in_their_place(hostile: Any) -> None:
    items: list[Any] = [*range(30)]
    for place, word in ((3, "segfault"), (4, "hang"), (11, "exit"), (12, "kill"), (20, "raise")):
        items[place] = word
    found = list(map_supervised(hostile.task, items, workers=2, time_limit=1.0, lease=4))
    assert len(found) == len(items)
    lost = {item: result for item, result in zip(items, found, strict=True) if item != result}
    assert {item: result.why for item, result in lost.items()} == {
        "segfault": "process died: SIGSEGV",
        "hang": "time limit: 1 s",
        "exit": "process died: exit code 7",
        "kill": "process died: SIGKILL",
        "raise": "ValueError: first line",
    }
    assert all(result.partial == f"half of {item}" for item, result in lost.items())


def test_every_item_is_hostile(hostile: Any) -> None:
    found = list(map_supervised(hostile.task, ["exit"] * 5, workers=2, time_limit=5, lease=3))
    assert [one.why for one in found] == ["process died: exit code 7"] * 5


def test_an_item_larger_than_any_pipe_goes_through(hostile: Any) -> None:
    items = ["x" * 3_000_000, "exit", "y" * 3_000_000, *"abc"]
    found = list(map_supervised(hostile.task, items, workers=1, time_limit=30, weight=len))
    assert found[0] == items[0] and found[2:] == items[2:]
    assert isinstance(found[1], Lost)


@pytest.mark.parametrize(("warm_up", "said"), [("die", "exit code 3"), ("fail", "no such package")])
def test_workers_that_cannot_start_are_an_error(hostile: Any, warm_up: str, said: str) -> None:
    with pytest.raises(DesignloomError, match=f"cannot start: .*{said}"):
        list(
            map_supervised(
                hostile.task, [1, 2], workers=1, time_limit=5, warm_up=getattr(hostile, warm_up)
            )
        )


def test_an_error_of_the_source_ends_the_workers(hostile: Any) -> None:
    def source() -> Any:
        yield from (1, 2, 3)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk"):
        list(map_supervised(hostile.task, source(), workers=1, time_limit=5))


def test_a_worker_does_not_outlive_a_killed_parent(hostile: Any, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            """
            import hostile_tasks, molgen.evaluate.workers as workers
            for _ in workers.map_supervised(
                hostile_tasks.report_and_hang, ["a"], workers=1, time_limit=0.5 + 60
            ):
                pass
            """
        )
    )
    with (tmp_path / "hostile_tasks.py").open("a") as file:
        file.write(
            "\ndef report_and_hang(item, tell):\n"
            "    import molgen.evaluate.workers as workers\n"
            "    workers._alarm(3.0)\n"  # stands for the limit and its grace
            f"    open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
            "    busy()\n"
        )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment)
    pid = int(wait_for(lambda: (tmp_path / "pid").read_text()))
    parent.kill()
    parent.wait()
    wait_for(lambda: "gone" if not alive(pid) else "")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_for(condition: Callable[[], str], seconds: float = 60.0) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = condition()
        except OSError:
            found = ""
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


# --------------------------------------------------------------------------------------- rows


def molecule(smiles: str, name: str = "") -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=3) == 0
    mol.SetProp("_Name", name)
    return mol


@pytest.fixture(scope="module")
def zoo() -> list[Any]:
    """Good, bad and odd molecules, each of which must look the same to another process."""
    radical = Chem.RWMol(molecule("CCO"))
    radical.RemoveAtom(8)
    for atom in radical.GetAtoms():
        atom.SetNoImplicit(True)
    flat = Chem.MolFromSmiles("CCO")
    lost = molecule("CC")
    lost.GetConformer().SetAtomPosition(0, (float("nan"), 0.0, 0.0))
    return [
        *(molecule(s, f"name {s}") for s in ("CCO", "c1ccccc1", "C[NH3+]", "CCO", "CS")),
        radical.GetMol(),
        Chem.MolFromSmiles("C(C)(C)(C)(C)C", sanitize=False),
        Chem.MolFromSmiles("c1cccc1", sanitize=False),
        Chem.MolFromSmiles("CO.C"),
        Chem.MolFromSmiles("*C"),
        flat,
        lost,
        Chem.Mol(),
        None,
        "CCO",
    ]


def test_workers_give_the_rows_of_this_process_to_the_last_bit(zoo: list[Any]) -> None:
    here = molgen.evaluate(zoo, progress=False)
    there = molgen.evaluate(zoo, workers=2, progress=False)
    pd.testing.assert_frame_equal(here.table, there.table, check_exact=True)
    pd.testing.assert_frame_equal(here.summary, there.summary, check_exact=True)


def test_entries_and_records_give_the_same_rows(tmp_path: Path, zoo: list[Any]) -> None:
    path = tmp_path / "zoo.sdf"
    with MoleculeWriter(path) as writer:
        for mol in zoo[:6]:
            writer.write(mol)
    with path.open("a") as file:
        file.write("torn\n")
    tables = [
        molgen.evaluate(read_molecules(path), progress=False).table,
        molgen.evaluate(read_records(path), progress=False).table,
        molgen.evaluate(read_records(path), workers=1, time_limit=60, progress=False).table,
    ]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], table, check_exact=True)
    assert "truncated" in tables[0]["reason"].iloc[-1]


def test_a_hostile_molecule_costs_its_own_row(
    hostile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METRICS, "length", Metric("length of the name", row=hostile.row))
    names = ["a", "segfault", "b", "hang", "c", "raise", "d"]
    mols = [molecule("CCO", name) for name in names]
    table = molgen.evaluate(mols, workers=1, time_limit=2, progress=False).table
    assert table["name"].tolist() == names
    assert table["length"].tolist()[::2] == [1, 1, 1, 1]
    errors = table["error"].tolist()
    assert errors[1] == "process died: SIGSEGV" and errors[3] == "time limit: 2 s"
    assert errors[5] == "length: ValueError: not this one" and not any(errors[::2])
    # What could not be scored is not valid, what lacks a column is.
    assert table["strict_valid"].tolist() == [True, False, True, False, True, True, True]
    assert table["reason"].tolist()[1:4:2] == ["process died: SIGSEGV", "time limit: 2 s"]


def test_a_dear_set_that_hangs_leaves_the_cheap_columns(
    hostile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in [key for key, metric in METRICS.items() if metric.cost != "cheap"]:
        monkeypatch.delitem(METRICS, key)
    dear = Metric("length of the name", row=hostile.row, whole=_mean_length, cost="xtb")
    monkeypatch.setitem(METRICS, "length", dear)
    mols = [molecule("CCO", name) for name in ("a", "hang", "bb")]
    result = molgen.evaluate(mols, include="xtb", workers=1, time_limit=2, progress=False)
    assert result.table["strict_valid"].all() and result.table["reason"].eq("").all()
    assert result.table["error"].tolist() == ["", "time limit: 2 s in xtb", ""]
    assert result.value("length") == 1.5
    assert result.errors() == {"time limit: 2 s in xtb": 1}
    assert result.value("scored_in_part") == pytest.approx(100 / 3)
    assert "time limit: 2 s in xtb (1)" in result.text()
    plain = molgen.evaluate(mols, progress=False)
    assert "length" not in plain.table and "length" not in set(plain.summary["metric"])


def test_a_missing_package_is_said_in_row_and_summary(
    hostile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in [key for key, metric in METRICS.items() if metric.cost != "cheap"]:
        monkeypatch.delitem(METRICS, key)
    for key in ("first", "second", "third"):
        absent = Metric(
            "length",
            row=hostile.row,
            whole=_mean_length,
            cost="xtb",
            needs="no_such_package",
            extra="energy",
        )
        monkeypatch.setitem(METRICS, key, absent)
    result = molgen.evaluate([molecule("CCO"), molecule("C")], include="xtb", progress=False)
    said = 'needs the package no_such_package: pip install "designloom[energy]"'
    assert result.table["error"].tolist() == [f"first, second and 1 more: {said}"] * 2
    assert result.table[["first", "second", "third"]].isna().all().all()
    assert result.table["strict_valid"].all()
    row = result.summary.set_index("metric").loc["first"]
    assert row["n"] == 0 and said in row["definition"]
    assert result.value("scored_in_part") == 100 and "no_such_package" in result.text()


def _mean_length(table: pd.DataFrame) -> tuple[float, int]:
    values = table["length"].dropna()
    return float(values.mean()), len(values)


def test_dear_sets_on_a_sample(monkeypatch: pytest.MonkeyPatch, hostile: Any) -> None:
    for key in [key for key, metric in METRICS.items() if metric.cost != "cheap"]:
        monkeypatch.delitem(METRICS, key)
    dear = Metric("length", row=hostile.row, whole=_mean_length, cost="xtb", failed=-1)
    monkeypatch.setitem(METRICS, "length", dear)
    mols = [molecule("C", "abc") for _ in range(9)] + [None]
    result = molgen.evaluate(mols, include=["xtb"], sample=4, progress=False)
    assert result.table["sampled"].sum() == 4
    assert (result.table["length"].notna() == result.table["sampled"]).all()
    assert result.table["length"].iloc[-1] == -1  # no molecule, and in the sample
    row = result.summary.set_index("metric").loc["length"]
    assert row["n"] == 4 and row["value"] == pytest.approx(2)
    assert "on a sample of 4 of 10 molecules" in row["definition"]


@pytest.mark.parametrize(("sample", "total"), [(1, 1), (3, 10), (10, 10), (20, 10), (200, 12345)])
def test_a_sample_is_evenly_spread(sample: int, total: int) -> None:
    chosen = [i for i in range(total) if is_sampled(i, sample, total)]
    assert len(chosen) == min(sample, total)
    gaps = {b - a for a, b in zip(chosen, chosen[1:], strict=False)}
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "workers: expected 1 or more"),
        ({"time_limit": 0.0}, "time_limit: expected seconds above 0"),
        ({"include": "xtb,gold"}, "include: expected one of posebusters, .*got 'gold'"),
        ({"sample": 0, "include": "xtb"}, "sample: expected at least 1"),
        ({"sample": 3}, "sample: expected an include"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        molgen.evaluate([molecule("C")], **options)
    with pytest.raises(ConfigError, match="whose length is known"):
        molgen.evaluate(iter([molecule("C")]), include="xtb", sample=1)
