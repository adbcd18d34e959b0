"""The pages under docs/: their examples run, their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch


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
