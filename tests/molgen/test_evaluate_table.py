"""The table of metrics: units, picklability, threads, and the documentation made from it."""

from __future__ import annotations

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from molgen.datasets.reference import load_reference
from molgen.evaluate import catalogue, chemnet
from molgen.evaluate.prepared import Prepared
from molgen.evaluate.table import METRICS
from tests.molgen.test_evaluate import embedded

DOCS = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"


@pytest.mark.parametrize("name", METRICS)
def test_every_number_has_a_unit_or_is_declared_dimensionless(name: str) -> None:
    metric = METRICS[name]
    if metric.kind == "number":
        assert bool(metric.unit) != metric.dimensionless
    if metric.kind == "flag":
        assert metric.unit == "%"
    if metric.kind == "text":
        assert not metric.unit and not metric.summarised
    assert metric.definition and (metric.row or metric.summarised)
    assert not (metric.whole and metric.against)
    assert metric.row is None or metric.row.__doc__
    assert not metric.needs or metric.extra


def test_columns_hold_what_the_table_says() -> None:
    prepared = Prepared(embedded("C[C@H](O)F"), load_reference("qm9").valency)
    kinds = {"number": (int, float), "flag": bool, "text": str}
    for name, metric in METRICS.items():
        if metric.row is not None and metric.cost == "cheap":
            value = metric.row(prepared)
            assert isinstance(value, kinds[metric.kind]), name
            assert isinstance(value, bool) == (metric.kind == "flag"), name


def test_row_functions_can_be_sent_to_a_worker() -> None:
    for metric in METRICS.values():
        assert pickle.loads(pickle.dumps(metric.row)) is metric.row


def test_row_functions_do_not_mind_threads() -> None:
    rows = {name: m.row for name, m in METRICS.items() if m.row and m.cost == "cheap"}
    mols = [embedded(smiles) for smiles in ("CCO", "c1ccccc1", "CC#N", "C[C@H](O)F")]

    def measured(mol: object) -> dict[str, object]:
        prepared = Prepared(mol)
        return {name: row(prepared) for name, row in rows.items()}

    alone = [measured(mol) for mol in mols]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(measured, mols * 4)) == alone * 4


def test_a_comparison_needs_a_reference_and_its_package() -> None:
    metric = METRICS["bond_length_distance"]
    assert np.isnan(metric.summarise(None, None)[0])
    absent = replace(METRICS["fcd"], needs="no_such_package_at_all")
    assert absent.missing == (
        'needs the package no_such_package_at_all: pip install "designloom[trust]"'
    )
    assert np.isnan(absent.summarise(None, load_reference("qm9"))[0])


def test_the_documentation_is_the_table() -> None:
    assert catalogue.markdown() in DOCS.read_text(encoding="utf-8"), (
        "docs/evaluation.md: paste the output of python -m molgen.evaluate.catalogue"
    )


# ------------------------------------------------------------------------ Frechet distance


def test_frechet_distance_of_normal_distributions_in_closed_form() -> None:
    one, zero = np.array([1.0]), np.array([0.0])
    found = chemnet.frechet(zero, np.array([[4.0]]), one, np.array([[9.0]]))
    assert found == pytest.approx(1 + (2 - 3) ** 2)
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    a, b = rng.uniform(1, 4, 4), rng.uniform(1, 4, 4)
    first, second = turn @ np.diag(a) @ turn.T, turn @ np.diag(b) @ turn.T
    found = chemnet.frechet(np.zeros(4), first, np.zeros(4), second)
    assert found == pytest.approx(((np.sqrt(a) - np.sqrt(b)) ** 2).sum())
    assert chemnet.frechet(np.ones(4), first, np.ones(4), first) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_agrees_with_the_package() -> None:
    fcd = pytest.importorskip("fcd")
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=(60, 12)) @ rng.normal(size=(12, 12)) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package calls SciPy in a deprecated way
        expected = fcd.calculate_frechet_distance(
            mu1=x.mean(0), mu2=y.mean(0), sigma1=np.cov(x.T), sigma2=np.cov(y.T)
        )
    assert chemnet.frechet(*chemnet.moments(x), *chemnet.moments(y)) == pytest.approx(expected)


def test_fcd_of_few_molecules_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.DataFrame({"strict_valid": [True] * 3, "smiles": ["C", "CC", "CCO"]})
    assert np.isnan(chemnet.fcd(table, load_reference("qm9"))[0])
    pytest.importorskip("fcd")
    monkeypatch.setattr(chemnet, "LEAST", 2)
    value, n = chemnet.fcd(table, load_reference("qm9"))
    assert n == 3 and value > 1
