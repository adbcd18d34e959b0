"""Printing: every thread a strut, all struts one watertight body, as 3MF or STL.

A printed web is larger and far thicker than silk: it is scaled to a size, and every strut has the
same diameter. Lengths here are mm of the printed part.
"""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffcore.errors import ConfigError, DataError, OutputError
from diffcore.files import write_whole
from structgen.webs.web import Floats, Ints, Web

SMALLEST_STRUT = 0.4
"""mm: the usual nozzle; thinner struts are refused."""

OVERHANG = 45.0
"""Degrees above the bed below which a strut needs support."""


@dataclass(frozen=True)
class Solid:
    """A printable body.

    Attributes:
        vertices: [V, 3], mm.
        faces: [T, 3].
        struts: number of struts.
        diameter: of the struts, mm.
        crossings: pairs of struts that meet where they have no common node.
        short: struts shorter than their diameter.
        overhang: share of the length of all struts that is flatter than `OVERHANG`.
        nominal: volume of the struts one by one, mm^3.
    """

    vertices: Floats
    faces: Ints
    struts: int
    diameter: float
    crossings: int
    short: int
    overhang: float
    nominal: float

    def trimesh(self) -> Any:
        """``trimesh.Trimesh``; vertices are not merged, which would undo watertightness."""
        import trimesh

        return trimesh.Trimesh(self.vertices, self.faces, process=False)

    def summary(self) -> dict[str, float]:
        """The checks in numbers."""
        mesh = self.trimesh()
        size = np.ptp(self.vertices, axis=0)
        return {
            "struts": self.struts,
            "triangles": len(self.faces),
            "watertight": float(mesh.is_watertight),
            "volume_mm3": float(mesh.volume),
            "nominal_volume_mm3": self.nominal,
            "diameter_mm": self.diameter,
            "overhang_share": self.overhang,
            "crossings": self.crossings,
            "short_struts": self.short,
            "size_x_mm": float(size[0]),
            "size_y_mm": float(size[1]),
            "size_z_mm": float(size[2]),
        }


def to_solid(
    web: Web,
    *,
    size: float = 100.0,
    diameter: float = 1.0,
    sides: int = 8,
    allow_crossings: bool = True,
) -> Solid:
    """The web as one body.

    Args:
        web: any web.
        size: largest extent of the nodes, mm.
        diameter: of the struts, mm.
        sides: of a strut.
        allow_crossings: False refuses struts that meet where they have no common node.

    Raises:
        ConfigError: a strut too thin to print, or an option outside its range.
        DataError: edges without length, or crossing struts where they are not allowed.
    """
    if not (math.isfinite(size) and size > 0):
        raise ConfigError(f"size: expected mm above 0, got {size}")
    if not diameter >= SMALLEST_STRUT:
        raise ConfigError(
            f"diameter: struts of {diameter:g} mm are too thin to print, expected {SMALLEST_STRUT}"
        )
    if not 3 <= sides <= 64:
        raise ConfigError(f"sides: expected 3 to 64, got {sides}")
    extent = float(np.ptp(web.pos, axis=0).max())
    if not extent > 0 or not web.lengths.min() > 1e-6 * extent:
        raise DataError("expected edges with a length: some are too short to be struts")
    pos = (web.pos - web.pos.min(0)) * (size / extent)
    scaled = web.but(pos=pos)
    meeting = crossings(scaled, diameter)
    if meeting and not allow_crossings:
        raise DataError(f"self-intersecting struts: {meeting} pairs meet without a common node")
    vertices, faces = _union(scaled, diameter, sides)
    rise = np.abs(scaled.spans[:, 2]) / scaled.lengths
    flat = rise < math.sin(math.radians(OVERHANG))
    return Solid(
        vertices,
        faces,
        web.n_edges,
        diameter,
        meeting,
        int((scaled.lengths < diameter).sum()),
        float(scaled.lengths[flat].sum() / scaled.lengths.sum()),
        float(0.25 * math.pi * diameter**2 * scaled.lengths.sum()),
    )


def _union(web: Web, diameter: float, sides: int) -> tuple[Floats, Ints]:
    try:
        from manifold3d import Manifold, OpType
    except ImportError:
        raise ConfigError('printing needs manifold3d: pip install "designloom[webs]"') from None
    r = 0.5 * diameter
    # a ball is a little larger than the strut, so that struts end inside it and not on its surface
    ball = Manifold.sphere(1.03 * r, sides)
    parts = [ball.translate(point.tolist()) for point in web.pos[web.degrees > 0]]
    for i, span, length in zip(web.edges[:, 0], web.spans, web.lengths, strict=True):
        frame = _frame(span / length)
        matrix = np.column_stack([frame, web.pos[i]])
        strut = Manifold.cylinder(float(length), r, r, sides)
        parts.append(strut.transform(matrix))
    body = Manifold.batch_boolean(parts, OpType.Add)
    mesh = body.to_mesh()
    vertices = np.asarray(mesh.vert_properties, dtype=np.float64)[:, :3]
    if not len(vertices):
        raise DataError("the struts make no body: manifold3d gave an empty mesh")
    return vertices, np.asarray(mesh.tri_verts, dtype=np.int64)


def _frame(direction: Floats) -> Floats:
    """A rotation [3, 3] that takes z to a direction."""
    side = np.cross(direction, np.eye(3)[int(np.abs(direction).argmin())])
    side = side / np.linalg.norm(side)
    return np.column_stack([side, np.cross(direction, side), direction])


def crossings(web: Web, diameter: float) -> int:
    """Pairs of struts nearer than their diameter that have no node in common."""
    from scipy.spatial import cKDTree

    start, span = web.pos[web.edges[:, 0]], web.spans
    lengths = web.lengths
    # pieces of struts no longer than twice the diameter or a fifth of the mean, by their middles
    piece = max(2 * diameter, 0.2 * float(lengths.mean()))
    counts = np.maximum(1, np.ceil(lengths / piece)).astype(np.int64)
    owner = np.repeat(np.arange(web.n_edges), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    share = (np.arange(len(owner)) - first + 0.5) / counts[owner]
    middles = start[owner] + share[:, None] * span[owner]
    pairs = cKDTree(middles).query_pairs(piece + diameter, output_type="ndarray")
    both = np.unique(np.sort(owner[pairs], axis=1), axis=0)
    a, b = both[both[:, 0] != both[:, 1]].T
    shared = (web.edges[a][:, :, None] == web.edges[b][:, None, :]).any((1, 2))
    a, b = a[~shared], b[~shared]
    return int((segment_distance(start[a], span[a], start[b], span[b]) < diameter).sum())


def segment_distance(p: Floats, u: Floats, q: Floats, v: Floats) -> Floats:
    """Distances [M] of segments p + s u and q + t v, 0 <= s, t <= 1 (Ericson 2005, 5.1.9)."""
    w = p - q
    a, b, c = (u * u).sum(1), (u * v).sum(1), (v * v).sum(1)
    d, e = (u * w).sum(1), (v * w).sum(1)
    bottom = a * c - b * b
    with np.errstate(divide="ignore", invalid="ignore"):
        s = np.where(bottom > 1e-12 * a * c, np.clip((b * e - c * d) / bottom, 0, 1), 0.0)
    t = np.clip((b * s + e) / c, 0, 1)
    s = np.clip((b * t - d) / a, 0, 1)
    return np.asarray(np.linalg.norm(w + s[:, None] * u - t[:, None] * v, axis=1))


def write_solid(solid: Solid, path: str | Path, *, force: bool = False) -> Path:
    """Write a .3mf, .stl (binary) or .ply file; 3MF and PLY keep the mesh watertight.

    Raises:
        ConfigError: another ending.
        OutputError: the file exists and `force` is not given, or cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".3mf", ".stl", ".ply"):
        raise ConfigError(f"{path}: expected a file ending in .3mf, .stl or .ply")
    if path.exists() and not force:
        raise OutputError(f"{path} exists already; give --force to overwrite it")
    if path.suffix == ".3mf":
        return write_whole(path, _threemf(solid))
    return write_whole(path, solid.trimesh().export(file_type=path.suffix[1:]))


_TYPES = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="model" '
    'ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/></Types>'
)
_RELATIONS = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Target="/3D/3dmodel.model" Id="rel0" '
    'Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/></Relationships>'
)


def _threemf(solid: Solid) -> bytes:
    """The 3MF core specification's smallest package: one object, one item, in millimetres."""
    points = "".join(f'<vertex x="{x:.5f}" y="{y:.5f}" z="{z:.5f}"/>' for x, y, z in solid.vertices)
    faces = "".join(f'<triangle v1="{a}" v2="{b}" v3="{c}"/>' for a, b, c in solid.faces)
    model = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<model unit="millimeter" xml:lang="en-US" '
        'xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02"><resources>'
        f'<object id="1" type="model"><mesh><vertices>{points}</vertices>'
        f"<triangles>{faces}</triangles></mesh></object></resources>"
        '<build><item objectid="1"/></build></model>'
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        for name, text in (
            ("[Content_Types].xml", _TYPES),
            ("_rels/.rels", _RELATIONS),
            ("3D/3dmodel.model", model),
        ):
            stamp = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            package.writestr(stamp, text, zipfile.ZIP_DEFLATED)
    return out.getvalue()
