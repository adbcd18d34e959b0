"""The shape of the code base: one-way imports, cheap imports, short files, no way to run data."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("diffcore", "molgen", "structgen", "pipelines")
MAX_LINES = 400
HEAVY = ("torch", "rdkit", "lightning", "pandas", "matplotlib", "scipy", "e3nn", "networkx")

SOURCES = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
"""Every module of the packages."""


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of a name or attribute, else an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def test_import_contracts_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    code = lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=str(tmp_path))
    assert code == EXIT_STATUS_SUCCESS


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    program = f"import sys, {package}; print([n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_files_stay_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{relative(path)} has {lines} lines: split it by what it holds"


FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "torch.save", "yaml.load", "yaml.unsafe_load"}
FORBIDDEN_CALLS |= {"torch.manual_seed", "np.random.seed", "numpy.random.seed", "os.system"}


def forbidden(tree: ast.AST) -> Iterator[str]:
    """What runs data as code, or hides a global state, in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
            yield from (f"line {node.lineno}: import {n}" for n in names & FORBIDDEN_IMPORTS)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield f"line {node.lineno}: relative import"
            module = node.module or ""
            if module.split(".")[0] in FORBIDDEN_IMPORTS:
                yield f"line {node.lineno}: from {module}"
            names = {f"{module}.{alias.name}" for alias in node.names}
            yield from (f"line {node.lineno}: {name}" for name in names & FORBIDDEN_CALLS)
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in FORBIDDEN_CALLS:
                yield f"line {node.lineno}: {name}()"
            yield from (
                f"line {node.lineno}: allow_pickle"
                for key in node.keywords
                if key.arg == "allow_pickle"
                and not (isinstance(key.value, ast.Constant) and key.value.value is False)
            )


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_nothing_runs_data_as_code(path: Path) -> None:
    assert list(forbidden(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\nw = torch.load('x')",
        "from torch import load",
        "eval('1')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "from . import sibling",
    ],
)
def test_the_search_finds_a_planted_fault(planted: str) -> None:
    assert len(list(forbidden(ast.parse(planted)))) == 1


@pytest.mark.parametrize(
    "innocent",
    ["model.eval()", "import numpy as np\nnp.load('x', allow_pickle=False)", "import json"],
)
def test_the_search_lets_innocent_code_pass(innocent: str) -> None:
    assert list(forbidden(ast.parse(innocent))) == []
