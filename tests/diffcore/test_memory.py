"""Freed memory is kept: the next tensor of the same size costs no page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

from diffcore import memory

PROGRAM = """
import resource, sys
import torch
from diffcore.memory import keep_freed_memory

def pages():  # of 9766 that the tensor has, in the last of several rounds
    for _ in range(20):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

sys.stdout.write(f"{pages()} {keep_freed_memory()} {pages()}")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_used_again() -> None:
    words = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    if done[1] == "False":
        pytest.skip("the C library has no mallopt")
    assert int(done[2]) < int(done[0]) / 10


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not memory.keep_freed_memory()
