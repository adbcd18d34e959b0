"""What webs are measured by: the paper's seven parameters, distributions, novelty.

Plain functions of webs; lengths in mm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from diffcore.errors import ConfigError
from structgen.webs.web import Floats, Web

PARAMETERS: dict[str, Callable[[Web], float]] = {
    "mean_edge_length": lambda web: float(web.lengths.mean()),
    "mean_dx": lambda web: float(np.abs(web.spans[:, 0]).mean()),
    "mean_dy": lambda web: float(np.abs(web.spans[:, 1]).mean()),
    "mean_dz": lambda web: float(np.abs(web.spans[:, 2]).mean()),
    "n_nodes": lambda web: float(web.n_nodes),
    "n_edges": lambda web: float(web.n_edges),
    "edges_per_node": lambda web: web.n_edges / web.n_nodes,
}
"""The seven conditioning parameters of Lu, Lee and Buehler 2023."""

AXES = ("mean_dx", "mean_dy", "mean_dz")
COUNTS = ("n_nodes", "n_edges", "edges_per_node")
MECHANICS = ("stiffness", "strength", "toughness")


def parameters(web: Web) -> dict[str, float]:
    """The seven parameters of a web."""
    return {name: function(web) for name, function in PARAMETERS.items()}


def mechanics(web: Web, silk: str = "araneus") -> dict[str, float]:
    """Stiffness (uN/mm), strength (uN), toughness (MJ/m^3) and strain at peak of a stretch.

    Raises:
        DataError: the web cannot be pulled.
    """
    from structgen.webs.mechanics import pull

    test = pull(web, silk=silk, steps=0.02)
    return {
        "stiffness": test.stiffness,
        "strength": test.strength,
        "toughness": test.toughness,
        "strain_at_peak": test.break_strain,
    }


def measure(web: Web, *, silk: str | None = None) -> dict[str, float]:
    """Everything about one web in a row of a table.

    Args:
        web: any web.
        silk: pull it too, with the silks of this set; NaN never stands in a row: a web that cannot
            be pulled has no such columns, and `why_not` says why.
    """
    from structgen.webs.equilibrium import residual

    degrees, lengths = web.degrees, web.lengths
    row = parameters(web) | {
        "anchors": float(web.anchors.sum()),
        "connected": float(web.connected),
        "isolated_nodes": float((degrees == 0).sum()),
        "mean_degree": float(degrees.mean()),
        "degree_4_share": float((degrees == 4).mean()),
        "shortest_mm": float(lengths.min()),
        "longest_mm": float(lengths.max()),
        "volume_mm3": web.volume,
    }
    if web.tension.max() > 0 and lengths.min() > 0:
        row["residual"] = residual(web)
    if silk is not None and not why_not(web):
        row |= mechanics(web, silk)
    return row


def why_not(web: Web) -> str:
    """Why a web cannot be pulled, in a line; empty if it can."""
    from diffcore.errors import DataError
    from structgen.webs.mechanics import rest_lengths, stretch
    from structgen.webs.silk import silk_set

    try:
        stretch(web)
        rest_lengths(web, silk_set("araneus"))
    except (DataError, ConfigError) as error:
        return str(error)
    return ""


def wasserstein(one: Iterable[float], other: Iterable[float]) -> float:
    """First Wasserstein distance of two samples, in their unit (scipy)."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(list(one), list(other)))


def distances(webs: Sequence[Web], reference: Sequence[Web]) -> dict[str, float]:
    """Wasserstein distances of pooled degrees and of pooled lengths over each web's mean length.

    Raises:
        ConfigError: no webs on one side.
    """
    if not webs or not reference:
        raise ConfigError(f"expected webs to compare, got {len(webs)} and {len(reference)}")

    def lengths(group: Sequence[Web]) -> Floats:
        return np.concatenate([w.lengths / w.lengths.mean() for w in group])

    def degrees(group: Sequence[Web]) -> Floats:
        return np.concatenate([w.degrees for w in group]).astype(np.float64)

    anchors = [
        wasserstein((w.anchors.mean() for w in a), (w.anchors.mean() for w in b))
        for a, b in ((webs, reference),)
    ]
    return {
        "degree_wasserstein": wasserstein(degrees(webs), degrees(reference)),
        "length_wasserstein": wasserstein(lengths(webs), lengths(reference)),
        "anchor_share_wasserstein": anchors[0],
    }


def shape_key(web: Web, rounds: int = 3) -> str:
    """Weisfeiler-Lehman hash of the graph, classes of threads included (Shervashidze 2011)."""
    import networkx as nx

    graph = web.to_networkx()
    found: str = nx.weisfeiler_lehman_graph_hash(graph, edge_attr="thread", iterations=rounds)
    return found


def by_shape(webs: Sequence[Web]) -> dict[str, list[Web]]:
    """Webs by the hash of their graphs."""
    found: dict[str, list[Web]] = {}
    for web in webs:
        found.setdefault(shape_key(web), []).append(web)
    return found


def novelty(webs: Sequence[Web], training: Mapping[str, Sequence[Web]]) -> float:
    """Share of webs whose graph, by its hash after three rounds, is not in the training set.

    Equal hashes are checked: of the candidates at most those count whose graphs are isomorphic.

    Args:
        webs: to be looked up.
        training: the training set, `by_shape`.
    """
    import networkx as nx

    old = 0
    for web in webs:
        same = training.get(shape_key(web), [])
        old += any(nx.faster_could_be_isomorphic(web.to_networkx(), w.to_networkx()) for w in same)
    return 1 - old / max(1, len(webs))


def condition_errors(
    asked: Sequence[Mapping[str, float]], webs: Sequence[Web]
) -> dict[str, dict[str, float]]:
    """R^2 and mean relative error of every parameter that was asked for, never pooled.

    Args:
        asked: conditions of every web.
        webs: what came, in the same order.

    Returns:
        By parameter: ``r2`` and ``relative_error``; an asked-for 0 counts against the mean of the
        others.
    """
    if len(asked) != len(webs):
        raise ConfigError(f"expected one condition for every web, got {len(asked)}, {len(webs)}")
    out = {}
    for name in PARAMETERS:
        rows = [k for k, a in enumerate(asked) if name in a]
        if not rows:
            continue
        wanted = np.array([asked[k][name] for k in rows])
        found = np.array([PARAMETERS[name](webs[k]) for k in rows])
        out[name] = agreement(wanted, found)
    return out


def agreement(wanted: Floats, found: Floats) -> dict[str, float]:
    """R^2 (1 - squared errors over variance of what was wanted) and mean relative error."""
    scale = np.maximum(np.abs(wanted), 1e-3 * max(float(np.abs(wanted).mean()), 1e-300))
    spread = float(((wanted - wanted.mean()) ** 2).sum())
    missed = float(((wanted - found) ** 2).sum())
    if spread > 1e-12 * float((wanted**2).sum()):
        r2 = 1 - missed / spread
    else:
        r2 = 1.0 if missed <= 1e-12 * max(float((wanted**2).sum()), 1e-300) else 0.0
    return {"r2": r2, "relative_error": float((np.abs(wanted - found) / scale).mean())}
