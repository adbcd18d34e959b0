"""Campaign files: what is wrong in one is said in one line, and nothing of it is ever run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("sqlalchemy")

from diffcore.errors import ConfigError, DataError, DesignloomError  # noqa: E402
from pipelines.cli import main  # noqa: E402
from pipelines.design.engine import run  # noqa: E402
from pipelines.design.files import read_campaign  # noqa: E402
from pipelines.store.export import campaign_frame  # noqa: E402

GOOD: dict[str, Any] = {
    "name": "trial",
    "generator": {"name": "numbers", "dimensions": 3},
    "objectives": [
        {"evaluator": "first", "goal": "minimise", "reference": 1.1},
        {"evaluator": "zdt1", "goal": "minimise", "reference": 6},
    ],
    "strategy": "best_of_n",
    "batch": 5,
    "generations": 2,
}


def write(folder: Path, values: Any) -> Path:
    path = folder / "campaign.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values), "utf-8")
    return path


def changed(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in (GOOD | changes).items() if value is not None}


WRONG = [
    ({"generatr": "numbers"}, "unknown key 'generatr': did you mean 'generator'"),
    ({"folder": "/"}, "unknown key 'folder'"),
    ({"name": None}, "expected the key 'name'"),
    ({"name": "../up"}, "inside the folder"),
    ({"name": 3}, "name: expected"),
    ({"generator": "nmbers"}, "unknown generator 'nmbers': did you mean 'numbers'"),
    ({"generator": {"name": "numbers", "dimension": 3}}, "'dimension': did you mean 'dimensions'"),
    ({"generator": {"name": "numbers", "dimensions": "3"}}, "dimensions: expected int, got '3'"),
    ({"generator": {"name": "molecules", "model": "qm8"}}, "unknown model 'qm8': .*'qm9'"),
    ({"generator": {"name": "library"}}, "expected the setting 'file'"),
    ({"generator": "os:system"}, "unknown generator 'os:system'"),
    ({"generator": 3}, "generator: expected a name"),
    ({"evaluators": ["qd"]}, "unknown evaluator 'qd': did you mean 'qed'"),
    ({"evaluators": {"gap": {"relx": "xtb"}}}, "setting of evaluator gap 'relx': .*'relax'"),
    ({"evaluators": {"qed": {"x": 1}}}, "setting of evaluator qed 'x'"),
    ({"evaluators": {"uniqueness": {}}}, "unknown evaluator 'uniqueness'"),
    ({"evaluators": "qed"}, "evaluators: expected names"),
    ({"objectives": []}, "expected one to minimise"),
    ({"objectives": {"evaluator": "first"}}, "objectives: expected a list"),
    (
        {"objectives": [{"evaluator": "frist", "goal": "minimise"}]},
        "unknown evaluator 'frist': did you mean 'first'",
    ),
    (
        {"objectives": [{"evaluator": "first", "goal": "minimse"}]},
        "unknown objective of first 'minimse': did you mean 'minimise'",
    ),
    (
        {"objectives": [{"evaluator": "gap", "goal": "target", "value": "4 Ev"}]},
        "unknown unit of value of gap 'Ev': did you mean 'eV'",
    ),
    ({"strategy": "genetc"}, "unknown strategy 'genetc': did you mean 'genetic'"),
    ({"strategy": {"name": "genetic", "populaton": 3}}, "'populaton': did you mean 'population'"),
    ({"executor": "proces"}, "unknown executor 'proces': did you mean 'process'"),
    ({"executor": {"name": "pool", "worker": 2}}, "'worker': did you mean 'workers'"),
    ({"executor": {"name": "pool", "workers": -1}}, "workers of 0 or more"),
    ({"batch": 0}, "batch: expected a whole number from 1"),
    ({"batch": True}, "batch: expected"),
    ({"generations": 1.5}, "generations: expected"),
    ({"seed": -1}, "seed: expected"),
    ({"store": "../elsewhere.sqlite"}, "expected one inside the folder of the campaign"),
    ({"store": "/tmp/elsewhere.sqlite"}, "expected one inside the folder of the campaign"),
    ({"generator": {"name": "library", "file": "../x.smi"}}, "inside the folder of the campaign"),
    ({"store": 3}, "store: expected a path"),
]


@pytest.mark.parametrize(("changes", "said"), WRONG, ids=[said[:40] for _, said in WRONG])
def test_what_is_wrong_is_named_before_anything_starts(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    path = write(tmp_path, changed(**changes))
    with pytest.raises(ConfigError, match=said) as caught:
        read_campaign(path)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["campaign.yaml"]


EVIL = [
    "name: !!python/object/apply:os.system ['touch {mark}']",
    "!!python/object/new:subprocess.Popen [['touch', '{mark}']]",
    "name: !!python/name:os.system",
    "name: !!python/module:os",
    "generator: !include /etc/passwd",
]


@pytest.mark.parametrize("text", EVIL)
def test_tags_that_would_run_code_are_refused(tmp_path: Path, text: str) -> None:
    mark = tmp_path / "ran"
    with pytest.raises(DataError, match="no plain YAML: could not determine a constructor"):
        read_campaign(write(tmp_path, text.format(mark=mark)))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no mapping"),
        ("- a", "no mapping"),
        ("a: [", "no plain YAML"),
        ("a: &x 1\nb: *x", "aliases are not allowed in line 2"),
        ("name: a\nname: b", "'name' is there twice"),
        ("[" * 5000, "no plain YAML"),
        ("# " + "x" * (1 << 20), "more than"),
    ],
)
def test_what_is_no_plain_yaml_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_campaign(write(tmp_path, text))


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_campaign(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_campaign(tmp_path / "bytes.yaml")


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "campaign"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="inside the folder"):
        read_campaign(write(folder, changed(store="link/s.sqlite")))


def test_the_command_checks_runs_resumes_and_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, GOOD)
    assert main(["design", str(path), "--check"]) == 0
    assert "2 generations of 5 by best_of_n" in capsys.readouterr().out
    assert not (tmp_path / "trial.sqlite").exists()

    page = tmp_path / "page.html"
    assert main(["design", str(path), "--page", str(page)]) == 0
    assert "10 candidates" in capsys.readouterr().out
    text = page.read_text("utf-8")
    assert "<svg" in text and "refresh" not in text and "<script" not in text

    assert main(["design", str(path)]) == 2
    assert "give --resume" in capsys.readouterr().err
    assert main(["design", str(path), "--resume", "--generations", "3"]) == 0
    assert "10 made, 20 known before" in capsys.readouterr().out

    store = str(tmp_path / "trial.sqlite")
    assert main(["show", "campaign", store]) == 0
    shown = capsys.readouterr().out
    assert "trial: done" in shown and "15 candidates in 3 generations" in shown
    out = tmp_path / "t.csv"
    assert main(["show", "campaign", store, "-o", str(out)]) == 0
    assert len(out.read_text("utf-8").splitlines()) == 16
    assert main(["show", "campaign", store, "-o", str(out)]) == 2
    assert main(["show", "campaign", store, "-o", str(tmp_path / "t.xls")]) == 2
    assert main(["show", "campaign", store, "-o", str(tmp_path / "t.sdf")]) == 2
    assert "expected a campaign of molecules" in capsys.readouterr().err
    assert main(["show", "campaign", store, "--plot", str(tmp_path / "p.svg")]) == 0
    assert (tmp_path / "p.svg").read_text("utf-8").startswith("<?xml")
    assert main(["show", "campaign", str(tmp_path / "none.sqlite")]) == 2


def test_the_table_can_be_read_as_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pandas as pd

    run(read_campaign(write(tmp_path, GOOD)))
    out = tmp_path / "t.parquet"
    assert main(["show", "campaign", str(tmp_path / "trial.sqlite"), "-o", str(out)]) == 0
    table = pd.read_parquet(out)
    frame = campaign_frame(tmp_path / "trial.sqlite")
    assert table["first"].tolist() == frame["first"].tolist() and len(table) == 10


PLUGIN = """
def half(vector, *, share=0.5):
    return share * vector[0]
half.unit = "eV"
half.version = "7"

def broken(vector):
    raise RuntimeError("on purpose")

class Ones:
    def __init__(self, *, width=2):
        self.width = width
    def sample(self, seed, start, count):
        return [[1.0 / (1 + seed + i)] * self.width for i in range(start, start + count)]

def greedy(context, history):
    from pipelines.design.proposals import best_of_n
    return best_of_n(context, history)

wrong = 3
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package that declares entry points."""
    folder = tmp_path / "site"
    info = folder / "bring_your_own-1.2.dist-info"
    info.mkdir(parents=True)
    (folder / "bring_your_own.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bring-your-own\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[designloom.evaluators]\nhalf = bring_your_own:half\nbroken = bring_your_own:broken\n"
        "missing = bring_your_own:nothing\nwrong = bring_your_own:wrong\n"
        "[designloom.generators]\nones = bring_your_own:Ones\nfunction = bring_your_own:half\n"
        "[designloom.strategies]\ngreedy = bring_your_own:greedy\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    yield
    sys.modules.pop("bring_your_own", None)


def test_packages_bring_their_own_by_entry_point(tmp_path: Path, plugin: None) -> None:
    path = write(
        tmp_path,
        changed(
            generator={"name": "ones", "width": 3},
            evaluators={"half": {"share": 0.25}, "broken": {}},
            objectives=[{"evaluator": "half", "goal": "target", "value": "100 meV"}],
            strategy="greedy",
            batch=4,
            executor={"name": "pool", "workers": 1},
        ),
    )
    campaign = read_campaign(path)
    assert campaign.source.identity["plugin"] == "bring-your-own 1.2"
    half = next(one for one in campaign.evaluators if one.name == "half")
    assert (half.unit, half.version) == ("eV", "bring-your-own 1.2 7")
    assert campaign.aims.goals[0].target == pytest.approx(0.1)
    result = run(campaign)
    assert [row.values["half"] for row in result.history.rows] == [0.25 / n for n in range(1, 9)]
    table = result.table()
    assert set(table["failure"]) == {"broken: RuntimeError: on purpose"}


def test_broken_plugins_are_named(tmp_path: Path, plugin: None) -> None:
    for name, said in (("missing", "cannot be loaded"), ("wrong", "names no function")):
        with pytest.raises(ConfigError, match=said):
            read_campaign(write(tmp_path, changed(evaluators=[name])))
    with pytest.raises(ConfigError, match="setting of evaluator half 'shar': did you mean 'share'"):
        read_campaign(write(tmp_path, changed(evaluators={"half": {"shar": 1.0}})))
    with pytest.raises(DesignloomError):
        read_campaign(write(tmp_path, changed(generator="function")))


def test_an_export_into_a_folder_that_is_not_there(tmp_path: Path) -> None:
    run(read_campaign(write(tmp_path, GOOD)))
    store = str(tmp_path / "trial.sqlite")
    target = str(tmp_path / "no" / "t.csv")
    assert main(["show", "campaign", store, "-o", target]) == 2
    assert os.listdir(tmp_path).count("no") == 0
