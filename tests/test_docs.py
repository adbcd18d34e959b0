"""The pages under docs/: their examples run, their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from diffcore.samplers import SOLVERS
from diffcore.searches import SEARCHES
from molgen.weights.files import shipped
from pipelines.cli import main


def python_blocks(page: Path) -> list[str]:
    """The fenced Python code of a page, in order."""
    found = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [str(block) for block in found]


def test_the_examples_of_diffcore_run_and_do_what_the_page_says(repository: Path) -> None:
    page = repository / "docs/diffcore.md"
    names: dict[str, Any] = {}
    for block in python_blocks(page):
        exec(compile(block, str(page), "exec"), names)  # our own page, in order, as a reader would

    nearest = torch.cdist(names["made"]["point"], names["centres"])
    assert nearest.min(1).values.max() < 1.0
    assert torch.equal(nearest.argmin(1), names["made"]["label"][:, 0])
    assert nearest.argmin(1).bincount(minlength=3).min() > 10
    third = torch.cdist(names["third"]["point"], names["centres"]).argmin(1)
    assert torch.equal(third, torch.full((64,), 2))
    assert (names["denoiser"].calls, names["denoiser"].evaluations) == (60, 3840)
    assert f"{names['denoiser'].evaluations:,} rows" in page.read_text("utf-8")
    gradients = [p.grad for p in names["network"].parameters()]
    assert all(g is not None and g.isfinite().all() and g.any() for g in gradients)
    assert set(names["parts"]) == {"point", "label"}


def test_the_tools_of_steering_do_what_the_page_says(repository: Path) -> None:
    text = (repository / "docs/steering.md").read_text("utf-8")
    shared = [
        part for part in text.split("\n## ") if part.startswith(("The tools", "Search", "Reading"))
    ]
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", "\n".join(shared), re.DOTALL | re.MULTILINE)
    for block in blocks:
        exec(compile(block, "docs/steering.md", "exec"), names)  # our own page, in order

    def share(name: str, centre: int) -> float:
        nearest = torch.cdist(names[name]["point"], names["centres"]).argmin(1)
        return float((nearest == centre).double().mean())

    assert share("strong", 0) == share("mixed", 0) == share("again", 0) == share("moved", 1) == 1
    assert share("neither", 0) < 0.1 and share("between", 2) < 0.1
    assert share("pulled", 0) > 0.45 and (names["pulled"]["class"] == 2).double().mean() < 0.25
    # forbidden, but for points that the denoiser knows by heart with no other class
    assert (names["without"]["class"] == 0).double().mean() < 0.1
    assert share("measured", 0) > 0.7 and share("varied", 0) > 0.2
    assert torch.equal(names["filled"]["point"][:, 0], names["rows"]["point"][:, 0])
    for field in ("point", "class"):
        assert torch.equal(names["again"][field], names["zeros"][field])
    torch.testing.assert_close(names["back"]["point"], names["zeros"]["point"], rtol=0, atol=0.05)
    assert names["found"].rewards[0] > 2.2 and names["found"].evaluations <= 2000
    assert (names["nats"] > names["less"] + 5).all()
    own = names["near"][:50].unsqueeze(1)  # p(class | point) is 0.8 for the class of its centre
    assert 0.6 < float(names["posterior"].gather(1, own).mean()) < 0.95
    assert [name for name in SEARCHES if f"| `{name}` |" not in text] == []


def test_every_solver_is_on_the_page(repository: Path) -> None:
    page = (repository / "docs/diffcore.md").read_text("utf-8")
    assert [name for name in SOLVERS if f"| `{name}` |" not in page] == []


def refusals(page: Path) -> list[tuple[str, str]]:
    """The pairs (command, error line) that a page shows."""
    form = r"^\$ designloom (.+)\n(designloom: error: .+)$"
    return re.findall(form, page.read_text("utf-8"), re.MULTILINE)


def test_bad_input_is_refused_in_the_words_of_the_page(
    repository: Path, working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = shipped()
    if "qm9" not in models:
        pytest.skip("the weights qm9 are not in this checkout")
    Path("torn.safetensors").write_bytes(models["qm9"].read_bytes()[:1000])
    Path("torn.json").write_bytes(models["qm9"].with_suffix(".json").read_bytes())
    for name, text in (("exists.sdf", "kept"), ("empty.sdf", ""), ("text.sdf", "no molecules")):
        Path(name).write_text(text, encoding="utf-8")
    before = {path.name: path.read_bytes() for path in working_directory.iterdir()}

    shown = refusals(repository / "docs/molecules.md")
    assert len(shown) > 10
    for command, line in shown:
        assert main(command.split()) == 2, command
        error = capsys.readouterr().err.strip()
        assert re.fullmatch(re.escape(line).replace(r"\.\.\.", ".+"), error), error
    assert {path.name: path.read_bytes() for path in working_directory.iterdir()} == before


def test_links_between_pages_lead_to_files(repository: Path) -> None:
    pages = [*repository.glob("*.md"), *(repository / "docs").rglob("*.md")]
    assert len(pages) > 5
    missing = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text("utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not missing
