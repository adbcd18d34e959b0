"""Named training recipes: plain values, no code of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError
from diffcore.objective import Objective
from molgen.models.eqgat import PAPER, SMALL, EqgatConfig
from molgen.models.invariant import SMALL_PROPERTIES
from molgen.tasks.molecules import NODE_FEATURES, MoleculeDenoiser, MoleculeTask
from molgen.tasks.properties import PropertyDenoiser, build_property_network, property_processes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diffcore.denoisers import Denoiser
    from diffcore.processes import Process
    from molgen.datasets.table import MoleculeTable

PAPER_WEIGHTS = {"pos": 3.0, "atom": 0.4, "charge": 1.0, "bond": 2.0}
FEATURE_WEIGHTS = dict.fromkeys(NODE_FEATURES, 0.3)
STANDARD_PROPERTIES = ("alpha", "gap", "homo", "lumo", "mu", "Cv")
"""The six properties of QM9 that conditional generators are measured on."""

LABELS = ("all", "odd", "even")
KINDS = ("molecules", "properties")
_REGRESSION = Objective(weighting="uniform", self_condition=0.0, align=False, independent=0.0)


@dataclass(frozen=True)
class Recipe:
    """What to train and how.

    Attributes:
        data: name of the data set.
        network: size of the network.
        options: further options of the `MoleculeTask` (schedule, chemistry, prior, predicts,
            features).
        objective: the loss.
        optimisation: options of `diffcore.training.Optimisation`.
        batch: molecules a batch and process.
        conditions: properties of the data set that the model can be asked for.
        labels: which molecules' properties are seen in training: ``all``, or those with an ``odd``
            number in the source, so that a predictor trained on the even ones is an independent
            judge (the protocol of EDM, Hoogeboom et al. 2022, section 5.2).
        predictor: model that steers towards the conditions (`molgen.steer.properties`).
        kind: ``molecules`` (a generator) or ``properties`` (a predictor of the conditions).
    """

    data: str
    network: EqgatConfig
    options: dict[str, Any] = field(default_factory=dict)
    objective: Objective = field(default_factory=Objective)
    optimisation: dict[str, Any] = field(default_factory=dict)
    batch: int = 64
    conditions: tuple[str, ...] = ()
    labels: str = "all"
    kind: str = "molecules"
    predictor: str | None = None

    def __post_init__(self) -> None:
        """Check the words."""
        for what, value, known in (("labels", self.labels, LABELS), ("kind", self.kind, KINDS)):
            if value not in known:
                raise ConfigError(f"unknown {what} {value!r}; known: {', '.join(known)}")


RECIPES: dict[str, Recipe] = {
    # the shipped weights: linear paths, aligned noise, small and wide in scalars, which are cheap
    "qm9": Recipe(
        data="qm9",
        network=SMALL,
        objective=Objective(
            weights={"pos": 1.0, "atom": 0.4, "charge": 1.0, "bond": 2.0},
            bounds=(0.5, 1.5),
            field_bounds={"pos": (1.0, 400.0)},
            condition_drop=0.15,
        ),
        optimisation={"lr": 3e-3},
        conditions=STANDARD_PROPERTIES,
        labels="odd",
        predictor="qm9-properties",
    ),
    # the paper: Le et al. 2024, size, schedules, weights and optimiser of the QM9 model
    "qm9-paper": Recipe(
        data="qm9",
        network=PAPER,
        options={"schedule": "adaptive_cosine", "features": ("hybridisation", "ring", "aromatic")},
        objective=Objective(
            weights=PAPER_WEIGHTS | FEATURE_WEIGHTS, align=False, self_condition=0.0
        ),
        optimisation={"lr": 2e-4, "ema": 0.9999, "clip": 10.0, "weight_decay": 1e-12},
        batch=128,
    ),
    # predictors of the conditions: one to steer with, and an independent judge
    "qm9-properties": Recipe(
        data="qm9",
        network=SMALL_PROPERTIES,
        objective=_REGRESSION,
        optimisation={"lr": 2e-3},
        conditions=STANDARD_PROPERTIES,
        labels="odd",
        kind="properties",
    ),
    "qm9-judge": Recipe(
        data="qm9",
        network=SMALL_PROPERTIES,
        objective=_REGRESSION,
        optimisation={"lr": 2e-3},
        conditions=STANDARD_PROPERTIES,
        labels="even",
        kind="properties",
    ),
}


def recipe(name: str) -> Recipe:
    """Look a recipe up.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]


def task_for(one: Recipe, table: MoleculeTable) -> MoleculeTask:
    """The recipe's task, with the training split's classes, marginals, sizes and scale."""
    import torch

    train = table.select(table.split_indices("train"))
    elements, atom_counts = train.atomic_number.unique(return_counts=True)
    charges, charge_counts = train.charge.unique(return_counts=True)
    sizes, size_counts = train.n_atoms.unique(return_counts=True)
    n = train.n_atoms.double()
    orders = torch.bincount(train.bond_order.long(), minlength=4).double()
    orders[0] = (n * (n - 1) / 2).sum() - orders[1:].sum()
    marginals = {
        "atom": _shares(atom_counts),
        "charge": _shares(charge_counts),
        "bond": _shares(orders),
    }
    for name in one.options.get("features", ()):
        marginals[name] = _shares(
            torch.bincount(getattr(train, name).long(), minlength=NODE_FEATURES[name])
        )
    owner = torch.repeat_interleave(torch.arange(len(train)), train.n_atoms.long())
    sums = torch.zeros(len(train), 3, dtype=torch.float64).index_add_(0, owner, train.pos.double())
    centred = train.pos.double() - (sums / n.unsqueeze(1))[owner]
    return MoleculeTask(
        elements=tuple(elements.tolist()),
        charges=tuple(charges.tolist()),
        marginals=marginals,
        sizes=dict(zip(sizes.tolist(), size_counts.tolist(), strict=True)),
        scale=round(float(centred.std()), 4),
        network=one.network,
        conditions=_moments(train, one.conditions),
        **one.options,
    )


@dataclass(frozen=True)
class Parts:
    """What training needs of a recipe's kind: fresh weights, denoiser of a network, processes."""

    build: Callable[[], nn.Module]
    denoiser: Callable[[Any], Denoiser]
    processes: Mapping[str, Process]


def parts_of(one: Recipe, task: MoleculeTask) -> Parts:
    """The network and the processes of a recipe's kind of model."""
    if one.kind == "properties":
        return Parts(
            lambda: build_property_network(task), PropertyDenoiser, property_processes(task)
        )
    processes = task.processes()
    return Parts(task.build, lambda net: MoleculeDenoiser(net, processes, task.predicts), processes)


def training_rows(one: Recipe, table: MoleculeTable) -> Tensor:
    """Molecules to train on, [M] int64: the training split; for a predictor those with labels."""
    rows = table.split_indices("train")
    return rows if one.kind == "molecules" else rows[~table.properties[rows, 0].isnan()]


def with_labels(table: MoleculeTable, labels: str) -> MoleculeTable:
    """The table with the properties of every molecule outside ``labels`` (see `Recipe`) as NaN."""
    import dataclasses

    import torch

    if labels == "all":
        return table
    odd = table.source_id % 2 == 1
    hidden = (odd if labels == "even" else ~odd).unsqueeze(1)
    return dataclasses.replace(table, properties=table.properties.masked_fill(hidden, torch.nan))


def _moments(train: MoleculeTable, names: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of properties, molecules without a value left out."""
    moments = {}
    for name in names:
        if name not in train.property_names:
            known = ", ".join(train.property_names)
            raise ConfigError(f"the data set has no property {name!r}; known: {known}")
        values = train.properties[:, train.property_names.index(name)]
        values = values[~values.isnan()]
        moments[name] = (round(float(values.mean()), 6), round(float(values.std()), 6))
    return moments


def _shares(counts: object) -> tuple[float, ...]:
    import torch

    values = torch.as_tensor(counts).double()
    return tuple(round(float(v), 8) for v in values / values.sum())
