"""Molecules as a diffusion task: fields, processes, network, and the way from and to atoms.

The task is a plain value: it is written into the model's card, and everything that sampling needs
(sizes, marginals, scale) comes from there and never from a data set. Needs torch only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcore.denoisers import PREVIOUS, Context, as_clean
from diffcore.domains import Nodes, Pairs, Points
from diffcore.errors import ConfigError, reading
from diffcore.processes import (
    Categorical,
    Gaussian,
    Process,
    absorbing_kernel,
    marginal_kernel,
    uniform_kernel,
)
from diffcore.schedules import Cosine, FlowTime, Schedule
from diffcore.state import State, Times
from molgen.datasets.vocabulary import Vocabulary
from molgen.models.eqgat import Eqgat, EqgatConfig

NODE_FEATURES = {"hybridisation": 5, "ring": 2, "aromatic": 2}
BOND_ORDERS = 4
"""No bond, single, double, triple: kekulised."""

_ADAPTIVE = {"pos": 2.5, "atom": 1.0, "charge": 1.0, "bond": 1.5}


@dataclass(frozen=True)
class MoleculeTask:
    """What a molecule model is made of.

    Attributes:
        elements: atomic numbers, in class order.
        charges: formal charges in e, in class order.
        features: further categorical node fields, of ``hybridisation``, ``ring``, ``aromatic``.
        marginals: class probabilities of every categorical field in the training data.
        sizes: number of training molecules by number of atoms.
        scale: standard deviation of the centred coordinates, Angstrom.
        network: size of the network.
        schedule: ``flow`` (linear) or ``adaptive_cosine`` (EQGAT-diff's exponents per field).
        chemistry: ``categorical`` or ``continuous`` (one-hot vectors under Gaussian noise).
        prior: where classes go: ``marginal``, ``uniform`` or ``absorbing``.
        predicts: what the network predicts of continuous fields: ``x0``, ``eps`` or ``v``.
        conditions: properties that can be asked for, with their mean and standard deviation in the
            training data; the state's field ``property`` holds them standardised, [B, P].
    """

    elements: tuple[int, ...]
    charges: tuple[int, ...]
    marginals: Mapping[str, tuple[float, ...]]
    sizes: Mapping[int, int]
    scale: float
    features: tuple[str, ...] = ()
    network: EqgatConfig = field(default_factory=EqgatConfig)
    schedule: str = "flow"
    chemistry: str = "categorical"
    prior: str = "marginal"
    predicts: str = "x0"
    conditions: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the options."""
        _known("schedule", self.schedule, ("flow", "adaptive_cosine"))
        _known("chemistry", self.chemistry, ("categorical", "continuous"))
        _known("prior", self.prior, ("marginal", "uniform", "absorbing"))
        _known("predicts", self.predicts, ("x0", "eps", "v"))
        for name in self.features:
            _known("feature", name, tuple(NODE_FEATURES))

    @property
    def node_classes(self) -> dict[str, int]:
        """Classes of every node field, the absorbing one included."""
        extra = int(self.prior == "absorbing")
        sizes = {"atom": len(self.elements), "charge": len(self.charges)}
        return {
            n: k + extra for n, k in (sizes | {n: NODE_FEATURES[n] for n in self.features}).items()
        }

    @property
    def pair_classes(self) -> dict[str, int]:
        """Classes of the bond field."""
        return {"bond": BOND_ORDERS + int(self.prior == "absorbing")}

    def _schedule(self, name: str) -> Schedule:
        return FlowTime() if self.schedule == "flow" else Cosine(nu=_ADAPTIVE.get(name, 1.0))

    def _categorical(self, name: str, classes: int) -> Process:
        pairs = name in self.pair_classes
        if self.chemistry == "continuous":
            return Gaussian(self._schedule(name), Pairs((classes,)) if pairs else Nodes((classes,)))
        kernel = {
            "marginal": lambda: marginal_kernel(torch.tensor(self.marginals[name])),
            "uniform": lambda: uniform_kernel(classes),
            "absorbing": lambda: absorbing_kernel(classes),
        }[self.prior]()
        return Categorical(self._schedule(name), Pairs() if pairs else Nodes(), kernel)

    def processes(self) -> dict[str, Process]:
        """One process per field."""
        fields: dict[str, Process] = {"pos": Gaussian(self._schedule("pos"), Points())}
        sizes = self.node_classes | self.pair_classes
        return fields | {name: self._categorical(name, k) for name, k in sizes.items()}

    def build(self) -> Eqgat:
        """A network with fresh weights."""
        names = ("pos", *self.node_classes, *self.pair_classes)
        return Eqgat(
            self.network, self.node_classes, self.pair_classes, names, len(self.conditions)
        )

    def encode(self, batch: Mapping[str, Tensor]) -> State:
        """Clean state from a dense batch of the molecule table.

        Raises:
            DataError: an element or a charge that the model does not know.
        """
        mask, vocabulary = batch["mask"], Vocabulary(self.elements, self.charges)
        fields = {
            "atom": vocabulary.encode_elements(batch["atomic_number"], mask),
            "charge": vocabulary.encode_charges(batch["charge"], mask),
            "bond": batch["bond"],
        } | {name: batch[name] for name in self.features}
        if self.chemistry == "continuous":
            sizes = self.node_classes | self.pair_classes
            domains = {n: p.domain for n, p in self.processes().items()}
            fields = {
                n: domains[n].project(F.one_hot(x, sizes[n]).float(), mask)
                for n, x in fields.items()
            }
        if self.conditions:
            fields["property"] = self.condition(batch, len(mask), mask.device)
        return State({"pos": batch["pos"] / self.scale} | fields, mask)

    def condition(
        self, values: Mapping[str, Tensor], rows: int, device: torch.device | None = None
    ) -> Tensor:
        """Standardised properties [rows, P], NaN for those that ``values`` ([rows] each) lacks."""
        missing = torch.full((rows,), torch.nan, device=device)
        columns = [
            (values[name].float() - mean) / std if name in values else missing
            for name, (mean, std) in self.conditions.items()
        ]
        return torch.stack(columns, -1)

    def decode(self, state: State) -> list[dict[str, Tensor]]:
        """Arrays of every molecule.

        Returns:
            A row's atomic_number [N], charge [N], bond_order [N, N] and pos [N, 3] in Angstrom.
        """
        state = state.to("cpu")
        if self.chemistry == "continuous":
            names = self.node_classes | self.pair_classes
            state = state.replace(**{n: state[n].argmax(-1) for n in names})
        elements, charges = torch.tensor([*self.elements, 0]), torch.tensor([*self.charges, 0])
        molecules = []
        for row in range(state.rows):
            n = int(state.mask[row].sum())
            molecules.append(
                {
                    "atomic_number": elements[state["atom"][row, :n]],
                    "charge": charges[state["charge"][row, :n]],
                    "bond_order": state["bond"][row, :n, :n] % BOND_ORDERS,
                    "pos": state["pos"][row, :n].float() * self.scale,
                }
            )
        return molecules

    def to_json(self) -> dict[str, Any]:
        """A value for the model's card."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MoleculeTask:
        """The task of a model's card.

        Raises:
            ConfigError: keys are missing or unknown.
        """
        with reading("a molecule task"):
            return cls(
                **{
                    **value,
                    "elements": tuple(value["elements"]),
                    "charges": tuple(value["charges"]),
                    "features": tuple(value["features"]),
                    "marginals": {k: tuple(v) for k, v in value["marginals"].items()},
                    "sizes": {int(k): int(v) for k, v in value["sizes"].items()},
                    "network": EqgatConfig(**value["network"]),
                    "conditions": {k: tuple(v) for k, v in value.get("conditions", {}).items()},
                }
            )


@dataclass(frozen=True)
class MoleculeDenoiser:
    """The network in the x0 convention."""

    network: Eqgat
    processes: Mapping[str, Process]
    predicts: str = "x0"

    def __call__(self, state: State, times: Times, context: Context) -> State:
        """Predict the clean state: means and class probabilities."""
        previous = context.get(PREVIOUS)
        names = (*self.network.nodes, *self.network.pairs)
        fields = {n: self._features(n, state[n], state["pos"].dtype) for n in names}
        schedule = self.processes["pos"].schedule
        alpha, sigma = schedule.alpha(times["pos"]), schedule.sigma(times["pos"])
        level = sigma / torch.sqrt(alpha**2 + sigma**2)
        condition = state.get("property")
        raw = self.network(fields, state["pos"], times, state.mask, previous, level, condition)
        if self.predicts != "x0":
            raw["pos"] = raw["pos"] - state["pos"]
        return State(
            {
                n: as_clean(raw[n], state[n], times[n], p, state.mask, self.predicts)
                for n, p in self.processes.items()
            },
            state.mask,
        )

    def _features(self, name: str, x: Tensor, dtype: torch.dtype) -> Tensor:
        process = self.processes[name]
        if isinstance(process, Categorical):
            return F.one_hot(x, process.kernel.classes).to(dtype)
        return x


def _known(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"unknown {what} {value!r}; known: {', '.join(known)}")
