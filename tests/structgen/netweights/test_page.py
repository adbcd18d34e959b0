"""The page of network weights: its first example runs as it stands, its figures are the cards'."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from structgen.netweights.weights import shipped


def test_the_first_example_runs(repository: Path) -> None:
    pytest.importorskip("sklearn")
    if "tabular-mlp" not in shipped():
        pytest.skip("the weights tabular-mlp are not in this checkout")
    page = (repository / "docs/network-weights.md").read_text("utf-8")
    block = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)[0]
    names: dict[str, Any] = {}
    exec(compile(block, "docs/network-weights.md", "exec"), names)  # our own page
    said = names["module"](torch.tensor(names["wine"].data).float()).argmax(1).numpy()
    assert len(names["states"]) == 10 and (said == names["wine"].target).mean() > 0.9


def test_the_page_tells_what_the_cards_say(repository: Path) -> None:
    page = (repository / "docs/network-weights.md").read_text("utf-8")
    ledger = (repository / "docs/weights.md").read_text("utf-8")
    for name, path in shipped().items():
        card = json.loads(path.with_suffix(".json").read_text())
        assert f"{card['data']['networks']:,}" in page
        assert f"{card['trained']['steps']:,} steps" in ledger
        assert f"structgen/netweights/weights/{name}.safetensors" in ledger
        assert path.stat().st_size < 12e6
        for figures in card["quality"].values():
            if isinstance(figures, dict):
                assert all(f"{100 * figure:.1f}" in page for figure in figures.values())
