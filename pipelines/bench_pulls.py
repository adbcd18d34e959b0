"""What pull tests, bodies to print and assemblies cost, and how exact pull tests are."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from diffcore.errors import ConfigError


def bench_pulls(elements: int = 1000, blocks: int = 40, seed: int = 0, threads: int = 1) -> str:
    """Time pull tests to failure, a body to print, and a helix from its blocks to its file.

    Seconds are of the processor, of this process: on a machine with other work the wall clock says
    more. What numba compiles is compiled before.

    Args:
        elements: About so many threads a web that is pulled and printed.
        blocks: Of the helix, of about 60 nodes each.
        seed: Seed of the webs.
        threads: Threads of the tensor library.

    Returns:
        Tables: seconds by family; the force before the first break beside a reference solver's;
        seconds of a body and of the helix.

    Raises:
        ConfigError: An option is outside what is allowed.
    """
    import torch

    from structgen.webs.deposition import deposit
    from structgen.webs.mechanics import pull

    for name, value, least in (("elements", elements, 100), ("blocks", blocks, 2)):
        if value < least:
            raise ConfigError(f"--{name}: expected at least {least}, got {value}")
    torch.set_num_threads(threads)
    pull(deposit("orb", 0, nodes=30), largest=0.04, steps=0.02)
    lines = [f"{'family':<10}{'threads':>8}{'broken':>8}{'unsettled':>10}{'seconds':>9}{'off':>11}"]
    for family, ratio in (("orb", 1.88), ("hybrid", 1.74), ("tangle", 1.42)):
        web = deposit(family, seed, nodes=round(elements / ratio))
        start = time.process_time()
        test = pull(web, steps=0.02)
        taken = time.process_time() - start
        off = deviation(family, seed, max(40, elements // 5))
        lines.append(
            f"{family:<10}{web.n_edges:>8}{len(test.broken):>8}{test.unsettled:>10}"
            f"{taken:>9.2f}{off:>11.1e}"
        )
    lines.append("off: force before the first break beside the reference solver, relative,")
    lines.append(f"     on webs of about {max(40, elements // 5)} nodes")
    return "\n".join([*lines, "", *_printed(elements, seed), *_helix(blocks, seed)])


def deviation(family: str, seed: int, nodes: int) -> float:
    """Relative difference of the force before the first break from the reference solver's."""
    import numpy as np

    from structgen.webs.deposition import deposit
    from structgen.webs.mechanics import pull, stretch
    from structgen.webs.reference import reference_force

    web = deposit(family, seed, nodes=nodes)
    load = stretch(web)
    test = pull(web, load=load, largest=0.1, steps=0.02)
    first = test.broken_at[0] if len(test.broken) else np.inf
    k = int(np.flatnonzero(test.displacement < first)[-1])
    expected = reference_force(web, load, "araneus", float(test.displacement[k]))
    return abs(float(test.force[k]) / expected - 1)


def _printed(elements: int, seed: int) -> list[str]:
    from structgen.webs.deposition import deposit
    from structgen.webs.solid import to_solid

    web = deposit("tangle", seed, nodes=round(elements / 1.42))
    start = time.process_time()
    body = to_solid(web, size=200.0, diameter=0.8)
    taken = time.process_time() - start
    tight = "watertight" if body.trimesh().is_watertight else "NOT watertight"
    return [f"{body.struts} struts to a {tight} body: {taken:.1f} s"]


def _helix(blocks: int, seed: int) -> list[str]:
    from structgen.webs import paths
    from structgen.webs.assembly import assemble
    from structgen.webs.deposition import deposit
    from structgen.webs.mechanics import pull
    from structgen.webs.solid import to_solid, write_solid

    webs = [deposit("orb", seed + k, nodes=60) for k in range(min(8, blocks))]
    clock, begun, lines = time.process_time(), time.perf_counter(), []

    def lap(words: str) -> None:
        nonlocal clock
        now = time.process_time()
        lines.append(f"  {words}: {now - clock:.1f} s")
        clock = now

    made = assemble(webs, paths.along_curve(paths.CURVES["helix"](), blocks)).web
    lap(f"assembled and balanced, {made.n_nodes} nodes, {made.n_edges} threads")
    test = pull(made, steps=0.02)
    lap(f"pulled to failure, {len(test.broken)} threads broke, {test.unsettled} unsettled")
    with tempfile.TemporaryDirectory() as folder:
        body = to_solid(made, size=250.0, diameter=0.8)
        for ending in ("3mf", "stl"):
            write_solid(body, Path(folder) / f"helix.{ending}")
        lap(f"body of {len(body.faces)} triangles written as 3MF and STL")
    return [f"helix of {blocks} blocks: {time.perf_counter() - begun:.0f} s on the clock", *lines]
