"""The ways to make webs by name, and what they know of a training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffcore.errors import ConfigError, reading
from diffcore.transformer import Size
from structgen.webs.graphs import GraphTask
from structgen.webs.large import SparseTask
from structgen.webs.network import NetworkConfig
from structgen.webs.order import back_edges, order
from structgen.webs.rows import AdjacencyTask, AnalogTask
from structgen.webs.sparse import SparseConfig
from structgen.webs.strings import StringTask
from structgen.webs.task import CLASSES, Statistics, WebTask, features
from structgen.webs.web import THREADS, Web

METHODS: Mapping[str, type[WebTask]] = {
    one.method: one for one in (GraphTask, SparseTask, AnalogTask, AdjacencyTask, StringTask)
}
"""``equivariant`` and ``sparse`` are ours; the others are the three of the paper."""

SIZES: Mapping[str, type[Any]] = {"equivariant": NetworkConfig, "sparse": SparseConfig}
"""Classes of the networks' sizes, where it is not that of a transformer."""


def task_for(method: str, data: Statistics, options: Mapping[str, Any]) -> WebTask:
    """A task of this method.

    Args:
        method: one of `METHODS`.
        data: of the training set.
        options: ``network``, the options of its size, and what else the task has.

    Raises:
        ConfigError: an unknown method or option.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    kind = METHODS[method]
    size = SIZES.get(method, Size)
    rest = {k: _frozen(v) for k, v in options.items()}
    try:
        return kind(data, **{**rest, "network": size(**options.get("network", {}))})
    except TypeError as error:
        raise ConfigError(f"{method}: {error}") from error


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def task_from_json(value: Mapping[str, Any]) -> WebTask:
    """The task of a model's card.

    Raises:
        ConfigError: keys are missing or unknown.
    """
    with reading("a web task"):
        rest = dict(value)
        method = rest.pop("method", GraphTask.method)
        data = Statistics(
            {k: tuple(v) for k, v in rest.pop("marginals").items()},
            {int(k): int(v) for k, v in rest.pop("sizes").items()},
            tuple((float(a), float(b)) for a, b in rest.pop("moments")),
            float(rest.pop("scale")),
            float(rest.pop("ratio", 0.0)),
            int(rest.pop("reach", 0)),
            int(rest.pop("back", 0)),
        )
    return task_for(method, data, rest)


def statistics(
    webs: Sequence[Web], values: Sequence[Mapping[str, float]], seed: int = 0
) -> Statistics:
    """What a model knows of a training set; ``seed`` orders the nodes."""
    rng = np.random.default_rng(seed)
    sizes: dict[int, int] = {}
    anchors, classes, pairs, squares, nodes = 0, np.zeros(CLASSES), 0, 0.0, 0
    reach, back = 0, 0
    for web in webs:
        sizes[web.n_nodes] = sizes.get(web.n_nodes, 0) + 1
        anchors += int(web.anchors.sum())
        nodes += web.n_nodes
        pairs += web.n_nodes * (web.n_nodes - 1) // 2
        classes[1:] += np.bincount(web.thread, minlength=len(THREADS))
        centred = (web.pos - web.pos.mean(0)) / web.lengths.mean()
        squares += float((centred**2).sum())
        threads = back_edges(web.take_nodes(order(web, rng)), web.n_nodes)
        reach = max(reach, *(far for one in threads for far, _ in one))
        back = max(back, *(len(one) for one in threads))
    classes[0] = pairs - classes.sum()
    share = anchors / nodes
    table = np.array([features(v) for v in values])
    known = np.isfinite(table)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, table, 0).sum(0) / count
    std = np.sqrt(np.where(known, (table - mean) ** 2, 0).sum(0) / count)
    return Statistics(
        {
            "anchor": (1 - share, share),
            "edge": tuple((classes / classes.sum()).round(8).tolist()),
        },
        dict(sorted(sizes.items())),
        tuple(
            (round(float(m), 6), round(max(float(s), 1e-3), 6))
            for m, s in zip(mean, std, strict=True)
        ),
        round(float(np.sqrt(squares / (3 * nodes))), 4),
        round(max(web.n_edges / web.n_nodes for web in webs), 4),
        reach,
        back,
    )
