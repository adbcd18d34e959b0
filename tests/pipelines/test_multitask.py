"""One model of all tasks: trained and compared, small."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffcore.errors import ConfigError
from molgen.tokens.generator import PropertyReader, TokenGenerator
from pipelines.bench_multitask import Compared, bench_multitask, lines
from tests.molgen.test_tokens_mixtures import written
from tests.pipelines.test_tokens import trained

METHODS = ("multitask", "causal", "direct")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a model of all tasks, a reader and a writer."""
    folder = tmp_path_factory.mktemp("multitask")
    return trained(folder, METHODS, mixtures=written(folder))


def model(run: Path, method: str) -> str:
    return str(run / method / f"qm9-{method}-smiles.safetensors")


def test_one_model_reads_writes_and_predicts(run: Path) -> None:
    reader = PropertyReader.from_pretrained(model(run, "multitask"))
    given = [{"x_1": 0.5, "mixture": 1.0}, {"x_1": 0.2, "mixture": 1.0}, {}, {}]
    found = reader.predict(["CO|NC(N)=O", "CO|NC(N)=O", "CO", "CO|C("], given=given)
    assert found["why_not"].map(bool).tolist() == [False, False, False, True]
    assert found["liquidus"][0] != found["liquidus"][1]
    writer = TokenGenerator.from_pretrained(model(run, "multitask"))
    assert len(writer.sample(3, properties={"mixture": 0.0})) == 3
    with pytest.raises(ConfigError, match="multi-task"):
        PropertyReader.from_pretrained(model(run, "direct")).predict(["CO"], given=[{"gap": 1.0}])


def test_the_table_compares_every_task(run: Path) -> None:
    pytest.importorskip("sklearn")
    said = bench_multitask(
        4,
        model(run, "multitask"),
        model(run, "direct"),
        model(run, "causal"),
        data=run / "table.safetensors",
        mixtures=run,
    )
    for task in ("read ", "not valid", "liquidus of", "density of", "viscosity of"):
        assert task in said
    with pytest.raises(ConfigError, match="at least 2"):
        bench_multitask(1)


def test_the_count_is_of_those_that_hold() -> None:
    rows = [Compared("a", "K", 1.0, 2.0, 3.0), Compared("b", "K", 2.0, 1.0, 3.0)]
    said = lines([*rows, Compared("c", "K", float("nan"), 1.0, 3.0)])
    assert said[-1] == "at least as good on 1 of 3 tasks"
