"""Webs from the command line: lay or draw, score, assemble, print."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError, DataError, OutputError

if TYPE_CHECKING:
    from structgen.webs.web import Web


def generate_webs(
    number: int = 8,
    output: Path = Path("webs.jsonl"),
    family: str | None = None,
    model: str | None = None,
    condition: str | None = None,
    nodes: int | None = None,
    size: float = 40.0,
    steps: int = 40,
    guidance: float = 1.0,
    seed: int = 0,
    picture: Path | None = None,
    force: bool = False,
) -> str:
    """Make webs in tension equilibrium: laid thread by thread (--family), or drawn by a --model.

    Args:
        number: How many webs.
        output: File to write: .jsonl; for a single web also .graphml or .nodes.csv.
        family: orb, tangle or hybrid (orb if neither family nor model is given).
        model: Name of a shipped model, or path of a model file.
        condition: What a model is asked for: n_nodes=40,mean_edge_length=0.3 and the like.
        nodes: About so many nodes a laid web; a drawn one takes n_nodes of the condition.
        size: Laid webs: hub to frame, or edge of the box, mm.
        steps: Steps of a model's sampler.
        guidance: Classifier-free guidance scale of a model.
        seed: Seed of the random numbers.
        picture: Picture (.png) of the first nine webs.
        force: Overwrite files that exist.

    Returns:
        What was written, how many webs were rejected, and which are not what was asked for.

    Raises:
        ConfigError: An option is outside what is allowed, or a condition is impossible.
        DataError: A condition has no web with a tension equilibrium.
        OutputError: A file exists without `force`, or cannot be written.
    """
    from structgen.webs.io import write_webs

    if number < 1:
        raise ConfigError(f"--number: expected at least 1, got {number}")
    if family and model:
        raise ConfigError("--family lays webs and --model draws them: give one of them")
    _free(output, force)
    _free(picture, force)
    note = ""
    if model:
        from structgen.webs.generator import WebGenerator

        asked = parse_condition(condition)
        drawn = WebGenerator.from_pretrained(model).draw(
            [asked] * number, seed=seed, steps=steps, guidance=guidance
        )
        webs = drawn.webs
        lost = sum(drawn.rejected.values())
        reasons = "".join(f", {n} {reason}" for reason, n in drawn.rejected.items())
        note = f"; {lost} of {drawn.tried} rejected{reasons}{_missed(webs, asked)}"
    else:
        if condition:
            raise ConfigError("--condition is for a --model; a --family takes --nodes and --size")
        webs = _laid(family or "orb", number, nodes, size, seed)
    path = write_webs(webs, output, force=force)
    if picture:
        from structgen.webs.pictures import save, web_picture

        save(web_picture(webs), picture)
    return f"{len(webs)} webs written to {path}{note}"


def _missed(webs: list[Web], asked: Mapping[str, float]) -> str:
    """A line for every web that is off by more than a twentieth of what it was asked for."""
    from structgen.webs.targets import missed

    lines = []
    for k, web in enumerate(webs, 1):
        off = [
            f"{name} {v:.4g} instead of {asked[name]:g}" for name, v in missed(web, asked).items()
        ]
        lines += [f"\nweb {k}: {', '.join(off)}"] if off else []
    return "".join(lines)


def _laid(family: str, number: int, nodes: int | None, size: float, seed: int) -> list[Web]:
    from tqdm import tqdm

    from structgen.webs.deposition import deposit

    rows = tqdm(range(number), desc="lay", delay=2, disable=None)
    return [deposit(family, seed + k, nodes=nodes, size=size) for k in rows]


def parse_condition(text: str | None) -> dict[str, float]:
    """``name=value,name=value`` as numbers.

    Raises:
        ConfigError: another form.
    """
    found: dict[str, float] = {}
    for part in filter(None, (text or "").split(",")):
        name, _, value = part.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise ConfigError(f"--condition: expected name=number, got {part!r}") from None
    return found


def evaluate_webs(
    file: Path,
    output: Path | None = None,
    reference: Path | None = None,
    silk: str = "araneus",
    load: str = "stretch",
    removed: int = 0,
    picture: Path | None = None,
    page: Path | None = None,
    force: bool = False,
) -> str:
    """Score a file of webs: parameters, distributions, pull tests to failure.

    Args:
        file: Webs (.jsonl, .graphml, .nodes.csv or .mat).
        output: Table (.csv) with a row for every web.
        reference: Webs to compare distributions with, and to be novel against.
        silk: Set of silks: araneus, dragline, caerostris, mean-dragline or linear.
        load: stretch (the anchors move apart) or push (across, in the middle).
        removed: Threads to cut at random for the damage tolerance (0 for none).
        picture: Picture (.png) of the first web's pull test.
        page: Interactive page (.html) of the first web's pull test; works offline.
        force: Overwrite files that exist.

    Returns:
        A table of means.

    Raises:
        ConfigError: An option is outside what is allowed.
        DataError: The file holds no webs.
        OutputError: A file exists without `force`, or cannot be written.
    """
    import pandas as pd

    from diffcore.files import write_whole
    from structgen.webs.io import read_webs
    from structgen.webs.measures import by_shape, distances, novelty
    from structgen.webs.silk import silk_set

    silk_set(silk)
    for path in (output, picture, page):
        _free(path, force)
    webs = read_webs(file)
    rows = [_row(k, web, silk, load, removed) for k, web in enumerate(_bar(webs))]
    table = pd.DataFrame(rows)
    if output:
        write_whole(output, table.to_csv(index=False))
    numbers = table.select_dtypes("number").drop(columns="web")
    lines = [f"{len(webs)} webs, {int((table['why_not'] != '').sum())} of them cannot be pulled"]
    lines += [f"{name:<24}{numbers[name].mean():>14.5g}" for name in numbers]
    if reference:
        others = read_webs(reference)
        found = distances(webs, others) | {"novel": novelty(webs, by_shape(others))}
        lines += [f"{name:<24}{value:>14.5g}" for name, value in found.items()]
    if picture or page:
        _show(webs[0], silk, load, picture, page)
    return "\n".join(lines)


def _bar(webs: list[Web]) -> Any:
    from tqdm import tqdm

    return tqdm(webs, desc="score", delay=2, disable=None)


def _row(number: int, web: Web, silk: str, load: str, removed: int) -> dict[str, Any]:
    """One web's numbers; a web that cannot be pulled keeps its row."""
    from structgen.webs.measures import measure
    from structgen.webs.mechanics import damage, pull

    row: dict[str, Any] = {"web": number, **measure(web), "why_not": ""}
    try:
        row |= pull(web, silk=silk, load=load).summary()
        if removed:
            left = damage(web, removed, silk=silk, load=load)
            row |= {"strength_left": left.strength, "work_left": left.work}
    except (ConfigError, DataError) as error:
        row["why_not"] = str(error)
    return row


def _show(web: Web, silk: str, load: str, picture: Path | None, page: Path | None) -> None:
    from diffcore.files import write_whole
    from structgen.webs import viewer
    from structgen.webs.mechanics import pull
    from structgen.webs.pictures import pull_picture, save

    test = pull(web, silk=silk, load=load, frames=1)
    if picture:
        save(pull_picture(web, test), picture)
    if page:
        title = f"{web.n_nodes} nodes, {web.n_edges} threads, {silk} silk, {load}"
        write_whole(page, viewer.page(web, test, title))


def assemble_webs(
    file: Path,
    output: Path = Path("assembly.jsonl"),
    target: str = "helix",
    points: Path | None = None,
    blocks: int = 40,
    rows: int = 4,
    columns: int = 4,
    overlap: float = 0.25,
    stitches: int = 4,
    picture: Path | None = None,
    force: bool = False,
) -> str:
    """Assemble webs along a curve or over a surface, stitch their seams and balance the whole.

    Args:
        file: Webs to use, in turn.
        output: File to write: .jsonl, .graphml or .nodes.csv.
        target: helix, line, arch or saddle.
        points: Table (.csv: x,y,z in mm) of points on a path of your own, in place of a target.
        blocks: How many webs along a curve.
        rows: Webs along the first direction of a surface.
        columns: Webs along the second direction of a surface.
        overlap: Share of its length by which a web reaches into the next.
        stitches: Pairs of nodes that are merged at every seam.
        picture: Picture (.png) of the assembly.
        force: Overwrite files that exist.

    Returns:
        A line that says what was written.

    Raises:
        ConfigError: An option is outside what is allowed.
        DataError: The file holds no webs that can be assembled, or the points are no path.
        OutputError: A file exists without `force`, or cannot be written.
    """
    from structgen.webs import paths
    from structgen.webs.assembly import assemble
    from structgen.webs.equilibrium import relax
    from structgen.webs.io import read_webs, write_web

    _free(output, force)
    _free(picture, force)
    webs = [w if w.tension.min() > 0 else relax(w) for w in read_webs(file)]
    if points:
        places = paths.along_curve(paths.curve_of(_points(points)), blocks)
    elif target in paths.CURVES:
        places = paths.along_curve(paths.CURVES[target](), blocks)
    elif target in paths.SURFACES:
        places = paths.over_surface(paths.SURFACES[target](), rows, columns)
    else:
        known = ", ".join([*paths.CURVES, *paths.SURFACES])
        raise ConfigError(f"unknown target {target!r}; known: {known}")
    made = assemble(webs, places, overlap=overlap, stitches=stitches)
    path = write_web(made.web, output, force=force)
    if picture:
        from structgen.webs.pictures import save, web_picture

        save(web_picture([made.web]), picture)
    return (
        f"{len(places.centres)} blocks, {made.web.n_nodes} nodes and {made.web.n_edges} threads "
        f"written to {path}; {made.stitched} nodes stitched, {made.pruned} loose ones taken away"
    )


def _points(path: Path) -> Any:
    import pandas as pd

    try:
        return pd.read_csv(path)[["x", "y", "z"]].to_numpy(float)
    except (KeyError, ValueError, pd.errors.ParserError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: expected a table with columns x, y, z: {reason}") from error


def print_web(
    file: Path,
    output: Path = Path("web.3mf"),
    size: float = 100.0,
    diameter: float = 1.0,
    sides: int = 8,
    no_crossings: bool = False,
    force: bool = False,
) -> str:
    """Make a web one watertight body for a 3D printer.

    Args:
        file: A web (.jsonl: the first, .graphml, .nodes.csv or .mat).
        output: File to write: .3mf, .stl or .ply.
        size: Largest extent of the print, mm.
        diameter: Of every strut, mm; at least 0.4.
        sides: Sides of a strut.
        no_crossings: Refuse webs whose struts meet where they have no common node.
        force: Overwrite the file if it exists.

    Returns:
        What was written, and the checks.

    Raises:
        ConfigError: Struts too thin, or an option is outside what is allowed.
        DataError: The web cannot be a body.
        OutputError: The file exists without `force`, or cannot be written.
    """
    from structgen.webs.io import read_web
    from structgen.webs.solid import to_solid, write_solid

    _free(output, force)
    if output.suffix not in (".3mf", ".stl", ".ply"):
        raise ConfigError(f"{output}: expected a file ending in .3mf, .stl or .ply")
    web = read_web(file)
    options: Mapping[str, Any] = {"size": size, "diameter": diameter, "sides": sides}
    solid = to_solid(web, allow_crossings=not no_crossings, **options)
    path = write_solid(solid, output, force=force)
    return "\n".join(
        [f"written to {path}"] + [f"{n:<24}{v:>14.6g}" for n, v in solid.summary().items()]
    )


def _free(path: Path | None, force: bool) -> None:
    if path is not None and path.exists() and not force:
        raise OutputError(f"{path} exists already; give --force to overwrite it")
