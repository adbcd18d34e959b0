"""Assemblies along curves and surfaces, and printable bodies."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from diffcore.errors import ConfigError, DataError, OutputError
from structgen.webs import deposit, make_web
from structgen.webs.assembly import assemble, nearest_pairs, placed_at
from structgen.webs.equilibrium import residual
from structgen.webs.paths import along_curve, curve_of, helix, line, over_surface, saddle
from structgen.webs.solid import segment_distance, to_solid, write_solid

pytest.importorskip("manifold3d")
pytest.importorskip("trimesh")

BLOCKS = [deposit("tangle", k, nodes=24, size=10) for k in range(3)]


def test_places_on_a_helix_are_evenly_spaced_and_their_frames_are_rotations() -> None:
    places = along_curve(helix(40, 30, 2), 30)
    c = 2 * np.pi * 40 * 2
    length = np.hypot(c, 60)
    np.testing.assert_allclose(places.reach[:, 0], length / 30, rtol=1e-4)
    np.testing.assert_allclose(np.hypot(places.centres[:, 0], places.centres[:, 1]), 40, rtol=1e-3)
    for frame in places.frames:
        np.testing.assert_allclose(frame.T @ frame, np.eye(3), atol=1e-12)
        assert np.linalg.det(frame) == pytest.approx(1)
        assert frame[2, 0] == pytest.approx(60 / length, rel=0.02)  # the slope of the helix


def test_a_table_of_points_is_the_same_path_as_its_function() -> None:
    t = np.linspace(0, 1, 500)
    table, function = along_curve(curve_of(helix()(t)), 7), along_curve(helix(), 7)
    np.testing.assert_allclose(table.centres, function.centres, atol=0.05)


def test_blocks_are_turned_and_scaled_without_leaving_their_equilibrium() -> None:
    web = placed_at(BLOCKS[0], np.array([1.0, 2, 3]), np.eye(3)[[1, 2, 0]], np.array([50.0, 20, 9]))
    assert residual(web) < 1e-9
    np.testing.assert_allclose(np.sort(np.ptp(web.pos, axis=0)), [9, 20, 50])
    np.testing.assert_allclose(0.5 * (web.pos.max(0) + web.pos.min(0)), [1, 2, 3])
    assert web.tension.mean() == pytest.approx(BLOCKS[0].tension.mean())


@pytest.mark.parametrize("target", ["helix", "surface"])
def test_an_assembly_is_one_balanced_web_that_follows_its_target(target: str) -> None:
    curve = target == "helix"
    places = along_curve(helix(20, 20, 1), 8) if curve else over_surface(saddle(60), 3, 2)
    made = assemble(BLOCKS, places)
    assert made.web.connected and residual(made.web) < 1e-9
    assert made.web.tension.min() > 0 and np.isfinite(made.web.pos).all()
    assert made.stitched == 4 * len(places.seams)
    assert len(made.block) == made.web.n_nodes
    for k, centre in enumerate(places.centres):
        own = made.web.pos[made.block == k]
        assert np.linalg.norm(own.mean(0) - centre) < 0.6 * np.nanmax(places.reach[k])


def test_nearest_pairs_against_all_pairs() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(12, 3)), rng.normal(size=(9, 3))
    (i, j), *rest = nearest_pairs(one, other, 4)
    far = np.linalg.norm(one[:, None] - other[None], axis=-1)
    assert far[i, j] == far.min()
    assert len({a for a, _ in rest} | {i}) == len({b for _, b in rest} | {j}) == 4


def test_bad_targets_are_named() -> None:
    with pytest.raises(DataError, match="two different points"):
        curve_of(np.zeros((3, 3)))
    with pytest.raises(DataError, match="rows of x, y, z"):
        curve_of(np.array([[0.0, np.nan, 0], [1, 1, 1]]))
    with pytest.raises(ConfigError, match="blocks"):
        along_curve(line(), 0)
    with pytest.raises(ConfigError, match="overlap"):
        assemble(BLOCKS, along_curve(line(), 2), overlap=1.0)
    with pytest.raises(ConfigError, match="at least one block"):
        assemble([], along_curve(line(), 2))
    loose = BLOCKS[0].but(tension=np.zeros(BLOCKS[0].n_edges))
    with pytest.raises(DataError, match="in tension"):
        assemble([loose], along_curve(line(), 2))


def test_one_strut_has_the_volume_of_its_prism() -> None:
    web = make_web([[0, 0, 0], [0, 0, 1]], [[0, 1]], anchors=[0])
    solid = to_solid(web, size=50, diameter=2, sides=16)
    prism = 0.5 * 16 * np.sin(2 * np.pi / 16) * 1.0**2 * 50
    numbers = solid.summary()
    assert numbers["watertight"] == 1 and numbers["overhang_share"] == 0
    assert prism < numbers["volume_mm3"] < prism * 1.06  # and the balls at its ends


@pytest.mark.parametrize("ending", ["3mf", "stl", "ply"])
def test_a_printed_web_is_watertight_and_one_body(tmp_path: Path, ending: str) -> None:
    import trimesh

    solid = to_solid(deposit("orb", 1, nodes=40), size=100, diameter=1.0)
    numbers = solid.summary()
    assert numbers["watertight"] == 1 and solid.trimesh().body_count == 1
    assert 0.5 * solid.nominal < numbers["volume_mm3"] < 1.1 * solid.nominal
    path = write_solid(solid, tmp_path / f"web.{ending}")
    with pytest.raises(OutputError):
        write_solid(solid, path)
    if ending == "3mf":
        with zipfile.ZipFile(path) as package:
            text = package.read("3D/3dmodel.model").decode()
        assert text.count("<vertex ") == len(solid.vertices)
        assert text.count("<triangle ") == len(solid.faces)
        assert 'unit="millimeter"' in text
    else:
        mesh = trimesh.load(path)
        assert mesh.volume == pytest.approx(numbers["volume_mm3"], rel=1e-4)


def test_what_cannot_be_printed_is_named() -> None:
    cross = make_web(
        [[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0]], [[0, 1], [2, 3]], anchors=[0, 2]
    )
    assert to_solid(cross).crossings == 1
    with pytest.raises(DataError, match="self-intersecting struts: 1 pairs"):
        to_solid(cross, allow_crossings=False)
    with pytest.raises(ConfigError, match="too thin to print"):
        to_solid(cross, diameter=0.1)
    with pytest.raises(DataError, match="edges with a length"):
        to_solid(make_web([[0, 0], [0, 0], [1, 0]], [[0, 1], [1, 2]]))
    apart = cross.but(pos=cross.pos + [[0, 0, 0], [0, 0, 0], [0, 0, 0.5], [0, 0, 0.5]])
    assert to_solid(apart).crossings == 0


def test_segment_distances_against_a_fine_grid() -> None:
    rng = np.random.default_rng(1)
    p, u, q, v = rng.normal(size=(4, 50, 3))
    s = np.linspace(0, 1, 101)
    one = p[:, None] + s[None, :, None] * u[:, None]
    other = q[:, None] + s[None, :, None] * v[:, None]
    grid = np.linalg.norm(one[:, :, None] - other[:, None], axis=-1).min((1, 2))
    found = segment_distance(p, u, q, v)
    assert (found <= grid + 1e-12).all() and (grid - found).max() < 0.03
