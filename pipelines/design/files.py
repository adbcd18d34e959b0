"""Campaign files: YAML that holds data and never code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffcore.errors import ConfigError, DataError
from pipelines.design.campaign import Campaign, from_mapping
from pipelines.design.names import unknown
from pipelines.design.sources import inside

MAX_BYTES = 1 << 20
"""A campaign file is a page; anything larger is none."""


def read_campaign(path: str | Path, **changes: Any) -> Campaign:
    """The campaign of a file, checked.

    Args:
        path: YAML file; its folder holds all files that it names. Or the name of a shipped one,
            which works in the current folder.
        changes: keys that replace those of the file, where they are not None.

    Raises:
        DataError: the file is missing or is no YAML.
        ConfigError: anything in it is unknown, missing or out of range.
    """
    path = shipped_or_file(path)
    folder = Path() if path in shipped().values() else path.parent
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise DataError(f"{path}: expected keys such as name and generator, got no mapping")
    values |= {key: value for key, value in changes.items() if value is not None}
    values["store"] = _store(folder, values)
    try:
        return from_mapping(values, folder)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def shipped() -> dict[str, Path]:
    """Campaigns that come with the package, by name."""
    from importlib.resources import files

    folder = Path(str(files("pipelines"))) / "campaigns"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def shipped_or_file(name: str | Path) -> Path:
    """A campaign file, or the one of a shipped campaign by its name.

    Raises:
        ConfigError: neither.
    """
    path, known = Path(name), shipped()
    if path.suffix in (".yaml", ".yml") or path.exists():
        return path
    if str(name) not in known:
        raise unknown("campaign", str(name), [*known, "or a .yaml file"])
    return known[str(name)]


def _store(folder: Path, values: dict[str, Any]) -> str:
    """A URL as it is; a path inside the campaign's folder."""
    store = values.get("store") or f"{values.get('name', 'campaign')}.sqlite"
    if not isinstance(store, str):
        raise ConfigError(f"store: expected a path or a URL, got {store!r}")
    if "://" in store:
        return store
    return str(inside(folder, store))


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML file: tags that would make objects are refused.

    Raises:
        DataError: the file cannot be read, is too large, or is no such YAML.
    """
    import yaml

    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: expected a campaign file, got more than {MAX_BYTES} bytes")
        text = path.read_text("utf-8")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected text in UTF-8") from error
    try:
        loader = _loader()(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        problem = getattr(error, "problem", None) or "too deeply nested"
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark is not None else ""
        raise DataError(f"{path}: no plain YAML: {problem}{line}") from error


def _loader() -> Any:
    """PyYAML's safe loader, without aliases and without two equal keys.

    A few lines of aliases could fill the memory; of two equal keys one would be lost.
    """
    import yaml

    class Plain(yaml.SafeLoader):  # type: ignore[misc]
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                mark = self.peek_event().start_mark
                raise yaml.composer.ComposerError(None, None, "aliases are not allowed", mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = [key.value for key, _ in node.value]
            twice = next((key for key in seen if seen.count(key) > 1), None)
            if twice is not None:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {twice!r} is there twice", node.start_mark
                )
            return super().construct_mapping(node, deep)

    return Plain
