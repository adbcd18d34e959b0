"""The campaigns that ship, at small size; strategies' parts; what the page and the bench show."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("sklearn")

from diffcore.errors import ConfigError, DataError  # noqa: E402
from pipelines.bench_design import Remembering, bench_design  # noqa: E402
from pipelines.cli import main  # noqa: E402
from pipelines.design.archive import cell_elites  # noqa: E402
from pipelines.design.campaign import Campaign, make_campaign  # noqa: E402
from pipelines.design.engine import Progress, run  # noqa: E402
from pipelines.design.evaluators import Scene, make_evaluator  # noqa: E402
from pipelines.design.executors import InProcess  # noqa: E402
from pipelines.design.files import read_campaign, shipped  # noqa: E402
from pipelines.design.forms import FORMS, encode  # noqa: E402
from pipelines.design.gaussian import components  # noqa: E402
from pipelines.design.live import Live  # noqa: E402
from pipelines.design.page import write_page  # noqa: E402
from pipelines.design.surrogate import acquire, thompson  # noqa: E402
from structgen.webs.web import THREADS  # noqa: E402


def small(name: str, folder: Path, **changes: Any) -> Campaign:
    campaign = read_campaign(name, **{"batch": 4, "generations": 2} | changes)
    return dataclasses.replace(campaign, store=str(folder / "s.sqlite"))


def has_qm9() -> bool:
    from molgen.weights.files import shipped as models

    return "qm9" in models()


def test_every_shipped_campaign_is_sound(working_directory: Path) -> None:
    assert set(shipped()) == {"gap", "gap-quick", "web"}
    for name in shipped():
        if name == "web" or has_qm9():
            pytest.importorskip("tblite")
            assert main(["design", name, "--check"]) == 0
    assert list(working_directory.iterdir()) == []
    with pytest.raises(ConfigError, match="unknown campaign 'gapp': did you mean 'gap'"):
        read_campaign("gapp")


def test_the_molecule_campaign(working_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tblite")
    if not has_qm9():
        pytest.skip("the weights qm9 are not in this checkout")
    text = shipped()["gap-quick"].read_text("utf-8")
    text = text.replace("model: qm9", "model: qm9\n  steps: 12").replace("pool", "process")
    Path("small.yaml").write_text(text.replace("batch: 12", "batch: 9"))
    words = ["design", "small.yaml", "--generations", "2", "--page", "page.html"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "18 candidates" in said and "hypervolume" in said
    page = Path("page.html").read_text("utf-8")
    assert "weights" in page and "<script" not in page and "http" not in page.replace("http-eq", "")
    assert main(["show", "campaign", "gap-quick.sqlite", "-o", "all.sdf"]) == 0
    from molgen.io import read_molecules

    entries = list(read_molecules("all.sdf"))
    assert len(entries) == 18 and all(entry.mol.HasProp("gap") for entry in entries)
    shown = capsys.readouterr().out
    assert "gap:" in shown and "18 candidates in 2 generations, 0 failed" in shown


def test_the_web_campaign(tmp_path: Path) -> None:
    result = run(small("web", tmp_path, batch=9), executor=InProcess())
    assert len(result.history.rows) == 18 and result.hypervolume and result.hypervolume > 0
    assert len({row.values["web_toughness"] for row in result.front}) == 1
    for row in result.front:
        assert 10 < row.values["web_toughness"] < 330  # MJ/m^3: dragline itself takes 164


def test_webs_are_compared_at_one_volume_of_silk() -> None:
    from pipelines.design.webs import Orbs, silk_volume, web_toughness

    pytest.importorskip("numba")
    measures = next(Orbs().sample(0, 0, 1))
    own = silk_volume(measures)
    assert 0 < own < 0.1
    as_laid = web_toughness(measures)
    assert web_toughness(measures, material=own) == pytest.approx(as_laid)
    # thicker threads of the same shape carry more, not more for each volume
    assert web_toughness(measures, material=2 * own) == pytest.approx(as_laid, rel=0.05)
    with pytest.raises(ConfigError, match="material"):
        web_toughness(measures, material=-1.0)
    with pytest.raises(ConfigError, match="wire_thickness"):
        web_toughness({**measures, "wire_thickness": 1.0})


def test_a_web_with_thicker_threads_of_a_class_is_still_in_balance() -> None:
    from pipelines.design.webs import Orbs, silk_volume
    from pipelines.design.webs import _web as laid
    from structgen.webs.equilibrium import residual

    measures = next(Orbs().sample(0, 0, 1))
    plain = {k: 1.0 if k.endswith("_thickness") else v for k, v in measures.items()}
    web = laid(json.dumps({**plain, "frame_thickness": 2.0}), 0)
    without = laid(json.dumps({k: v for k, v in plain.items() if "thick" not in k}), 0)
    frame = web.thread == THREADS.index("frame")
    assert np.allclose(web.radius[frame], 2 * without.radius[frame])
    assert np.allclose(web.radius[~frame], without.radius[~frame])
    assert residual(web) < 1e-6 and (web.tension > 0).all()
    assert silk_volume({**plain, "spiral_thickness": 0.3}) < silk_volume(plain)


def test_docking_is_an_evaluator(tmp_path: Path) -> None:
    for package in ("vina", "meeko", "openbabel", "posebusters"):
        pytest.importorskip(package)
    with pytest.raises(DataError, match="is no file"):
        make_evaluator("vina", {"pocket": "none.pdb"}, tmp_path)
    with pytest.raises(ConfigError, match="inside the folder"):
        make_evaluator("vina", {"pocket": "../x.pdb"}, tmp_path)
    (tmp_path / "a.pdb").write_text("ATOM")
    (tmp_path / "b.pdb").write_text("ATOM")
    (tmp_path / "c.pdb").write_text("HETATM")
    one, same, other = (make_evaluator("vina", {"pocket": f"{n}.pdb"}, tmp_path) for n in "abc")
    assert one.identity == same.identity != other.identity, "the content counts, not the place"


def test_gap_of_known_molecules() -> None:
    pytest.importorskip("tblite")
    gap = make_evaluator("gap", {"relax": "mmff"})
    found = {s: gap.measure(Scene("smiles", s)) for s in ("C", "c1ccccc1", "C=CC=CC=C")}
    # alkanes above arenes above polyenes; benzene by GFN2-xTB is at 4.8 eV
    assert found["C"] > 10 > found["c1ccccc1"] > found["C=CC=CC=C"] > 1
    assert found["c1ccccc1"] == pytest.approx(4.8, abs=0.3)
    with pytest.raises(DataError, match="odd number"):
        make_evaluator("gap", {"relax": "none"}).measure(Scene("smiles", "C[CH2]"))


def test_forms_keep_what_they_hold() -> None:
    from rdkit import Chem

    from molgen.orbitals import with_geometry

    mol = with_geometry(Chem.AddHs(Chem.MolFromSmiles("C[N+](=O)[O-]")))
    one = encode(mol, {})
    back = FORMS["molecule"].decode(one.content)
    assert Chem.MolToSmiles(back) == Chem.MolToSmiles(mol) and one.origin["smiles"]
    gone = back.GetConformer().GetPositions() - mol.GetConformer().GetPositions()
    assert np.abs(gone).max() < 1e-4
    assert encode("OCC", {}).key == encode("CCO", {}).key != encode("CCC", {}).key
    assert encode({"a": 1, "b": 2}, {}).key == encode({"b": 2, "a": 1}, {}).key
    for wrong in (3, "nonsense", [float("nan")], object()):
        with pytest.raises(DataError):
            encode(wrong, {})


def test_acquisition_prefers_what_improves() -> None:
    known = np.array([[1.0, 1.0]])
    sure = np.array([[[0.5, 0.5]] * 4, [[2.0, 2.0]] * 4, [[0.2, 1.5]] * 4, [[np.inf, 0.0]] * 4])
    assert acquire(sure, known, (3.0, 3.0), 2) == [0, 2]
    assert acquire(sure, known, (3.0, 3.0), 3)[-1] == 1, "what cannot be is last"
    assert thompson(sure, known, (3.0, 3.0), 2) == [0, 2]
    # uncertain: worse on average, but half of the members expect much
    hopes = np.array([[[0.9, 0.9]] * 2, [[0.0, 0.0], [2.0, 2.0]]])
    assert acquire(hopes, known, (3.0, 3.0), 1) == [1]


GOALS = [
    {"evaluator": "first", "goal": "minimise", "reference": 1.1},
    {"evaluator": "zdt1", "goal": "minimise", "reference": 6},
]


def test_an_acquisition_of_botorch_beats_chance(tmp_path: Path) -> None:
    pytest.importorskip("botorch")

    def reached(strategy: Any, name: str) -> float:
        store = tmp_path / f"{name}.sqlite"
        options = {"batch": 8, "generations": 4, "strategy": strategy, "store": store}
        found = run(make_campaign("b", {"name": "numbers", "dimensions": 3}, GOALS, **options))
        assert len(found.history.rows) == 32 and found.hypervolume is not None
        return found.hypervolume

    gaussian = {"name": "surrogate", "acquisition": "botorch"}
    first = reached(gaussian, "one")
    assert first > reached("best_of_n", "none")
    assert first == reached(gaussian, "two"), "the same seed chooses the same"


def test_components_are_the_leading_ones_of_what_was_seen() -> None:
    seen = np.outer(np.random.default_rng(0).normal(size=9), [3.0, 0.0, 1.0])
    known, new = components(seen, seen[:2] * 1.0)
    assert known.shape == (9, 2) and np.allclose(new, known[:2])
    assert known.min() >= 0 and known.max() <= 1
    along = np.corrcoef(known[:, 0], seen[:, 0])[0, 1]
    assert abs(along) == pytest.approx(1, abs=1e-6)
    flat, other = components(np.ones((4, 2)), np.zeros((3, 2)))
    assert flat.shape == (4, 1) and other.shape == (3, 1)


def test_the_sampler_is_searched_for_what_the_ensemble_expects(tmp_path: Path) -> None:
    options = {"batch": 8, "generations": 3, "seed": 1}
    goals = [{"evaluator": "heavy_atoms", "goal": "minimise", "reference": 9}]
    source = {"name": "molecules", "steps": 15}
    ways = {name: {"name": name} for name in ("search", "best_of_n")}
    ways["search"]["trajectories"] = 4
    found = {
        name: run(
            make_campaign(
                "s", source, goals, strategy=way, store=tmp_path / f"{name}.sqlite", **options
            )
        )
        for name, way in ways.items()
    }
    rows = found["search"].history.rows
    searched = [row for row in rows if row.candidate.origin.get("search") == "evolution"]
    assert searched and all(row.generation > 0 for row in searched)

    def mean(name: str) -> float:
        later = [r for r in found[name].history.rows if r.generation > 0]
        return float(np.mean([row.values["heavy_atoms"] for row in later if row.values]))

    assert mean("search") < mean("best_of_n")
    with pytest.raises(ConfigError, match="cannot be searched"):
        run(
            make_campaign(
                "n", "numbers", GOALS, strategy="search", store=tmp_path / "n.sqlite", batch=4
            )
        )


def test_the_archive_keeps_the_best_of_each_cell(tmp_path: Path) -> None:
    goals = [{"evaluator": "first", "goal": "minimise", "reference": 1.1}]
    campaign = make_campaign(
        "a",
        "numbers",
        goals,
        batch=20,
        generations=3,
        store=tmp_path / "a.sqlite",
        strategy={"name": "archive", "axes": ["zdt1"], "cells": 4},
        evaluators=["zdt1"],
    )
    history = run(campaign).history
    cells = cell_elites(history, ["zdt1"], 4)
    assert 2 <= len(cells) <= 4
    values = [row.values["zdt1"] for row in history.rows]
    low, width = min(values), (max(values) - min(values)) / 4
    for (cell,), row in cells.items():
        others = [
            r.values["first"]
            for r in history.rows
            if min(3, int((r.values["zdt1"] - low) / width)) == cell
        ]
        assert row.values["first"] == min(others)
    with pytest.raises(ConfigError, match="axis of the archive 'zdt2'.*'zdt1'"):
        cell_elites(history, ["zdt2"], 4)


def test_the_page_is_renewed_while_it_runs(tmp_path: Path) -> None:
    campaign = make_campaign(
        "<b>name",
        "numbers",
        [{"evaluator": n, "goal": "minimise", "reference": 9} for n in ("first", "zdt1")],
        batch=5,
        generations=3,
        strategy="genetic",
        store=tmp_path / "p.sqlite",
    )
    told: list[Progress] = []
    page = tmp_path / "page.html"
    with Live(campaign, page, show=False) as live:

        def tell(progress: Progress) -> None:
            told.append(progress)
            live(progress)

        run(campaign, tell=tell)
    text = page.read_text("utf-8")
    assert 'http-equiv="refresh"' in text and "<b>name" not in text and "&lt;b&gt;name" in text
    assert told[-1].done == told[-1].total == 15
    assert [p.done for p in told] == sorted(p.done for p in told)
    write_page(page, told[-1])
    assert "15 of 15 candidates" in page.read_text("utf-8")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_generator_that_remembers_does_all_else_as_before() -> None:
    class Source:
        made = 0

        def sample(self, seed: int, start: int, count: int) -> Any:
            self.made += count
            return range(start, start + count)

        def vary(self, parents: Any, rng: Any) -> str:
            return "child"

        def seek(self, *_: Any) -> str:
            return "found"

    source = Source()
    kept = Remembering(source)
    assert list(kept.sample(0, 2, 3)) == [2, 3, 4] == list(kept.sample(0, 2, 3))
    assert source.made == 5 and kept.vary([], None) == "child" and kept.seek() == "found"
    assert not hasattr(kept, "finish")


def test_strategies_are_compared(tmp_path: Path) -> None:
    figure = tmp_path / "f.png"
    options: dict[str, Any] = {"seeds": 2, "batch": 10, "generations": 2, "plot": figure}
    text = bench_design("web", strategies="genetic,best_of_n", folder=tmp_path, **options)
    assert "web: hypervolume after 20 candidates, 2 seeds" in text
    assert "genetic / best_of_n: " in text and figure.read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ConfigError, match="at least one seed"):
        bench_design("web", seeds=0)
