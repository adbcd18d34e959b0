"""What a user installs: packages, data files, the command, and pins that fit the ranges."""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from pipelines.cli import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAX_DATA_FILE = 12_600_000
"""Bytes: twelve megabytes and a little; larger files do not belong in the wheel."""


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.!]*", row) for row in rows)
    return {canonicalize_name(name): Version(v) for name, v in (r.split("==") for r in rows)}


def requirements() -> list[Requirement]:
    groups = PROJECT["project"]["optional-dependencies"].values()
    texts = [*PROJECT["project"]["dependencies"], *(text for group in groups for text in group)]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_dependency_is_pinned_inside_its_range(requirement: Requirement) -> None:
    if requirement.name == "designloom":
        extras = set(PROJECT["project"]["optional-dependencies"])
        assert requirement.extras == extras - {"all"}
        return
    pin = pins()[canonicalize_name(requirement.name)]
    assert pin in requirement.specifier
    assert not any(part.operator == "==" for part in requirement.specifier), "pins go elsewhere"


def test_torch_is_pinned_without_a_build_tag() -> None:
    assert str(pins()["torch"]) == "2.13.0"


def test_copyleft_is_optional() -> None:
    core = {Requirement(text).name for text in PROJECT["project"]["dependencies"]}
    assert not core & {"ase", "openbabel-wheel", "tblite", "meeko"}


def test_every_folder_with_modules_is_a_package() -> None:
    include = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    for top in ("diffcore", "molgen", "structgen", "pipelines"):
        assert f"{top}*" in include
        for folder in {module.parent for module in (ROOT / top).rglob("*.py")}:
            assert (folder / "__init__.py").is_file(), f"{folder} would be left out of the wheel"


def data_files() -> list[Path]:
    tops = [ROOT / top for top in ("diffcore", "molgen", "structgen", "pipelines")]
    paths = [path for top in tops for path in top.rglob("*") if path.is_file()]
    return [path for path in paths if path.suffix != ".py" and path.parent.name != "__pycache__"]


@pytest.mark.parametrize("path", data_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_data_file_is_shipped_and_small(path: Path) -> None:
    top, *rest = path.relative_to(ROOT).parts
    patterns = PROJECT["tool"]["setuptools"]["package-data"][top]
    assert any(fnmatch("/".join(rest), pattern) for pattern in patterns)
    assert path.stat().st_size <= MAX_DATA_FILE


@pytest.mark.parametrize("name", sorted(COMMANDS), ids=" ".join)
def test_every_command_exists_and_can_become_options(name: tuple[str, ...]) -> None:
    command = COMMANDS[name]
    module, function_name = command.target.split(":")
    function = getattr(importlib.import_module(module), function_name)
    parameters = inspect.signature(function).parameters
    assert set(command.short.values()) <= set(parameters)
    assert command.hidden <= set(parameters)
    for parameter in parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty, parameter


def test_the_command_is_installed() -> None:
    try:
        distribution = metadata.distribution("designloom")
    except metadata.PackageNotFoundError:
        pytest.skip("designloom is not installed here: the modules come from the checkout")
    scripts = {entry.name: entry.value for entry in distribution.entry_points}
    assert scripts["designloom"] == "pipelines.cli:main"
    assert distribution.version == PROJECT["project"]["version"]
