"""Webs as diffusion tasks: what every model of webs shares.

Positions are in units of a web's mean edge length, so that a model knows no size and a length
that is asked for is a factor. Axial conditions are mean |dx|, |dy|, |dz| over the mean length.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from diffcore.denoisers import Denoiser
from diffcore.processes import Process
from diffcore.state import State
from structgen.webs.measures import AXES, MECHANICS, parameters
from structgen.webs.web import THREADS, Bools, Floats, Ints, Web

CLASSES = 1 + len(THREADS)
"""No thread, or one of a class."""

CONDITIONS = ("n_nodes", "n_edges", "edges_per_node", *AXES, *MECHANICS)

Values = Sequence[Mapping[str, float]]
"""Parameters by name of every web of a batch."""

CERTAIN = 30.0
"""Logit of what is certain."""

LAST_TIME = 0.02
"""At which the probabilities of threads are read from a finished sample."""


def features(values: Mapping[str, float]) -> list[float]:
    """What a network is told of a web's parameters [9]: NaN for what is not given.

    Axial means are taken over the mean length (not told without it), stiffness times it; positive
    quantities as logarithms.
    """
    length = values.get("mean_edge_length", np.nan)
    out = [values.get(name, np.nan) for name in ("n_nodes", "n_edges", "edges_per_node")]
    out = [float(np.log(v)) for v in out]
    out += [values.get(name, np.nan) / length for name in AXES]
    out.append(float(np.log(max(values.get("stiffness", np.nan) * length, 1e-3))))
    out += [float(np.log(max(values.get(name, np.nan), 1e-3))) for name in MECHANICS[1:]]
    # max() drops a NaN that stands second: put it back
    missing = [name not in values for name in MECHANICS]
    missing[0] |= bool(np.isnan(length))
    return out[:6] + [np.nan if m else v for m, v in zip(missing, out[6:], strict=True)]


@dataclass(frozen=True)
class Draft:
    """A web as a model drew it.

    Attributes:
        pos: positions [N, 3], in a unit of its own.
        pairs: pairs of nodes that may have a thread [M, 2], the smaller first, each once.
        chance: probability of every class of those pairs [M, CLASSES]; class 0 is no thread.
        threads: number of threads that the model drew of itself.
        held: nodes that it holds [N].
    """

    pos: Floats
    pairs: Ints
    chance: Floats
    threads: int
    held: Bools


@dataclass(frozen=True)
class Request:
    """Webs of one size that are wanted of a model; B of them.

    Attributes:
        size: nodes.
        rngs: one a web.
        steps: of the sampler, where it has a choice.
        told: parameters of each web that are asked for.
        threads: of each web, or None for as many as the model draws. Only a model that places
            nodes on threads has to know; a draft may have others.
    """

    size: int
    rngs: list[torch.Generator]
    steps: int
    told: Values
    threads: Sequence[int | None]


def dense_draft(pos: Floats, probability: Floats, threads: int, held: Bools) -> Draft:
    """The draft of probabilities of all pairs [N, N, CLASSES]."""
    i, j = np.triu_indices(len(pos), 1)
    return Draft(pos, np.column_stack([i, j]), probability[i, j], threads, held)


@dataclass(frozen=True)
class Statistics:
    """What a model knows of its training set.

    Attributes:
        marginals: class probabilities of ``anchor`` and ``edge``.
        sizes: number of webs by number of nodes.
        moments: mean and standard deviation of every condition's feature.
        scale: standard deviation of the centred positions, mean edge lengths.
        ratio: most threads a node.
        reach: furthest that a thread reaches back in the order of nodes (`order`).
        back: most threads from a node to those before it.
    """

    marginals: Mapping[str, tuple[float, ...]]
    sizes: Mapping[int, int]
    moments: tuple[tuple[float, float], ...]
    scale: float
    ratio: float = 0.0
    reach: int = 0
    back: int = 0

    @property
    def largest(self) -> int:
        """Most nodes of a web."""
        return max(self.sizes)

    def condition(self, values: Values) -> Tensor:
        """Standardised conditions [B, 9] of parameters by name, NaN for those not given."""
        rows = torch.tensor([features(v) for v in values], dtype=torch.float64)
        mean, std = torch.tensor(self.moments, dtype=torch.float64).T
        told: Tensor = ((rows - mean) / std).float()
        return told


@dataclass(frozen=True)
class WebTask(ABC):
    """A way to make webs: fields, processes, a network, and the way from and to webs.

    Attributes:
        data: of the training set.
        method: name in a model's card.
        ordered: nodes have an order and axes a meaning to the network: batches hold webs of one
            size, each time in another order and turned onto other axes.
        together: most nodes of the webs that are drawn at a time.
        beyond: a model may be asked for so many times the nodes of its largest training web.
    """

    data: Statistics
    method: ClassVar[str]
    ordered: ClassVar[bool] = True
    together: ClassVar[int] = 100_000
    beyond: ClassVar[float] = 1.0

    @abstractmethod
    def processes(self) -> dict[str, Process]:
        """Of the fields, as a sampler needs them."""

    def taught(self) -> dict[str, Process]:
        """The same as a trainer needs them."""
        return self.processes()

    def fitted(self, webs: Sequence[Web]) -> WebTask:
        """The task with what else it has to know of its training set."""
        return self

    @abstractmethod
    def build(self) -> nn.Module:
        """A network with fresh weights."""

    @abstractmethod
    def denoiser(self, network: nn.Module, *, taught: bool = False) -> Denoiser:
        """The network in the x0 convention; ``taught`` while it is trained."""

    @abstractmethod
    def encode(self, webs: Sequence[Web], values: Values, rng: np.random.Generator) -> State:
        """A batch of webs with their parameters; ``rng`` orders their nodes."""

    @abstractmethod
    def propose(self, denoiser: Denoiser, request: Request) -> list[Draft]:
        """A web of so many nodes for every generator.

        Args:
            denoiser: knows the conditions, a row for every generator.
            request: what is wanted.
        """

    def to_json(self) -> dict[str, Any]:
        """A value for the model's card."""
        fields = asdict(self)
        data = fields.pop("data")
        return {"method": self.method, **data, **fields}


def values_of(web: Web, pulled: Mapping[str, float] | None = None) -> dict[str, float]:
    """Parameters of a training web, with its mechanics where they are known."""
    return parameters(web) | {n: v for n, v in (pulled or {}).items() if n in MECHANICS}
