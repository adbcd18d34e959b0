"""Webs from a trained model: exact counts, a tension equilibrium, lengths and forces as asked.

A model proposes positions, anchors and the probability of every thread. What is asked for is then
met where it can be by construction: so many nodes are drawn; the most likely threads are taken, a
spanning tree first, until there are as many as asked for; the web is relaxed to the nearest tension
equilibrium; and its axes are scaled to the lengths asked for, which keeps the equilibrium
(`equilibrium`). Webs that have no equilibrium are rejected and counted by reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffcore import random
from diffcore.checkpoint import fill_module, load_card, load_weights
from diffcore.denoisers import Denoiser
from diffcore.errors import ConfigError, DataError, ModelFileError
from diffcore.guidance import classifier_free, conditioned
from structgen.webs.conditions import check, length_factors
from structgen.webs.equilibrium import NoEquilibrium, relax
from structgen.webs.methods import task_from_json
from structgen.webs.selection import chosen_threads
from structgen.webs.silk import with_silk_sizes
from structgen.webs.targets import mechanical, nearest
from structgen.webs.task import CONDITIONS, Draft, Request, WebTask
from structgen.webs.web import Web, make_web


@dataclass(frozen=True)
class Sampled:
    """What a model made.

    Attributes:
        webs: in tension equilibrium.
        tried: webs made in all.
        rejected: number of rejected webs by reason.
        raw: for every web of `webs` what the model drew, before relaxation and scaling.
        missing: places of the conditions that no web was found for.
    """

    webs: list[Web]
    tried: int
    rejected: Mapping[str, int]
    raw: list[Web] = field(repr=False)
    missing: tuple[int, ...] = ()


class WebGenerator:
    """A trained model of webs."""

    def __init__(self, task: WebTask, denoiser: Denoiser, card: Mapping[str, Any] | None = None):
        """See `from_pretrained`."""
        self.task, self.denoiser, self.card = task, denoiser, dict(card or {})
        self.processes = task.processes()

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> WebGenerator:
        """A shipped model by name, or a weights file with its card beside it.

        Raises:
            ModelFileError: unknown, broken, or of another kind.
        """
        from structgen.webs.weights import find_model

        path = find_model(name_or_path)
        card = load_card(path)
        if card.get("kind") != "webs":
            raise ModelFileError(f"{path}: expected a model of webs, got {card.get('kind')!r}")
        try:
            task = task_from_json(card["task"])
        except (ConfigError, KeyError) as error:
            raise ModelFileError(f"{path.with_suffix('.json')}: {error}") from error
        with torch.random.fork_rng(devices=[]):
            network = task.build()
        fill_module(network, load_weights(path, card), path)
        network.eval().requires_grad_(False)
        return cls(task, task.denoiser(network), card)

    def sample(
        self,
        number: int,
        condition: Mapping[str, float] | None = None,
        *,
        seed: int = 0,
        steps: int = 40,
        guidance: float = 1.0,
        tries: int = 10,
        batch: int = 16,
    ) -> list[Web]:
        """So many webs in tension equilibrium; see `draw` for the options and errors."""
        options = {"steps": steps, "guidance": guidance, "tries": tries, "batch": batch}
        return self.draw([condition or {}] * number, seed=seed, **options).webs  # type: ignore[arg-type]

    @torch.inference_mode()
    def draw(
        self,
        conditions: Sequence[Mapping[str, float]],
        *,
        seed: int = 0,
        steps: int = 40,
        guidance: float = 1.0,
        tries: int = 10,
        batch: int = 16,
        exact: bool = True,
        candidates: int = 24,
        complete: bool = True,
    ) -> Sampled:
        """One web for every condition.

        Counts, lengths, stiffness and strength are met by construction as far as they go together;
        of several webs with mechanics the nearest is taken (`targets`).

        Args:
            conditions: any of the seven parameters and of stiffness (uN/mm), strength (uN) and
                toughness (MJ/m^3), by name.
            seed: of everything that is random; a web does not depend on the batch it is made in.
            steps: of the sampler.
            guidance: classifier-free guidance scale; 1 follows the condition, 0 ignores it.
            tries: times a rejected web is made anew.
            batch: webs made at a time.
            exact: meet numbers of edges by rank and lengths along axes by scaling; otherwise the
                model's own threads and one scale for all axes, and no choice.
            candidates: webs made for each condition, where one asks for mechanics.
            complete: refuse to return without a web for every condition; otherwise
                `Sampled.missing` says which have none (not where one asks for mechanics).

        Raises:
            ConfigError: an impossible condition or an option outside its range.
            DataError: no web of a condition has an equilibrium in so many tries.
        """
        counts = {"number": len(conditions), "steps": steps, "tries": tries}
        for name, value in {**counts, "candidates": candidates}.items():
            if value < 1:
                raise ConfigError(f"{name}: expected at least 1, got {value}")
        for one in conditions:
            self.check(one)
        choose = exact and candidates > 1 and any(mechanical(one) for one in conditions)
        every = [one for one in conditions for _ in range(candidates if choose else 1)]
        made = self._drawn(every, seed, steps, guidance, tries, batch, exact)
        asked_mechanics = exact and any(mechanical(one) for one in conditions)
        if made.missing and (complete or asked_mechanics):
            reasons = ", ".join(f"{n} {r}" for r, n in made.rejected.items())
            raise DataError(
                f"{len(made.missing)} of {len(every)} webs have no tension equilibrium after "
                f"{tries} tries each ({reasons})"
            )
        if not asked_mechanics:
            return made
        width = len(every) // len(conditions)
        webs, raw = [], []
        for k, one in enumerate(conditions):
            place, web = 0, made.webs[k * width]
            if mechanical(one):
                place, web = nearest(made.webs[k * width : (k + 1) * width], one)
            webs.append(web)
            raw.append(made.raw[k * width + place])
        return Sampled(webs, made.tried, made.rejected, raw)

    def _drawn(
        self,
        conditions: Sequence[Mapping[str, float]],
        seed: int,
        steps: int,
        guidance: float,
        tries: int,
        batch: int,
        exact: bool,
    ) -> Sampled:
        found: dict[int, tuple[Web, Web]] = {}
        rejected: Counter[str] = Counter()
        tried = 0
        for attempt in range(tries):
            left = [k for k in range(len(conditions)) if k not in found]
            for start in range(0, len(left), batch):
                rows = left[start : start + batch]
                asked = [self.completed(conditions[k], seed, k, attempt) for k in rows]
                rngs = [random.generator(seed, attempt, k) for k in rows]
                met = asked if exact else [_one_scale(a) for a in asked]
                made = self._propose(asked, met, rngs, steps, guidance)
                tried += len(rows)
                for k, one, raw in zip(rows, met, made, strict=True):
                    web = _judged(raw, one, rejected)
                    if web is not None:
                        found[k] = (web, raw)
        both = [found[k] for k in sorted(found)]
        missing = tuple(k for k in range(len(conditions)) if k not in found)
        return Sampled([w for w, _ in both], tried, dict(rejected), [r for _, r in both], missing)

    def check(self, condition: Mapping[str, float]) -> None:
        """Whether a web with these parameters can be; see `conditions.check`."""
        check(condition, self.largest)

    @property
    def largest(self) -> int:
        """Nodes that can be asked for."""
        return int(self.task.beyond * self.task.data.largest)

    def completed(
        self, condition: Mapping[str, float], seed: int, row: int, attempt: int
    ) -> dict[str, float]:
        """The condition with a number of nodes, and with edges where edges per node say so."""
        out = dict(condition)
        ratio = out.get("edges_per_node")
        if "n_nodes" not in out and ratio is not None and "n_edges" in out:
            out["n_nodes"] = float(round(out["n_edges"] / ratio))
        if "n_nodes" not in out:
            rng = random.generator(seed, attempt, row, 1)
            sizes = list(self.task.data.sizes)
            share = torch.tensor([float(c) for c in self.task.data.sizes.values()])
            if "n_edges" in out:
                near = torch.tensor([abs(out["n_edges"] / 1.7 - s) for s in sizes])
                share = share * (near <= max(2.0, float(near.min()))).float()
            out["n_nodes"] = float(sizes[int(torch.multinomial(share, 1, generator=rng))])
        if ratio is not None and "n_edges" not in out:
            out["n_edges"] = float(round(ratio * out["n_nodes"]))
        return out

    def _propose(
        self,
        asked: Sequence[Mapping[str, float]],
        met: Sequence[Mapping[str, float]],
        rngs: list[torch.Generator],
        steps: int,
        guidance: float,
    ) -> list[Web]:
        told = self.task.data.condition(asked)
        sizes = [int(a["n_nodes"]) for a in asked]
        webs: dict[int, Web] = {}
        for size in sorted(set(sizes)):  # no padding: a web does not depend on its batch
            alike = [k for k, n in enumerate(sizes) if n == size]
            width = max(1, self.task.together // size)
            for start in range(0, len(alike), width):
                rows = alike[start : start + width]
                request = Request(
                    size,
                    [rngs[k] for k in rows],
                    steps,
                    [asked[k] for k in rows],
                    [_whole(met[k].get("n_edges")) for k in rows],
                )
                drafts = self.task.propose(self._told(told[rows], guidance), request)
                for k, draft in zip(rows, drafts, strict=True):
                    webs[k] = web_of(draft, met[k].get("n_edges"))
        return [webs[k] for k in range(len(asked))]

    def _told(self, told: torch.Tensor, guidance: float) -> Denoiser:
        """The denoiser that knows the conditions [B, 9]."""
        knowing = conditioned(self.denoiser, condition=told)
        if guidance == 1.0:
            return knowing
        nothing = torch.full((1, len(CONDITIONS)), torch.nan)
        blind = conditioned(self.denoiser, condition=nothing)
        return classifier_free(knowing, blind, self.processes, guidance)


def web_of(draft: Draft, n_edges: float | None = None) -> Web:
    """The web of a draft: its most likely threads, as many as asked for or as the model drew.

    A node with one thread is held. With a number that is asked for no part hangs from one node, as
    far as that can be (`holding`).
    """
    n = len(draft.pos)
    wanted = draft.threads if n_edges is None else int(n_edges)
    number = min(max(wanted, n - 1), n * (n - 1) // 2)
    draft = with_pairs(draft, number)
    likely = 1 - draft.chance[:, 0]
    chosen = chosen_threads(n, draft.pairs, likely, number, draft.held, n_edges is not None)
    pairs = draft.pairs[chosen]
    kinds = draft.chance[chosen, 1:].argmax(-1)
    ends = np.bincount(pairs.ravel(), minlength=n) == 1
    return make_web(draft.pos, pairs, thread=kinds, anchors=np.flatnonzero(draft.held | ends))


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _one_scale(asked: Mapping[str, float]) -> dict[str, float]:
    """What a model's own draw is still given: one scale for all axes."""
    return {k: v for k, v in asked.items() if k in ("n_nodes", "mean_edge_length")}


def _judged(raw: Web, asked: Mapping[str, float], rejected: Counter[str]) -> Web | None:
    """The finished web, or None and one more of a reason."""
    try:
        return finished(raw, asked)
    except NoEquilibrium as error:
        rejected[error.reason] += 1
    except DataError:
        rejected["unheld"] += 1
    return None


def with_pairs(draft: Draft, number: int) -> Draft:
    """The draft with enough pairs for so many threads that join all nodes.

    Where the pairs that it knows are too few, or leave parts apart, the nearest others are added
    with the probability 0.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n, m = len(draft.pos), len(draft.pairs)
    graph = coo_array((np.ones(m), tuple(draft.pairs.T)), shape=(n, n))
    parts, part = connected_components(graph, directed=False)
    if parts == 1 and m >= number:
        return draft
    i, j = np.triu_indices(n, 1)
    far = np.linalg.norm(draft.pos[i] - draft.pos[j], axis=1)
    known = np.isin(i * n + j, draft.pairs[:, 0] * n + draft.pairs[:, 1])
    order = np.argsort(np.where(known, np.inf, far), kind="stable")
    more = list(order[: max(0, number - m)])
    joins = order[part[i[order]] != part[j[order]]]
    for k in joins:
        if parts == 1:
            break
        one, other = part[i[k]], part[j[k]]
        if one != other:
            part = np.where(part == other, one, part)
            parts -= 1
            more.append(k)
    extra = np.unique(np.array(more, dtype=np.int64))
    none = np.zeros((len(extra), draft.chance.shape[1]))
    none[:, 0] = 1.0
    return replace(
        draft,
        pairs=np.concatenate([draft.pairs, np.column_stack([i[extra], j[extra]])]),
        chance=np.concatenate([draft.chance, none]),
    )


def finished(raw: Web, asked: Mapping[str, float]) -> Web:
    """The proposal in tension equilibrium, with silk sizes, at the lengths asked for.

    Raises:
        NoEquilibrium: it has none.
        DataError: it is not held.
    """
    sized = with_silk_sizes(raw)
    web = relax(sized, keep_shape=True)
    factors = length_factors(web, asked)
    flat = web.but(pos=web.pos * factors)
    if flat.lengths.min() <= 1e-3 * flat.lengths.mean():
        raise NoEquilibrium("collapsed", "scaled to its lengths the web has edges without length")
    # a web as a whole may be tauter than another: take the aim's mean, which keeps the balance
    density = web.tension / web.lengths
    tension = density * flat.lengths
    aim = sized.tension
    return flat.but(tension=tension * float(np.median(aim / tension)))
