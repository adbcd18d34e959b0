"""Small networks as rows of numbers: many of them run at once, one of them becomes a torch module.

A network of P parameters is a row [P] in the order of `torch.nn.utils.parameters_to_vector`: M of
them are a tensor [M, P]. Shapes: D inputs, H hidden units, C classes, B examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffcore import random
from diffcore.errors import ConfigError, reading

ABSENT = -1e9
"""Logit of a class that a data set does not have."""


@dataclass(frozen=True)
class Perceptron:
    """A network of one hidden layer with ReLU: D-H-C.

    Attributes:
        inputs: D.
        hidden: H.
        classes: C, the most that a data set may have.
    """

    inputs: int
    hidden: int
    classes: int

    def __post_init__(self) -> None:
        if min(self.inputs, self.hidden) < 1 or self.classes < 2:
            raise ConfigError(
                f"expected a network of at least 1 input, 1 hidden unit and 2 classes, got {self}"
            )

    def __str__(self) -> str:
        return f"{self.inputs}-{self.hidden}-{self.classes}"

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Numbers of the first weights, first biases, second weights, second biases."""
        d, h, c = self.inputs, self.hidden, self.classes
        return d * h, h, h * c, c

    @property
    def parameters(self) -> int:
        """P."""
        return sum(self.sizes)

    @property
    def token(self) -> int:
        """Numbers that belong to one hidden unit: D weights in, a bias, C weights out."""
        return self.inputs + 1 + self.classes

    def parts(self, flat: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Views of rows [M, P]: w1 [M, H, D], b1 [M, H], w2 [M, C, H], b2 [M, C].

        Raises:
            ConfigError: rows of another length.
        """
        if flat.dim() != 2 or flat.shape[1] != self.parameters:
            raise ConfigError(
                f"a {self} network has {self.parameters} parameters, got rows {tuple(flat.shape)}"
            )
        w1, b1, w2, b2 = flat.split(self.sizes, 1)
        m = flat.shape[0]
        return (
            w1.view(m, self.hidden, self.inputs),
            b1,
            w2.view(m, self.classes, self.hidden),
            b2,
        )

    def join(self, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
        """The inverse of `parts`: [M, P]."""
        return torch.cat([w1.flatten(1), b1, w2.flatten(1), b2], 1)

    def hidden_units(self, flat: Tensor, x: Tensor) -> Tensor:
        """Outputs of the hidden layer [M, B, H] for inputs [B, D] or [M, B, D]."""
        w1, b1, _, _ = self.parts(flat)
        if x.dim() == 2:
            joint = x @ w1.reshape(-1, self.inputs).T
            pre = joint.view(len(x), len(flat), self.hidden).transpose(0, 1)
        else:
            pre = torch.bmm(x, w1.transpose(1, 2))
        return (pre + b1.unsqueeze(1)).relu()

    def logits(self, flat: Tensor, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Logits [M, B, C] of M networks.

        Args:
            flat: [M, P].
            x: [B, D] for all networks, or [M, B, D].
            present: [M, C] or [1, C] bool, the classes that a data set has.
        """
        _, _, w2, b2 = self.parts(flat)
        out = torch.bmm(self.hidden_units(flat, x), w2.transpose(1, 2)) + b2.unsqueeze(1)
        return out if present is None else out.masked_fill(~present.unsqueeze(1), ABSENT)

    def tokens(self, flat: Tensor) -> Tensor:
        """One row for each hidden unit and one for the last biases: [M, H + 1, D + 1 + C]."""
        w1, b1, w2, b2 = self.parts(flat)
        units = torch.cat([w1, b1.unsqueeze(2), w2.transpose(1, 2)], 2)
        last = torch.cat([b2.new_zeros(len(flat), self.inputs + 1), b2], 1)
        return torch.cat([units, last.unsqueeze(1)], 1)

    def from_tokens(self, tokens: Tensor) -> Tensor:
        """The inverse of `tokens`: [M, P]."""
        units, last = tokens[:, :-1], tokens[:, -1]
        w1, b1, w2 = units.split([self.inputs, 1, self.classes], 2)
        return self.join(
            w1.contiguous(),
            b1.squeeze(2),
            w2.transpose(1, 2).contiguous(),
            last[:, self.inputs + 1 :],
        )

    def module(self) -> nn.Sequential:
        """The plain torch module, whose state dict `state_dict` fills."""
        return nn.Sequential(
            nn.Linear(self.inputs, self.hidden), nn.ReLU(), nn.Linear(self.hidden, self.classes)
        )

    def state_dict(self, row: Tensor) -> dict[str, Tensor]:
        """A state dict of `module` from one row [P]."""
        w1, b1, w2, b2 = (part[0].clone() for part in self.parts(row.reshape(1, -1)))
        return {"0.weight": w1, "0.bias": b1, "2.weight": w2, "2.bias": b2}

    def row(self, state: Mapping[str, Tensor]) -> Tensor:
        """One row [P] from a state dict of `module`.

        Raises:
            ConfigError: names or shapes of another architecture.
        """
        names = ("0.weight", "0.bias", "2.weight", "2.bias")
        d, h, c = self.inputs, self.hidden, self.classes
        shapes = ((h, d), (h,), (c, h), (c,))
        found = {n: tuple(v.shape) for n, v in state.items()}
        if found != dict(zip(names, shapes, strict=True)):
            raise ConfigError(f"expected the state dict of a {self} network, got {found}")
        return torch.cat([state[n].reshape(-1) for n in names])

    def to_json(self) -> dict[str, Any]:
        """A value for a card."""
        return {"kind": "perceptron", **asdict(self)}


def architecture(value: Mapping[str, Any]) -> Perceptron:
    """The architecture that a card names.

    Raises:
        ConfigError: one that no generator here knows.
    """
    kind = value.get("kind") if isinstance(value, Mapping) else value
    if kind != "perceptron":
        raise ConfigError(f"unknown architecture {kind!r}; known: perceptron")
    with reading("a perceptron"):
        return Perceptron(*(int(value[n]) for n in ("inputs", "hidden", "classes")))


def initial(net: Perceptron, seeds: list[int], spread: float = 1.0, start: int = 0) -> Tensor:
    """Starting weights [M, P] with torch's own scale: uniform, up to 1 / sqrt(fan in).

    Args:
        net: the architecture.
        seeds: one a network.
        spread: 1: networks start apart; 0: all start at one point; in between the mixture
            sqrt(1 - spread^2) common + spread own.
        start: seed of the common point.
    """
    if not 0 <= spread <= 1:
        raise ConfigError(f"spread: expected 0 to 1, got {spread}")
    scale = torch.cat(
        [
            torch.full((size,), fan**-0.5)
            for size, fan in zip(
                net.sizes, (net.inputs, net.inputs, net.hidden, net.hidden), strict=True
            )
        ]
    )
    rows = torch.empty(len(seeds), net.parameters)
    own = 2 * random.uniform(random.row_generators(1, seeds), rows) - 1
    common = 2 * random.uniform(random.generator(start, 7), rows[:1]) - 1
    mixed: Tensor = ((1 - spread**2) ** 0.5 * common + spread * own) * scale
    return mixed


def canonical(net: Perceptron, flat: Tensor, present: Tensor | None = None) -> Tensor:
    """The same functions in a standard form [M, P].

    Each hidden unit is rescaled until its weights in and out have one norm (ReLU is positively
    homogeneous); weights and biases of the last layer get zero mean over the classes (softmax does
    not see it); what belongs to absent classes is zero.
    """
    w1, b1, w2, b2 = net.parts(flat)
    one = torch.ones(1, net.classes, dtype=torch.bool) if present is None else present
    share = one.to(flat.dtype) / one.sum(1, keepdim=True)
    w2 = (w2 - (w2 * share.unsqueeze(2)).sum(1, keepdim=True)) * one.unsqueeze(2)
    b2 = (b2 - (b2 * share).sum(1, keepdim=True)) * one
    into = (w1.square().sum(2) + b1.square()).sqrt()
    out = w2.square().sum(1).sqrt()
    alive = (into > 1e-8) & (out > 1e-8)
    factor = torch.where(alive, (out / into.clamp_min(1e-8)).sqrt(), torch.ones_like(out))
    inverse = torch.where(alive, 1 / factor.clamp_min(1e-8), torch.ones_like(out))
    return net.join(w1 * factor.unsqueeze(2), b1 * factor, w2 * inverse.unsqueeze(1), b2)


def paper_cnn() -> nn.Sequential:
    """The network of 2,464 parameters of the model zoos of Schuerholt et al. (2022): 28 x 28 in."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(8, 6, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(6, 4, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(36, 20),
        nn.ReLU(),
        nn.Linear(20, 10),
    )
