"""Webs as a diffusion task: fields, processes, network, and the way from and to webs.

Positions are in units of a web's mean edge length, so that a model knows no size and a length that
is asked for is a factor. Axial conditions are mean |dx|, |dy|, |dz| over the mean length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffcore.denoisers import Context, as_clean
from diffcore.domains import Nodes, Pairs, Points
from diffcore.errors import ConfigError
from diffcore.processes import Categorical, Gaussian, Process, marginal_kernel
from diffcore.schedules import FlowTime
from diffcore.state import State, Times
from structgen.webs.measures import AXES, MECHANICS, parameters
from structgen.webs.network import NetworkConfig, WebNetwork
from structgen.webs.web import THREADS, Web

CLASSES = 1 + len(THREADS)
"""No thread, or one of a class."""

CONDITIONS = ("n_nodes", "n_edges", "edges_per_node", *AXES, *MECHANICS)


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
class WebTask:
    """What a web model is made of.

    Attributes:
        marginals: class probabilities of ``anchor`` and ``edge`` in the training data.
        sizes: number of training webs by number of nodes.
        moments: mean and standard deviation of every condition's feature in the training data.
        scale: standard deviation of the centred positions, mean edge lengths.
        network: size of the network.
    """

    marginals: Mapping[str, tuple[float, ...]]
    sizes: Mapping[int, int]
    moments: tuple[tuple[float, float], ...]
    scale: float
    network: NetworkConfig = field(default_factory=NetworkConfig)

    def processes(self) -> dict[str, Process]:
        """Positions by flow matching; anchors and threads by classes that fall to the marginals."""
        kernels = {n: marginal_kernel(torch.tensor(p)) for n, p in self.marginals.items()}
        return {
            "pos": Gaussian(FlowTime(), Points()),
            "anchor": Categorical(FlowTime(), Nodes(), kernels["anchor"]),
            "edge": Categorical(FlowTime(), Pairs(), kernels["edge"]),
        }

    def build(self) -> WebNetwork:
        """A network with fresh weights."""
        axial = tuple(CONDITIONS.index(name) for name in AXES)
        return WebNetwork(self.network, 2, CLASSES, len(CONDITIONS), axial)

    def condition(self, values: Sequence[Mapping[str, float]]) -> Tensor:
        """Standardised conditions [B, 9] of parameters by name, NaN for those not given."""
        rows = torch.tensor([features(v) for v in values], dtype=torch.float64)
        mean, std = torch.tensor(self.moments, dtype=torch.float64).T
        told: Tensor = ((rows - mean) / std).float()
        return told

    def encode(self, webs: Sequence[Web], values: Sequence[Mapping[str, float]]) -> State:
        """A batch of webs with their parameters, padded to the largest."""
        b, n = len(webs), max(web.n_nodes for web in webs)
        pos, mask = torch.zeros(b, n, 3), torch.zeros(b, n, dtype=torch.bool)
        anchor = torch.zeros(b, n, dtype=torch.int64)
        edge = torch.zeros(b, n, n, dtype=torch.int64)
        for k, web in enumerate(webs):
            size = web.n_nodes
            centred = web.pos - web.pos.mean(0)
            pos[k, :size] = torch.from_numpy(centred / web.lengths.mean() / self.scale).float()
            mask[k, :size] = True
            anchor[k, :size] = torch.from_numpy(web.anchors.astype(np.int64))
            i, j = torch.from_numpy(web.edges.T.copy())
            edge[k, i, j] = edge[k, j, i] = torch.from_numpy(web.thread) + 1
        told = self.condition(values)
        return State({"pos": pos, "anchor": anchor, "edge": edge, "condition": told}, mask)

    def to_json(self) -> dict[str, Any]:
        """A value for the model's card."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> WebTask:
        """The task of a model's card.

        Raises:
            ConfigError: keys are missing or unknown.
        """
        try:
            return cls(
                {k: tuple(v) for k, v in value["marginals"].items()},
                {int(k): int(v) for k, v in value["sizes"].items()},
                tuple((float(a), float(b)) for a, b in value["moments"]),
                float(value["scale"]),
                NetworkConfig(**value["network"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not a web task: {error}") from error


def task_for(
    webs: Sequence[Web], values: Sequence[Mapping[str, float]], network: NetworkConfig
) -> WebTask:
    """The task of a training set."""
    sizes: dict[int, int] = {}
    anchors, classes, pairs, squares, nodes = 0, np.zeros(CLASSES), 0, 0.0, 0
    for web in webs:
        sizes[web.n_nodes] = sizes.get(web.n_nodes, 0) + 1
        anchors += int(web.anchors.sum())
        nodes += web.n_nodes
        pairs += web.n_nodes * (web.n_nodes - 1) // 2
        classes[1:] += np.bincount(web.thread, minlength=len(THREADS))
        centred = (web.pos - web.pos.mean(0)) / web.lengths.mean()
        squares += float((centred**2).sum())
    classes[0] = pairs - classes.sum()
    share = anchors / nodes
    table = np.array([features(v) for v in values])
    known = np.isfinite(table)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, table, 0).sum(0) / count
    std = np.sqrt(np.where(known, (table - mean) ** 2, 0).sum(0) / count)
    return WebTask(
        {
            "anchor": (1 - share, share),
            "edge": tuple((classes / classes.sum()).round(8).tolist()),
        },
        dict(sorted(sizes.items())),
        tuple(
            (round(float(m), 6), round(max(float(s), 1e-3), 6))
            for m, s in zip(mean, std, strict=True)
        ),
        round(float(np.sqrt(squares / (3 * nodes))), 4),
        network,
    )


@dataclass(frozen=True)
class WebDenoiser:
    """The network in the x0 convention."""

    network: WebNetwork
    processes: Mapping[str, Process]

    def __call__(self, state: State, times: Times, context: Context) -> State:
        """Predict the clean state: means and class probabilities."""
        pos = state["pos"]
        condition = state.get("condition")
        if condition is None:
            condition = pos.new_full((state.rows, len(CONDITIONS)), torch.nan)
        raw = self.network(
            pos,
            F.one_hot(state["anchor"], 2).to(pos.dtype),
            F.one_hot(state["edge"], CLASSES).to(pos.dtype),
            times,
            state.mask,
            condition,
        )
        return State(
            {
                n: as_clean(raw[n], state[n], times[n], p, state.mask, "x0")
                for n, p in self.processes.items()
            },
            state.mask,
        )


def values_of(web: Web, pulled: Mapping[str, float] | None = None) -> dict[str, float]:
    """Parameters of a training web, with its mechanics where they are known."""
    return parameters(web) | {n: v for n, v in (pulled or {}).items() if n in MECHANICS}
