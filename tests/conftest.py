"""Settings of the whole suite: deterministic properties, one thread, no display, no user cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch, numpy or matplotlib are imported: pools of threads cost more than they give here.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("designloom", derandomize=True, deadline=None, database=None)
settings.load_profile("designloom")

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory, so that a test leaves nothing in the checkout."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
