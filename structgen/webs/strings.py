"""Webs as strings of tokens, written from left to right: the paper's autoregressive model.

A node says whether it is held, then its threads to nodes before it (how far back in the order, and
the class), then its place, a token a coordinate. What cannot follow is never written: every node
but the first has a thread to one before it, so that whatever is written is connected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcore.denoisers import Context, Denoiser, as_clean
from diffcore.domains import Nodes
from diffcore.processes import Categorical, Process, absorbing_kernel
from diffcore.samplers import prior, sample, solver
from diffcore.schedules import FlowTime, uniform_grid
from diffcore.state import State, Times
from diffcore.teaching import TeacherForced
from diffcore.transformer import Size, TokenNetwork
from structgen.webs.graphs import scaled_positions
from structgen.webs.order import back_edges, order
from structgen.webs.task import (
    CERTAIN,
    CLASSES,
    CONDITIONS,
    Draft,
    Request,
    Statistics,
    Values,
    WebTask,
    dense_draft,
)
from structgen.webs.web import Floats, Web

END, FREE, HELD = 0, 1, 2
KINDS = CLASSES - 1
WIDEST = 3.5
"""Places are told up to so many standard deviations."""


@dataclass(frozen=True)
class Alphabet:
    """Which token is what: the end, free, held, threads back, then places along x, y and z.

    Attributes:
        reach: furthest that a thread reaches back.
        bins: of a coordinate.
    """

    reach: int
    bins: int

    @property
    def places(self) -> int:
        """The first token of a place."""
        return 3 + self.reach * KINDS

    @property
    def mask(self) -> int:
        """The token of what is not written yet; the last one."""
        return self.places + 3 * self.bins

    @property
    def classes(self) -> int:
        """Number of tokens, the mask included."""
        return self.mask + 1

    def thread(self, far: int, kind: int) -> int:
        """The token of a thread."""
        return 3 + (far - 1) * KINDS + kind

    def place(self, x: Tensor) -> Tensor:
        """Tokens [N, 3] of places [N, 3] in standard deviations; the outermost for those beyond."""
        one = ((x + WIDEST) / (2 * WIDEST) * self.bins).floor().long().clamp(0, self.bins - 1)
        return one + self.places + self.bins * torch.arange(3, device=x.device)

    def coordinate(self, token: int) -> float:
        """The middle of a place's bin."""
        return ((token - self.places) % self.bins + 0.5) / self.bins * 2 * WIDEST - WIDEST

    @property
    def far(self) -> Tensor:
        """How far back every token's thread reaches [classes]; 0 for what is no thread."""
        token = torch.arange(self.classes)
        back = torch.div(token - 3, KINDS, rounding_mode="floor") + 1
        return torch.where((token >= 3) & (token < self.places), back, 0)

    @property
    def group(self) -> Tensor:
        """Of every token [classes]: 0 end, 1 free or held, 2 thread, 3 x, 4 y, 5 z, 6 mask."""
        token = torch.arange(self.classes)
        group = torch.where(token < self.places, 2, 3 + (token - self.places) // self.bins)
        group[0], group[1:3], group[-1] = 0, 1, 6
        return group

    def allowed(self, tokens: Tensor, nodes: Tensor) -> Tensor:
        """What may stand at every place [B, L, classes], given what stands before it.

        Args:
            tokens: [B, L]; what comes after a mask token means nothing.
            nodes: number of nodes of the web [B].
        """
        group, far = self.group.to(tokens.device), self.far.to(tokens.device)
        before = F.pad(tokens[:, :-1], (1, 0), value=self.mask - 1)  # as after a z
        said, back = group[before], far[before]
        begun = (said == 1).cumsum(1)
        more = begun < nodes.unsqueeze(1)
        first = begun == 1
        open_ = (said == 1) | (said == 2)
        groups = torch.stack(
            [
                (said == 0) | ((said == 5) & ~more),
                (said == 5) & more,
                torch.zeros_like(more),
                ((said == 1) & first) | (said == 2),
                said == 3,
                said == 4,
                torch.zeros_like(more),
            ],
            -1,
        )
        legal = groups[..., group]
        # threads go on to ever further nodes, none beyond the first node
        reachable = (far > back.unsqueeze(-1)) & (far < begun.unsqueeze(-1))
        return torch.where(group == 2, reachable & open_.unsqueeze(-1), legal)


@dataclass(frozen=True)
class StringTask(WebTask):
    """A causal transformer over the tokens of a web.

    Attributes:
        network: its size.
        bins: of a coordinate.
    """

    network: Size = field(default_factory=Size)
    bins: int = 96
    method: ClassVar[str] = "autoregressive"

    @property
    def alphabet(self) -> Alphabet:
        """Its tokens."""
        return Alphabet(self.data.reach, self.bins)

    @property
    def length(self) -> int:
        """Most tokens of a web."""
        return self.tokens_for(self.data.largest)

    def tokens_for(self, size: int) -> int:
        """Tokens that a web of so many nodes may take."""
        return 4 * size + int(1.1 * self.data.ratio * size) + 1

    def processes(self) -> dict[str, Process]:
        """Tokens that are masked until they are written."""
        return {"token": Categorical(FlowTime(), Nodes(), absorbing_kernel(self.alphabet.classes))}

    def taught(self) -> dict[str, Process]:
        """The network sees the clean tokens."""
        return {"token": TeacherForced(self.processes()["token"])}

    def build(self) -> TokenNetwork:
        """A network with fresh weights."""
        return TokenNetwork(
            self.network, self.alphabet.classes, self.length, len(CONDITIONS), causal=True
        )

    def denoiser(self, network: nn.Module, *, taught: bool = False) -> Denoiser:
        """The network in the x0 convention."""
        return StringDenoiser(cast("TokenNetwork", network), self, carry=not taught)

    def encode(self, webs: Sequence[Web], values: Values, rng: np.random.Generator) -> State:
        """A batch of webs of one size with their parameters; the loss is over what is no end."""
        rows = [written(self.alphabet, self.data, web.take_nodes(order(web, rng))) for web in webs]
        token = torch.full((len(rows), max(map(len, rows)) + 1), END)
        for k, row in enumerate(rows):
            token[k, : len(row)] = torch.tensor(row)
        nodes = torch.tensor([web.n_nodes for web in webs])
        told = self.data.condition(values)
        return State({"token": token, "nodes": nodes, "condition": told}, token != END)

    def propose(self, denoiser: Denoiser, request: Request) -> list[Draft]:
        """A web of so many nodes for every generator; a step is a token."""
        size, rngs = request.size, request.rngs
        length, processes = self.tokens_for(size), self.processes()
        nodes = torch.full((len(rngs),), size)
        start = prior(processes, torch.ones(len(rngs), length, dtype=torch.bool), rngs)
        start = start.replace(nodes=nodes)
        grid = uniform_grid(length + 1)
        made = sample(denoiser, processes, start, grid, rngs, method=solver("left_to_right"))
        asked = made.replace(read=torch.ones(len(rngs), dtype=torch.bool))
        late = {"token": torch.zeros(len(rngs))}
        chance = denoiser(asked, late, {})["token"]
        return [self.draft(t, p, size) for t, p in zip(made["token"], chance, strict=True)]

    def draft(self, tokens: Tensor, chance: Tensor, size: int) -> Draft:
        """The web of tokens [L], with the probabilities that its threads had [L, classes].

        A pair that was not written has the largest probability that one of its node's places gave
        it. A string that ends before its last node leaves that node where the last one is.
        """
        a = self.alphabet
        tokens = tokens[: int((tokens != END).int().cumprod(0).sum())]
        group = a.group[tokens].tolist()
        by_thread = chance[:, 3 : a.places].double().reshape(len(chance), a.reach, KINDS).numpy()
        p = np.zeros((size, size, CLASSES))
        p[..., 0] = 1.0
        pos, held = np.zeros((size, 3)), np.zeros(size, dtype=bool)
        node, drawn = -1, []
        for k, token in enumerate(tokens.tolist()):
            if group[k] == 1:
                node += 1
                held[node] = token == HELD
                pos[node] = pos[max(node - 1, 0)]
            elif group[k] == 2:
                far, kind = divmod(token - 3, KINDS)
                drawn.append((node, node - far - 1, kind))
            else:
                pos[node, group[k] - 3] = a.coordinate(token)
            if group[k] in (2, 3):
                raise_to(p, node, by_thread[k])
        for i, j, kind in drawn:
            # above every thread that was not written, the surer ones first
            sure = 1 - 1e-3 * p[i, j, 0]
            p[i, j] = p[j, i] = np.concatenate([[1 - sure], sure * np.eye(KINDS)[kind]])
        return dense_draft(pos * self.data.scale, p, len(drawn), held)


def raise_to(p: Floats, node: int, threads: Floats) -> None:
    """Give pairs [N, N, CLASSES] of a node the probabilities [reach, KINDS] that are larger."""
    for back in range(1, min(node, len(threads)) + 1):
        there = threads[back - 1].sum()
        if there > 1 - p[node, node - back, 0]:
            row = np.concatenate([[1 - there], threads[back - 1]])
            p[node, node - back] = p[node - back, node] = row


def written(alphabet: Alphabet, data: Statistics, web: Web) -> list[int]:
    """The tokens of a web whose nodes are in order."""
    place = alphabet.place(scaled_positions(data, web)).tolist()
    row: list[int] = []
    back = back_edges(web, alphabet.reach)
    for held, threads, where in zip(web.anchors.tolist(), back, place, strict=True):
        row.append(HELD if held else FREE)
        row += [alphabet.thread(far, kind) for far, kind in threads]
        row += where
    return row


@dataclass(frozen=True)
class StringDenoiser:
    """The causal transformer in the x0 convention: the probabilities of every next token.

    Attributes:
        network: of the task.
        task: says what is what.
        carry: tokens that are written are certain, and only what is to be written next is computed;
            not while the network is taught, nor where the state says ``read``.
    """

    network: TokenNetwork
    task: StringTask
    carry: bool = True

    def __call__(self, state: State, times: Times, context: Context) -> State:
        """Predict the tokens."""
        x, a = state["token"], self.task.alphabet
        carry = self.carry and "read" not in state
        upto = self._needed(x) if carry else x.shape[1]
        k, dtype = a.classes, self.network.place.dtype
        told = state.get("condition")
        if told is None:
            told = torch.full((state.rows, len(CONDITIONS)), torch.nan, dtype=dtype)
        start = torch.full_like(x[:, :1], a.mask)
        features = F.one_hot(torch.cat([start, x[:, :-1]], 1)[:, :upto], k).to(dtype)
        time = torch.zeros(len(x), dtype=dtype, device=x.device)
        raw = CERTAIN * F.one_hot(torch.full_like(x, END), k).to(dtype)  # what is not needed
        if upto:
            seen = self.network(features, told, time)
            legal = a.allowed(x[:, :upto], state["nodes"])
            legal = legal | ~legal.any(-1, keepdim=True)  # what comes after a mask means nothing
            raw = torch.cat([seen.masked_fill(~legal, -torch.inf), raw[:, upto:]], 1)
        clean = as_clean(
            raw, x, times["token"], self.task.processes()["token"], state.mask, "logits"
        )
        if carry:
            shown = (x != a.mask).unsqueeze(-1)
            clean = torch.where(shown, F.one_hot(x, k).to(clean.dtype), clean)
        return State({"token": clean}, state.mask)

    def _needed(self, x: Tensor) -> int:
        """Places that the network must see: up to the first one that is not written in a row."""
        masked = x == self.task.alphabet.mask
        first = masked.int().argmax(1)
        before = torch.arange(x.shape[1], device=x.device) < first.unsqueeze(1)
        done = ((x == END) & before).any(1) | ~masked.any(1)
        return int(torch.where(done, 0, first + 1).max())
