"""Web files: GraphML, MATLAB's .mat of traced webs, tables of nodes and edges, JSON lines.

A table is a pair of CSV files: ``NAME.nodes.csv`` (x, y, z, anchor) and ``NAME.edges.csv`` (i, j,
thread, radius, tension); only x, y, i and j are needed.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffcore.errors import ConfigError, DataError, OutputError
from diffcore.files import write_whole
from structgen.webs.web import THREADS, Web, make_web, thread_class

SUFFIXES = (".graphml", ".mat", ".nodes.csv", ".jsonl")


def read_web(path: str | Path) -> Web:
    """The web in a file (the first one of a .jsonl).

    Raises:
        DataError: the file cannot be read as a web.
        ConfigError: an unknown ending.
    """
    return next(iter(read_webs(path)))


def read_webs(path: str | Path) -> list[Web]:
    """All webs of a file: one, or as many as a .jsonl has lines.

    Raises:
        DataError: the file cannot be read, is empty or holds something else.
        ConfigError: an unknown ending.
    """
    path = Path(path)
    ending = next((s for s in SUFFIXES if path.name.endswith(s)), None)
    if ending is None:
        raise ConfigError(f"{path}: expected a file ending in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        found = list(_READERS[ending](path))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # parsers of three libraries
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(f"{path} is not a web file: {reason}") from error
    if not found:
        raise DataError(f"{path}: expected a web, found none")
    return found


def _read_graphml(path: Path) -> Iterator[Web]:
    import networkx as nx

    graph = nx.read_graphml(path)
    for node, data in graph.nodes(data=True):
        if "pos" not in data:
            if not {"x", "y"} <= set(data):
                raise DataError(f"node {node!r} has no x and y")
            data["pos"] = (float(data["x"]), float(data["y"]), float(data.get("z", 0.0)))
    from structgen.webs.web import from_networkx

    yield from_networkx(nx.Graph(graph))


def _read_mat(path: Path) -> Iterator[Web]:
    from scipy.io import loadmat

    content = loadmat(path)
    lacking = {"nodes", "edges"} - set(content)
    if lacking:
        raise DataError(f"expected arrays 'nodes' and 'edges', found no {sorted(lacking)[0]!r}")
    web = make_web(content["nodes"], np.asarray(content["edges"], dtype=np.int64) - 1)
    yield web.but(anchors=web.degrees == 1) if (web.degrees == 1).any() else web


def _read_tables(path: Path) -> Iterator[Web]:
    edges_path = path.with_name(path.name.removesuffix(".nodes.csv") + ".edges.csv")
    nodes, edges = _rows(path, ("x", "y")), _rows(edges_path, ("i", "j"))
    yield make_web(
        [[_number(r, n, "0") for n in ("x", "y", "z")] for r in nodes],
        [[int(r["i"]), int(r["j"])] for r in edges],
        thread=[thread_class(r.get("thread") or 0) for r in edges],
        radius=[_number(r, "radius", "1") for r in edges],
        tension=[_number(r, "tension", "0") for r in edges],
        anchors=[k for k, r in enumerate(nodes) if (r.get("anchor") or "0") in ("1", "True")]
        or None,
    )


def _number(row: dict[str, str], name: str, default: str) -> float:
    return float(row.get(name) or default)


def _rows(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataError(f"expected the table {path.name} beside it")
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        lacking = set(needed) - set(reader.fieldnames or ())
        if lacking:
            raise DataError(f"{path.name}: expected a column {sorted(lacking)[0]!r}")
        return list(reader)


def _read_lines(path: Path) -> Iterator[Web]:
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            yield from_json(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"line {number}: {error}") from error


def to_json(web: Web) -> dict[str, Any]:
    """A value of plain lists."""
    return {
        "pos": np.round(web.pos, 9).tolist(),
        "edges": web.edges.tolist(),
        "thread": web.thread.tolist(),
        "radius": web.radius.tolist(),
        "tension": np.round(web.tension, 9).tolist(),
        "anchors": np.flatnonzero(web.anchors).tolist(),
    }


def from_json(value: dict[str, Any]) -> Web:
    """The web of such a value.

    Raises:
        DataError: it is no web.
    """
    anchors = value.get("anchors") or None
    options = {n: value[n] for n in ("thread", "radius", "tension") if n in value}
    return make_web(value["pos"], value["edges"], anchors=anchors, **options)


_READERS: dict[str, Callable[[Path], Iterable[Web]]] = {
    ".graphml": _read_graphml,
    ".mat": _read_mat,
    ".nodes.csv": _read_tables,
    ".jsonl": _read_lines,
}


def write_web(web: Web, path: str | Path, *, force: bool = False) -> Path:
    """Write one web; the ending chooses the format: .graphml, .nodes.csv or .jsonl.

    Raises:
        OutputError: the file exists and `force` is not given, or cannot be written.
        ConfigError: an unknown ending.
    """
    return write_webs([web], path, force=force)


def write_webs(webs: Iterable[Web], path: str | Path, *, force: bool = False) -> Path:
    """Write webs; only a .jsonl can hold more than one.

    Raises:
        OutputError: the file exists and `force` is not given, or cannot be written.
        ConfigError: an unknown ending, or more webs than the format holds.
    """
    path, found = Path(path), list(webs)
    known = (".graphml", ".nodes.csv", ".jsonl")
    ending = next((s for s in known if path.name.endswith(s)), None)
    if ending is None:
        raise ConfigError(f"{path}: expected a file ending in {', '.join(known)}")
    if ending != ".jsonl" and len(found) != 1:
        raise ConfigError(f"{path}: a {ending} file holds one web, got {len(found)}: use .jsonl")
    if path.exists() and not force:
        raise OutputError(f"{path} exists already; give --force to overwrite it")
    if ending == ".nodes.csv":
        edges_path = path.with_name(path.name.removesuffix(".nodes.csv") + ".edges.csv")
        write_whole(edges_path, _edge_table(found[0]))
        return write_whole(path, _node_table(found[0]))
    if ending == ".graphml":
        return write_whole(path, _graphml(found[0]))
    return write_whole(path, "".join(json.dumps(to_json(web)) + "\n" for web in found))


def _graphml(web: Web) -> str:
    import networkx as nx

    graph = web.to_networkx()
    for _, data in graph.nodes(data=True):
        data["x"], data["y"], data["z"] = data.pop("pos")
    return "\n".join(nx.generate_graphml(graph)) + "\n"


def _node_table(web: Web) -> str:
    rows = [
        f"{x!r},{y!r},{z!r},{int(a)}"
        for (x, y, z), a in zip(web.pos.tolist(), web.anchors, strict=True)
    ]
    return "\n".join(["x,y,z,anchor", *rows]) + "\n"


def _edge_table(web: Web) -> str:
    rows = [
        f"{i},{j},{THREADS[k]},{r!r},{t!r}"
        for (i, j), k, r, t in zip(
            web.edges.tolist(), web.thread, web.radius.tolist(), web.tension.tolist(), strict=True
        )
    ]
    return "\n".join(["i,j,thread,radius,tension", *rows]) + "\n"
