"""Pictures of webs, pull tests and statistics: PNG by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffcore.files import write_whole
from structgen.webs.mechanics import PullTest
from structgen.webs.web import THREADS, Bools, Floats, Web

COLOURS = {
    "thread": "#4878a8",
    "anchor": "#222222",
    "frame": "#7a4b2a",
    "radius": "#c2762e",
    "spiral": "#3f8f6b",
}


def _figure(**options: Any) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(**{"figsize": (5.2, 5.0), "layout": "constrained", **options})
    return figure, figure.subplots


@dataclass(frozen=True)
class Picture:
    """A matplotlib figure that a notebook shows whatever its backend is."""

    figure: Any

    def png(self, dpi: int = 120) -> bytes:
        """Return the picture as PNG bytes at `dpi` dots an inch."""
        stream = io.BytesIO()
        self.figure.savefig(stream, format="png", dpi=dpi)
        return stream.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png(80)


def save(picture: Picture, path: Path) -> Path:
    """Write a picture as PNG.

    Raises:
        OutputError: it cannot be written.
    """
    return write_whole(path, picture.png())


def is_flat(pos: Floats) -> bool:
    """Whether points lie in a plane of x and y."""
    size = np.ptp(pos, axis=0)
    return bool(size[2] < 1e-3 * size.max())


def draw_web(axis: Any, web: Web, *, pos: Floats | None = None, alive: Bools | None = None) -> None:
    """Threads coloured by class, anchors as dots, on axes that are 3D unless the web is flat.

    A web at rest shows its face; moved ones (`pos`) are seen from the same corner, whatever moved.
    """
    corner = pos is not None and is_flat(web.pos)
    pos = web.pos if pos is None else pos
    alive = np.ones(web.n_edges, dtype=bool) if alive is None else alive
    flat = getattr(axis, "name", "") != "3d"
    width = 0.5 + 1.2 * web.radius / web.radius.max()
    for kind, name in enumerate(THREADS):
        chosen = np.flatnonzero(alive & (web.thread == kind))
        if not len(chosen):
            continue
        lines = pos[web.edges[chosen]]
        options = {"colors": COLOURS[name], "linewidths": width[chosen], "label": name}
        _add_lines(axis, lines, flat, options)
    points = pos[web.anchors].T
    style = {"s": 12, "color": "black", "marker": "s", "label": "held"}
    axis.scatter(*(points[:2] if flat else points), zorder=3, **style)
    if flat:
        axis.set_aspect("equal")
        axis.autoscale_view()
        axis.set(xlabel="x / mm", ylabel="y / mm")
    else:
        size = np.maximum(np.ptp(pos, axis=0), 0.05 * np.ptp(pos, axis=0).max())
        for k, name in enumerate("xyz"):
            middle = 0.5 * (pos[:, k].max() + pos[:, k].min())
            getattr(axis, f"set_{name}lim")(middle - 0.5 * size[k], middle + 0.5 * size[k])
            if size[k] < 0.25 * size.max():  # no room for words along a thin side
                getattr(axis, f"set_{name}ticks")([])
                continue
            axis.locator_params(axis=name, nbins=4)
            getattr(axis, f"set_{name}label")(f"{name} / mm")
        axis.set_box_aspect(size, zoom=0.78)
        if not corner:
            elevation, azimuth = facing(pos)
            axis.view_init(elev=elevation, azim=azimuth)


def facing(pos: Floats) -> tuple[float, float]:
    """Elevation and azimuth (degrees) from which points (n, 3) in about one plane show their face.

    15 degrees off its normal, so that depth still shows; the usual corner where there is no plane.
    """
    _, spread, axes = np.linalg.svd(pos - pos.mean(axis=0), full_matrices=False)
    if spread[2] > 0.5 * spread[1]:
        return 30.0, -60.0
    x, y, z = axes[2] if axes[2, 2] >= 0 else -axes[2]
    elevation = float(np.degrees(np.arctan2(z, np.hypot(x, y))))
    return max(10.0, elevation - 15.0), float(np.degrees(np.arctan2(y, x))) + 15.0


def _add_lines(axis: Any, lines: Floats, flat: bool, options: Mapping[str, Any]) -> None:
    from matplotlib.collections import LineCollection

    if flat:
        axis.add_collection(LineCollection(list(lines[:, :, :2]), **options))
    else:
        from mpl_toolkits.mplot3d.art3d import Line3DCollection

        axis.add_collection3d(Line3DCollection(list(lines), **options))


def web_picture(webs: Sequence[Web], titles: Sequence[str] = ()) -> Picture:
    """Up to nine webs beside each other."""
    shown = list(webs)[:9]
    columns = 2 if len(shown) == 4 else min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, _ = _figure(figsize=(4.2 * columns + (1 if columns == 1 else 0), 4.2 * rows))
    for k, web in enumerate(shown):
        projection = None if is_flat(web.pos) else "3d"
        axis = figure.add_subplot(rows, columns, k + 1, projection=projection)
        draw_web(axis, web)
        title = titles[k] if k < len(titles) else f"{web.n_nodes} nodes, {web.n_edges} threads"
        axis.set_title(title, fontsize=10)
        if k == 0:
            lines, names = axis.get_legend_handles_labels()
            place = "outside lower center"
            figure.legend(lines, names, fontsize=8, frameon=False, loc=place, ncols=len(names))
    return Picture(figure)


def pull_picture(web: Web, test: PullTest) -> Picture:
    """The curve, with the breaks, beside the web at rest and near its peak."""
    figure, _ = _figure(figsize=(13, 4.2))
    axis = figure.add_subplot(1, 3, 1)
    axis.plot(100 * test.strain, test.force / 1000, color="#c2762e")
    forces = np.interp(test.broken_at, test.displacement, test.force) / 1000
    strains = 100 * test.broken_at / test.extent
    axis.plot(strains, forces, "x", color="black", markersize=4, label="a thread breaks")
    axis.set(xlabel="strain / %", ylabel="force / mN", ylim=(0, None))
    if len(test.broken):
        axis.legend(frameon=False, fontsize=8)
    axis.set_title(f"toughness {test.toughness:.0f} MJ/m³", fontsize=10)
    frames = test.frames or ((0.0, web.pos, np.ones(web.n_edges, dtype=bool)),)
    peak = float(test.displacement[test.force.argmax()])
    near = min(range(len(frames)), key=lambda k: abs(frames[k][0] - peak))
    for place, k in ((2, 0), (3, near)):
        at, pos, alive = frames[k]
        beside = figure.add_subplot(1, 3, place, projection=None if is_flat(pos) else "3d")
        draw_web(beside, web, pos=pos, alive=alive)
        gone = int((~alive).sum())
        words = "at rest" if place == 2 else f"strain {100 * at / test.extent:.0f} %, {gone} broken"
        beside.set_title(words, fontsize=10)
    return Picture(figure)


def statistics_picture(groups: Mapping[str, Sequence[Web]]) -> Picture:
    """Degrees, edge lengths over their mean, and share of held nodes, of several groups of webs."""
    figure, subplots = _figure(figsize=(13, 3.8))
    degree, length, anchors = subplots(1, 3)
    width = 0.8 / len(groups)
    for k, (name, webs) in enumerate(groups.items()):
        degrees = np.concatenate([w.degrees for w in webs])
        share = np.bincount(np.minimum(degrees, 8), minlength=9) / len(degrees)
        degree.bar(np.arange(9) + (k - 0.5 * (len(groups) - 1)) * width, share, width, label=name)
        lengths = np.concatenate([w.lengths / w.lengths.mean() for w in webs])
        bins = np.linspace(0, 4, 33)
        height = np.histogram(np.minimum(lengths, 3.99), bins)[0] / len(lengths) / (bins[1])
        length.stairs(height, bins, label=name, linewidth=1.5)
        held = [w.anchors.mean() for w in webs]
        anchors.bar(k, np.mean(held), yerr=np.std(held), capsize=4)
    degree.set(xlabel="threads at a node", ylabel="share of nodes", xticks=range(9))
    degree.set_xticklabels([*map(str, range(8)), "8+"])
    length.set(xlabel="edge length / mean", ylabel="density")
    anchors.set(ylabel="share of nodes held", xticks=range(len(groups)))
    anchors.set_xticklabels(list(groups), fontsize=8, rotation=15)
    degree.legend(frameon=False, fontsize=8)
    return Picture(figure)
