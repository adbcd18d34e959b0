"""What a web can be asked for, and the scaling that meets lengths."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from diffcore.errors import ConfigError
from structgen.webs.measures import AXES, MECHANICS, PARAMETERS
from structgen.webs.web import Floats, Web


def check(condition: Mapping[str, float], largest: int) -> None:
    """Whether a web with these parameters can be.

    Args:
        condition: parameters by name.
        largest: most nodes that a model makes.

    Raises:
        ConfigError: it cannot, or the name is unknown.
    """
    known = {*PARAMETERS, *MECHANICS}
    for name, value in condition.items():
        if name not in known:
            raise ConfigError(f"unknown condition {name!r}; known: {', '.join(sorted(known))}")
        if not (math.isfinite(value) and value >= 0 and (value > 0 or name in AXES)):
            raise ConfigError(f"{name}: expected a finite number above 0, got {value}")
    _check_counts(condition, largest)
    check_lengths(condition)


def _check_counts(condition: Mapping[str, float], most: int) -> None:
    n, e = condition.get("n_nodes"), condition.get("n_edges")
    for name, value in (("n_nodes", n), ("n_edges", e)):
        if value is not None and value != int(value):
            raise ConfigError(f"{name}: expected a whole number, got {value}")
    if n is not None and not 4 <= n <= most:
        raise ConfigError(f"n_nodes: expected 4 to {most} (the model's largest), got {n:.0f}")
    if n is None:
        return
    ratio = condition.get("edges_per_node")
    if ratio is not None and e is not None and abs(e / n - ratio) > 0.5 / n:
        raise ConfigError(f"edges_per_node: {e:g} edges at {n:g} nodes are not {ratio:g} a node")
    e = ratio * n if e is None and ratio is not None else e
    pairs = n * (n - 1) / 2
    if e is not None and not n - 1 - 0.5 <= e <= pairs:
        raise ConfigError(
            f"n_edges: {n:.0f} connected nodes have {n - 1:.0f} to {pairs:.0f} edges, got {e:g}"
        )


def length_factors(web: Web, asked: Mapping[str, float]) -> Floats:
    """Scale of the three axes [3] that meets the lengths asked for, as well as all can be met."""
    from scipy.optimize import least_squares

    spans = np.abs(web.spans)
    means = spans.mean(0)
    factors = np.ones(3)
    length = asked.get("mean_edge_length")
    given = [k for k, name in enumerate(AXES) if name in asked]
    if length is None and not given:
        return factors
    for k in given:
        factors[k] = asked[AXES[k]] / means[k] if means[k] > 1e-9 * means.max() else 0.0
    if length is None:
        rest = [k for k in range(3) if k not in given]
        factors[rest] = float(np.median(factors[given]))
        return factors
    start = length / web.lengths.mean()
    if not given:
        return np.full(3, start)
    free = np.array([0.0 if k in given and factors[k] == 0.0 else 1.0 for k in range(3)])
    wanted = np.array([asked.get(name, np.nan) for name in AXES])
    told = np.array([k for k in given if wanted[k] > 0], dtype=int)

    def missed(logs: Floats) -> Floats:
        scale = np.exp(logs) * free
        total = np.linalg.norm(spans * scale, axis=1).mean() / length - 1
        return np.append(means[told] * scale[told] / wanted[told] - 1, total)

    guess = np.log(np.where(factors > 0, factors, start))
    guess[[k for k in range(3) if k not in given]] = math.log(start)
    found = least_squares(missed, guess, max_nfev=100)
    return np.asarray(np.exp(found.x) * free)


def check_lengths(condition: Mapping[str, float]) -> None:
    """Mean |dx|, |dy|, |dz| and mean length must go together.

    Raises:
        ConfigError: a component longer than the length, all shorter than it, or no length at all.
    """
    length = condition.get("mean_edge_length")
    given = [condition[name] for name in AXES if name in condition]
    if len(given) == 3 and max(given) == 0:
        raise ConfigError("mean_dx, mean_dy, mean_dz: expected one above 0")
    if length is None or not given:
        return
    if math.sqrt(sum(v * v for v in given)) > length * (1 + 1e-6):
        shown = ", ".join(f"{v:g}" for v in given)
        raise ConfigError(
            f"mean_edge_length: edges of {shown} along axes are longer than {length:g}"
        )
    if len(given) == 3 and sum(given) < length * (1 - 1e-6):
        raise ConfigError(
            f"mean_edge_length: edges of {sum(given):g} along all axes are shorter than {length:g}"
        )
