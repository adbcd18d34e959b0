"""Where the blocks of an assembly go: curves and surfaces, as functions or tables of points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from diffcore.errors import ConfigError, DataError
from structgen.webs.web import Floats, Ints

Curve = Callable[[Floats], Floats]
"""Parameters [P] in [0, 1] to points [P, 3], mm."""

Surface = Callable[[Floats, Floats], Floats]
"""Two parameters [P] in [0, 1] to points [P, 3], mm."""

FINE = 2000


@dataclass(frozen=True)
class Places:
    """Where blocks go.

    Attributes:
        centres: [M, 3], mm.
        frames: [M, 3, 3]; the first column is the direction of the path.
        reach: how much room a block has along the columns [M, 3], mm; NaN where it is free.
        seams: pairs of blocks that meet [S, 2].
    """

    centres: Floats
    frames: Floats
    reach: Floats
    seams: Ints


def helix(radius: float = 40.0, pitch: float = 40.0, turns: float = 2.0) -> Curve:
    """A helix around z; lengths in mm.

    Raises:
        ConfigError: a radius or a number of turns that is not above 0.
    """
    if not (radius > 0 and turns > 0 and np.isfinite([radius, pitch, turns]).all()):
        raise ConfigError(f"helix: expected radius and turns above 0, got {radius} and {turns}")

    def curve(t: Floats) -> Floats:
        angle = 2 * np.pi * turns * t
        return np.column_stack([radius * np.cos(angle), radius * np.sin(angle), pitch * turns * t])

    return curve


def line(length: float = 100.0) -> Curve:
    """A straight line along x."""
    return lambda t: np.column_stack([length * t, 0 * t, 0 * t])


def arch(radius: float = 60.0) -> Curve:
    """Half a circle in the plane of x and z."""
    return lambda t: radius * np.column_stack([-np.cos(np.pi * t), 0 * t, np.sin(np.pi * t)])


def saddle(size: float = 100.0, height: float = 20.0) -> Surface:
    """A hyperbolic paraboloid over a square."""

    def surface(u: Floats, v: Floats) -> Floats:
        x, y = 2 * u - 1, 2 * v - 1
        return np.column_stack([0.5 * size * x, 0.5 * size * y, height * (x * x - y * y)])

    return surface


CURVES: dict[str, Callable[..., Curve]] = {"helix": helix, "line": line, "arch": arch}
SURFACES: dict[str, Callable[..., Surface]] = {"saddle": saddle}


def curve_of(points: Floats) -> Curve:
    """The broken line through a table of points [P, 3].

    Raises:
        DataError: fewer than two different points, or values that are not finite.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise DataError(f"expected points as rows of x, y, z, got a table {points.shape}")
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    keep = np.append(True, steps > 0)
    if keep.sum() < 2:
        raise DataError("expected a path of two different points or more")
    points, at = points[keep], np.append(0, np.cumsum(steps[steps > 0]))
    return lambda t: np.column_stack([np.interp(t * at[-1], at, points[:, k]) for k in range(3)])


def along_curve(curve: Curve, blocks: int) -> Places:
    """Blocks at even distances along a curve, in a frame that does not spin about it.

    Raises:
        ConfigError: fewer than one block.
        DataError: the curve has no length or values that are not finite.
    """
    if blocks < 1:
        raise ConfigError(f"blocks: expected at least 1, got {blocks}")
    fine = np.asarray(curve(np.linspace(0, 1, FINE)), dtype=np.float64)
    if fine.shape != (FINE, 3) or not np.isfinite(fine).all():
        raise DataError(f"expected a curve of finite points [{FINE}, 3], got {fine.shape}")
    at = np.append(0, np.cumsum(np.linalg.norm(np.diff(fine, axis=0), axis=1)))
    if not at[-1] > 0:
        raise DataError("expected a path with a length")
    pitch = at[-1] / blocks

    def place(s: Floats) -> Floats:
        return np.column_stack([np.interp(s, at, fine[:, k]) for k in range(3)])

    middle = (np.arange(blocks) + 0.5) * pitch
    tangents = place(middle + 0.3 * pitch) - place(middle - 0.3 * pitch)
    frames = _carried(tangents / np.linalg.norm(tangents, axis=1, keepdims=True))
    reach = np.tile([pitch, np.nan, np.nan], (blocks, 1))
    seams = np.column_stack([np.arange(blocks - 1), np.arange(1, blocks)])
    return Places(place(middle), frames, reach, seams.astype(np.int64))


def _carried(tangents: Floats) -> Floats:
    """Frames [M, 3, 3] along tangents [M, 3]: the normal is carried from one to the next."""
    normal = np.eye(3)[int(np.abs(tangents[0]).argmin())]
    frames = []
    for tangent in tangents:
        normal = normal - tangent * (normal @ tangent)
        if np.linalg.norm(normal) < 1e-6:
            normal = np.cross(tangent, np.eye(3)[int(np.abs(tangent).argmin())])
        normal = normal / np.linalg.norm(normal)
        frames.append(np.column_stack([tangent, normal, np.cross(tangent, normal)]))
    return np.array(frames)


def over_surface(surface: Surface, rows: int, columns: int) -> Places:
    """Blocks on a grid over a surface.

    Raises:
        ConfigError: fewer than one row or column.
        DataError: the surface is degenerate somewhere.
    """
    if min(rows, columns) < 1:
        raise ConfigError(f"expected at least 1 row and column, got {rows} and {columns}")
    u = np.repeat((np.arange(rows) + 0.5) / rows, columns)
    v = np.tile((np.arange(columns) + 0.5) / columns, rows)
    du = surface(u + 0.5 / rows, v) - surface(u - 0.5 / rows, v)
    dv = surface(u, v + 0.5 / columns) - surface(u, v - 0.5 / columns)
    normal = np.cross(du, dv)
    size = np.linalg.norm(normal, axis=1)
    if not (np.isfinite(size).all() and size.min() > 0):
        raise DataError("expected a surface with an area everywhere")
    first = du / np.linalg.norm(du, axis=1, keepdims=True)
    normal = normal / size[:, None]
    frames = np.stack([first, np.cross(normal, first), normal], axis=2)
    reach = np.column_stack([np.linalg.norm(du, axis=1), np.linalg.norm(dv, axis=1), size * np.nan])
    index = np.arange(rows * columns).reshape(rows, columns)
    down = np.column_stack([index[:-1].ravel(), index[1:].ravel()])
    across = np.column_stack([index[:, :-1].ravel(), index[:, 1:].ravel()])
    return Places(surface(u, v), frames, reach, np.concatenate([down, across]).astype(np.int64))
