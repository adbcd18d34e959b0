"""How well drawn webs meet what was asked for, beside laid webs and random pieces of a big one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError, DataError, OutputError

if TYPE_CHECKING:
    from structgen.webs.generator import WebGenerator
    from structgen.webs.web import Web

Asked = Mapping[str, float]
TRIES = 20


@dataclass(frozen=True)
class Made:
    """What a method made for some conditions.

    Attributes:
        webs: one for every condition but those that none was found for.
        asked: their conditions.
        tried: webs made in all.
        rejected: webs that had no tension equilibrium.
    """

    webs: Sequence[Web]
    asked: Sequence[Asked]
    tried: int
    rejected: int


def bench_webs(
    model: str = "orb",
    against: str = "orb-analog,orb-adjacency,orb-autoregressive",
    number: int = 64,
    seed: int = 0,
    steps: int = 40,
    guidance: float = 1.0,
    mechanics: bool = True,
    candidates: int = 24,
    nodes: str | None = None,
    output: Path | None = None,
    force: bool = False,
    threads: int = 1,
) -> str:
    """Ask for the parameters of webs that no model was trained on, and measure what comes.

    All methods get the same conditions (all seven parameters of a held-out web): the models; the
    models without what is met by construction (threads as drawn, not by rank; one scale for all
    axes); webs laid by the family's own rules with about as many nodes; and connected random pieces
    of a large laid web, with threads added or taken away at random until the counts agree. Numbers
    of nodes are given to all but the laid webs; all but the plain models are scaled along their
    axes to the lengths asked for.

    Args:
        model: Name of a shipped model, or path of a model file.
        against: Other models, comma-separated; those of the paper by default.
        number: Held-out webs whose parameters are asked for.
        seed: Seed of the random numbers.
        steps: Steps of the model's sampler.
        guidance: Classifier-free guidance scale of the model.
        mechanics: Ask for stiffness, strength and toughness too, and pull what comes.
        candidates: Webs made for each condition on mechanics, of which the nearest is taken.
        nodes: Fewest and most nodes of the held-out webs, such as 45,400; those of the model's
            recipe by default.
        output: Table (.csv) of R^2 and errors by method and parameter.
        force: Overwrite `output`.
        threads: Threads of the tensor library.

    Returns:
        Tables: R^2 and mean relative error of every parameter; webs made of those asked for, in
        twenty tries each; connected share, share with an
        equilibrium before rejection, share whose graph is not in the training set, Wasserstein
        distances to the held-out webs, seconds a web.

    Raises:
        ConfigError: An option is outside what is allowed.
        OutputError: `output` exists without `force`.
    """
    import torch
    from tqdm import tqdm

    from structgen.webs.generator import WebGenerator
    from structgen.webs.measures import by_shape, condition_errors, distances, novelty, parameters
    from structgen.webs.recipes import HELD_OUT_SEED, recipe, webs_of

    if number < 4:
        raise ConfigError(f"--number: expected at least 4, got {number}")
    if output is not None and output.exists() and not force:
        raise OutputError(f"{output} exists already; give --force to overwrite it")
    torch.set_num_threads(threads)
    generator = WebGenerator.from_pretrained(model)
    kind = recipe(str(generator.card["recipe"]["name"]))
    held_out = webs_of(replace(kind, sizes=sizes_of(nodes, kind.sizes)), number, HELD_OUT_SEED)
    asked = [parameters(web) for web in held_out]
    options = {"seed": seed, "steps": steps, "guidance": guidance}
    asked_for = [model, *names_of(against)]
    stems = [Path(one).stem for one in asked_for]
    shown = [s if stems.count(s) == 1 else one for s, one in zip(stems, asked_for, strict=True)]
    models = {n: WebGenerator.from_pretrained(m) for n, m in zip(shown, asked_for, strict=True)}
    methods: dict[str, Callable[[], Made]] = {}
    for name, one in models.items():
        methods[name] = partial(drawn, one, asked, **options)
        methods[f"{name}, plain"] = partial(drawn, one, asked, exact=False, **options)
    methods["laid"] = lambda: laid(kind.family, asked, seed)
    methods["random pieces"] = lambda: random_pieces(kind.family, asked, seed)
    rows: list[dict[str, Any]] = []
    columns = f"{'made':>9}{'connected':>11}{'balanced':>10}{'novel':>8}"
    columns += f"{'degree W1':>11}{'length W1':>11}{'s each':>8}"
    trained = webs_of(kind, kind.number)
    shares = [f"{'':<26}{columns}"]
    progress = tqdm(methods.items(), desc="methods", unit="", disable=None, leave=False)
    for name, make in progress:
        progress.set_postfix_str(name)
        began = time.perf_counter()
        made = make()
        each = (time.perf_counter() - began) / number
        for parameter, values in condition_errors(made.asked, made.webs).items():
            rows.append({"method": name, "parameter": parameter, **values})
        far = distances(made.webs, held_out)
        counts = {(web.n_nodes, web.n_edges) for web in made.webs}
        known = by_shape([web for web in trained if (web.n_nodes, web.n_edges) in counts])
        connected = sum(web.connected for web in made.webs) / max(1, len(made.webs))
        shares.append(
            f"{name:<26}{f'{len(made.webs)}/{number}':>9}{connected:>11.1%}"
            f"{1 - made.rejected / made.tried:>10.1%}{novelty(made.webs, known):>8.1%}"
            f"{far['degree_wasserstein']:>11.3f}{far['length_wasserstein']:>11.3f}{each:>8.2f}"
        )
    remarks = []
    if mechanics:
        try:
            rows += mechanics_rows(Path(model).stem, generator, held_out, candidates, **options)
        except DataError as error:  # the tables made so far took long
            remarks = ["", f"mechanics as conditions: {error}"]
    if output is not None:
        import pandas as pd

        from diffcore.files import write_whole

        write_whole(output, pd.DataFrame(rows).to_csv(index=False))
    names = list(dict.fromkeys(str(row["method"]) for row in rows))
    plain = [name for name in names if name.endswith(", plain")]
    tables = [table(rows, [n for n in names if n not in plain]), table(rows, plain)]
    lines = [line for one in tables for line in ["", *one]]
    return "\n".join(
        [f"{number} held-out webs of the kind of {Path(model).stem}", *lines, "", *shares, *remarks]
    )


def sizes_of(text: str | None, default: tuple[int, int]) -> tuple[int, int]:
    """Fewest and most nodes in a text such as ``45,400``.

    Raises:
        ConfigError: not two whole numbers, the smaller first, from 12.
    """
    if text is None:
        return default
    parts = names_of(text)
    if (
        len(parts) != 2
        or not all(p.isdigit() for p in parts)
        or not 12 <= int(parts[0]) <= int(parts[1])
    ):
        raise ConfigError(f"--nodes: expected two numbers from 12, such as 45,400, got {text!r}")
    return int(parts[0]), int(parts[1])


def names_of(text: str) -> list[str]:
    """Names in a comma-separated text."""
    return [name.strip() for name in text.split(",") if name.strip()]


def table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """R^2 / mean relative error: a line a parameter, a column a method."""
    lines = [f"{'R2 / relative error':<22}" + "".join(f"{name:>27}" for name in names)]
    shown = (str(row["parameter"]) for row in rows if row["method"] in names)
    for parameter in dict.fromkeys(shown):
        line = f"{parameter:<22}"
        for name in names:
            one = [r for r in rows if (r["method"], r["parameter"]) == (name, parameter)]
            text = f"{one[0]['r2']:.3f} / {one[0]['relative_error']:.1%}" if one else "-"
            line += f"{text:>27}"
        lines.append(line)
    return lines


def drawn(generator: WebGenerator, asked: Sequence[Asked], **options: Any) -> Made:
    """Webs of a model."""
    found = generator.draw(asked, tries=TRIES, complete=False, **options)
    met = [one for k, one in enumerate(asked) if k not in found.missing]
    return Made(found.webs, met, found.tried, sum(found.rejected.values()))


def laid(family: str, asked: Sequence[Asked], seed: int) -> Made:
    """Webs laid with about the nodes asked for, scaled to the lengths asked for."""
    from structgen.webs.deposition import deposit

    def one(condition: Asked, place: int, attempt: int) -> Web:
        number = max(12, int(condition["n_nodes"]))
        return deposit(family, 10_000_000 + seed + 1000 * place + attempt, nodes=number)

    return _each(asked, one, seed)


def random_pieces(family: str, asked: Sequence[Asked], seed: int) -> Made:
    """Random connected pieces of a larger web, at the counts and lengths asked for."""
    import numpy as np

    from structgen.webs.deposition import deposit
    from structgen.webs.subgraphs import pieces

    largest = max(int(one["n_nodes"]) for one in asked)
    large = deposit(family, 20_000_000 + seed, nodes=max(2000, 2 * largest))

    def one(condition: Asked, place: int, attempt: int) -> Web:
        key = [seed, place, attempt]
        rng = np.random.default_rng(key)
        n = int(condition["n_nodes"])
        web = pieces(large, 1, (n, n), int(rng.integers(2**31)))[0]
        return with_edges(web, int(condition["n_edges"]), rng)

    return _each(asked, one, seed)


def with_edges(web: Web, number: int, rng: Any) -> Web:
    """The web with so many edges: random ones go (never those of a random spanning tree) or come.

    Added edges join the nearest nodes that are not joined. A node with one edge becomes an anchor.
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    from structgen.webs.web import make_web

    n, edges, kinds = web.n_nodes, web.edges, web.thread
    weights = rng.uniform(1, 2, len(edges))
    tree = minimum_spanning_tree(coo_array((weights, edges.T), shape=(n, n))).tocoo()
    inside = {
        tuple(sorted(pair)) for pair in zip(tree.row.tolist(), tree.col.tolist(), strict=True)
    }
    order = [k for k, pair in enumerate(edges.tolist()) if tuple(pair) in inside]
    order += [int(k) for k in rng.permutation(len(edges)) if tuple(edges[k].tolist()) not in inside]
    keep = np.array(order[: max(number, n - 1)])
    edges, kinds = edges[keep], kinds[keep]
    if number > len(edges):
        i, j = np.triu_indices(n, 1)
        far = np.linalg.norm(web.pos[i] - web.pos[j], axis=1)
        known = set(map(tuple, edges.tolist()))
        free = [k for k in np.argsort(far) if (int(i[k]), int(j[k])) not in known]
        more = np.array(free[: number - len(edges)])
        edges = np.concatenate([edges, np.column_stack([i[more], j[more]])])
        kinds = np.concatenate([kinds, rng.choice(web.thread, len(more))])
    ends = np.bincount(edges.ravel(), minlength=n) == 1
    return make_web(web.pos, edges, thread=kinds, anchors=np.flatnonzero(web.anchors | ends))


def _each(asked: Sequence[Asked], make: Callable[[Asked, int, int], Web], seed: int) -> Made:
    """Webs of conditions, turned at random, balanced and scaled; made anew if rejected.

    A condition for which none is found in `TRIES` tries has no web, as with the models.
    """
    import numpy as np

    from structgen.webs.equilibrium import NoEquilibrium
    from structgen.webs.generator import finished
    from structgen.webs.layout import turn
    from structgen.webs.recipes import mapped

    webs, met, tried = [], [], 0
    for place, condition in enumerate(asked):
        for attempt in range(TRIES):
            tried += 1
            try:
                raw = make(condition, place, attempt)
                raw = mapped(raw, turn(np.random.default_rng([seed, place, attempt, 1])))
                webs.append(finished(raw, condition))
            except NoEquilibrium:
                continue
            met.append(condition)
            break
    return Made(webs, met, tried, tried - len(webs))


def mechanics_rows(
    model: str, generator: WebGenerator, held_out: Sequence[Web], candidates: int, **options: Any
) -> list[dict[str, Any]]:
    """R^2 and error of stiffness, strength and toughness: each alone, and all three together."""
    import numpy as np

    from structgen.webs.measures import AXES, MECHANICS, agreement, mechanics, parameters

    rows, counts, wanted = [], [], []
    for web in held_out:
        try:
            wanted.append(mechanics(web))
        except (ConfigError, DataError):
            continue
        counts.append({k: v for k, v in parameters(web).items() if k not in AXES})
    groups = {name: (name,) for name in MECHANICS} | {"together": MECHANICS}
    for group, names in groups.items():
        asked = [
            {**known, **{n: all_of[n] for n in names}}
            for known, all_of in zip(counts, wanted, strict=True)
        ]
        made = generator.draw(asked, tries=TRIES, candidates=candidates, **options)
        pairs = []
        for one, web in zip(wanted, made.webs, strict=True):
            try:
                pairs.append((one, mechanics(web)))
            except (ConfigError, DataError):
                continue
        for name in names:
            both = np.array([(a[name], b[name]) for a, b in pairs])
            label = name if group == name else f"{name}, {group}"
            row = {"method": model, "parameter": label}
            rows.append({**row, **agreement(both[:, 0], both[:, 1])})
    return rows
