"""Tokens as denoising tasks: fields, processes and networks, and the way from and to SMILES.

Two fields: ``token``, classes [B, L], and ``property``, standardised numbers [B, P]. A task
generates one of them; the other is a condition. A reader of properties is the task whose one noisy
field is the property. So the shared objective, training loop and samplers serve unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcore.denoisers import PREVIOUS, Context, as_clean
from diffcore.domains import Grid, Nodes
from diffcore.errors import ConfigError, reading
from diffcore.processes import (
    Categorical,
    Gaussian,
    Process,
    absorbing_kernel,
    mask_and_replace_kernel,
)
from diffcore.schedules import Cosine, FlowTime
from diffcore.state import State, Times
from diffcore.teaching import Regressed, TeacherForced
from diffcore.transformer import Size, TokenNetwork
from molgen.tokens.vocabulary import END, Vocabulary

WRITERS = ("causal", "absorbing", "replacing", "analog")
READERS = ("direct", "diffusion")
MULTITASK = "multitask"
"""Writes tokens and reads properties: a causal network with two heads."""

LEFT_TO_RIGHT = ("causal", MULTITASK)


@dataclass(frozen=True)
class TokenTask:
    """What a model of tokens is made of.

    Attributes:
        vocabulary: of the tokens.
        properties: names with mean and standard deviation in the training data.
        method: one of `WRITERS`, which generate tokens and are told properties: a causal
            transformer, absorbing or mask-and-replace diffusion, analog diffusion (one-hot vectors
            under Gaussian noise); or one of `READERS`, which are told tokens and predict the
            properties at once or by diffusion; or ``multitask``, which does both.
        size: of the network.
    """

    vocabulary: Vocabulary
    properties: Mapping[str, tuple[float, float]]
    method: str
    size: Size = field(default_factory=Size)

    def __post_init__(self) -> None:
        """Check the method."""
        if self.method not in (*WRITERS, *READERS, MULTITASK):
            known = ", ".join((*WRITERS, *READERS, MULTITASK))
            raise ConfigError(f"unknown method {self.method!r}; known: {known}")

    @property
    def reads(self) -> bool:
        """Whether properties are predicted, not tokens."""
        return self.method in READERS

    def processes(self) -> dict[str, Process]:
        """The one field that is generated, as a sampler needs it."""
        k = self.vocabulary.classes
        if self.reads:
            return {"property": Gaussian(Cosine(), Grid((len(self.properties),)))}
        if self.method == "analog":
            return {"token": Gaussian(Cosine(), Nodes((k,)))}
        kernel = mask_and_replace_kernel(k) if self.method == "replacing" else absorbing_kernel(k)
        return {"token": Categorical(FlowTime(), Nodes(), kernel)}

    def taught(self) -> dict[str, Process]:
        """The same as a trainer needs it: a causal model sees the clean tokens."""
        processes = self.processes()
        if self.method in LEFT_TO_RIGHT:
            processes["token"] = TeacherForced(processes["token"])
        if self.method == MULTITASK:
            processes["answer"] = Regressed(Gaussian(Cosine(), Grid((len(self.properties),))))
        return processes

    def build(self) -> TokenNetwork:
        """A network with fresh weights."""
        v = self.vocabulary
        return TokenNetwork(
            self.size,
            v.classes,
            v.length,
            len(self.properties),
            causal=self.method in LEFT_TO_RIGHT,
            reads=self.reads,
            both=self.method == MULTITASK,
        )

    def encode(self, tokens: Tensor, properties: Tensor) -> State:
        """Clean state from classes [B, L] and properties [B, P] in physical units, NaN not known.

        The mask says which tokens count in the loss: for a causal model up to the first end.
        """
        mask = torch.ones(tokens.shape, dtype=torch.bool)
        if self.method in LEFT_TO_RIGHT:
            mask = (tokens == END).cumsum(1) <= 1
        x = tokens
        if self.method == "analog":
            x = F.one_hot(tokens, self.vocabulary.classes).float()
        numbers = self.standardised(properties)
        fields = {"token": x, "property": numbers}
        if self.method == MULTITASK:  # the condition may be hidden, the answer is not
            fields["answer"] = numbers.clone()
        return State(fields, mask)

    @property
    def moments(self) -> Tensor:
        """Mean and standard deviation of the properties, [2, P] float64."""
        return torch.tensor(list(self.properties.values()), dtype=torch.float64).reshape(-1, 2).T

    def standardised(self, values: Tensor) -> Tensor:
        """Properties [B, P] in units of their spread, float32."""
        mean, std = self.moments
        scaled: Tensor = (values.double() - mean) / std
        return scaled.float()

    def physical(self, values: Tensor) -> Tensor:
        """The way back, float64."""
        mean, std = self.moments
        found: Tensor = values.double() * std + mean
        return found

    def to_json(self) -> dict[str, Any]:
        """A value for the model's card."""
        return {
            "vocabulary": self.vocabulary.to_json(),
            "properties": {name: list(both) for name, both in self.properties.items()},
            "method": self.method,
            "size": asdict(self.size),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TokenTask:
        """The task of a model's card.

        Raises:
            ConfigError: keys are missing or unknown.
        """
        with reading("a task of tokens"):
            said = value["vocabulary"]
            return cls(
                Vocabulary(said["notation"], tuple(said["symbols"]), int(said["length"])),
                {n: (float(a), float(b)) for n, (a, b) in value["properties"].items()},
                str(value["method"]),
                Size(**value["size"]),
            )


_CERTAIN = 30.0
"""Logit of a token that is certain."""


@dataclass(frozen=True)
class TokenDenoiser:
    """The network in the x0 convention.

    Attributes:
        network: of the task.
        task: says what is what.
        carry: tokens that are not masked are certain (Sahoo et al. 2024, MDLM); not while a causal
            network is taught, which is asked for all of them.
    """

    network: TokenNetwork
    task: TokenTask
    carry: bool = True

    def __call__(self, state: State, times: Times, context: Context) -> State:
        """Predict the clean field."""
        task, x = self.task, state["token"]
        k, dtype = task.vocabulary.classes, self.network.place.dtype
        if task.reads:
            return State({"property": self._read(state, times)}, state.mask)
        features = x if x.is_floating_point() else F.one_hot(x, k).to(dtype)
        time = times["token"].to(dtype)
        if task.method in LEFT_TO_RIGHT:
            return self._next(state, times)
        previous = context.get(PREVIOUS)
        raw = self.network(
            features, state["property"], time, None if previous is None else previous["token"]
        )
        return State({"token": self._clean(raw, x, times, state.mask)}, state.mask)

    def _next(self, state: State, times: Times) -> State:
        """Of a causal network: each token's successor, and the numbers of a multi-task one.

        While it writes, only what is needed is computed: up to the furthest token that is to be
        written next; rows that have ended need nothing, and their rest is `END`.
        """
        task, x = self.task, state["token"]
        k, dtype = task.vocabulary.classes, self.network.place.dtype
        upto = self._needed(x) if self.carry else x.shape[1]
        start = F.one_hot(torch.full_like(x[:, :1], k - 1), k).to(dtype)
        features = torch.cat([start, F.one_hot(x[:, :-1], k).to(dtype)], 1)[:, :upto]
        time = torch.zeros(len(x), dtype=dtype, device=x.device)
        ending = _CERTAIN * F.one_hot(torch.full_like(x[:, upto:], END), k).to(dtype)
        found: dict[str, Tensor] = {}
        if not upto:
            raw = ending
        elif task.method == MULTITASK:
            last = ((x != END) & (x != k - 1)).sum(1).clamp_max(upto - 1)
            raw, found["answer"] = self.network.both(features, state["property"], time, last)
            raw = torch.cat([raw, ending], 1)
        else:
            raw = torch.cat([self.network(features, state["property"], time), ending], 1)
        return State(found | {"token": self._clean(raw, x, times, state.mask)}, state.mask)

    def _needed(self, x: Tensor) -> int:
        """Number of places that the network must see; all of them where nothing is masked."""
        masked = x == self.task.vocabulary.mask_class
        if not bool(masked.any()):
            return x.shape[1]
        first = masked.int().argmax(1)
        before = torch.arange(x.shape[1], device=x.device) < first.unsqueeze(1)
        done = ((x == END) & before).any(1) | ~masked.any(1)
        return int(torch.where(done, 0, first + 1).max())

    def _clean(self, raw: Tensor, x: Tensor, times: Times, mask: Tensor) -> Tensor:
        """Probabilities, or vectors, of the clean tokens."""
        task, k = self.task, self.task.vocabulary.classes
        clean = as_clean(raw, x, times["token"], task.processes()["token"], mask, "x0")
        if task.method in (*LEFT_TO_RIGHT, "absorbing") and self.carry:
            shown = (x != k - 1).unsqueeze(-1)
            clean = torch.where(shown, F.one_hot(x, k).to(clean.dtype), clean)
        return clean

    def _read(self, state: State, times: Times) -> Tensor:
        x, noisy = state["token"], state["property"]
        features = F.one_hot(x, self.task.vocabulary.classes).to(noisy.dtype)
        time = times["property"].to(noisy.dtype)
        if self.task.method == "direct":  # the posterior mean given pure noise: a regression
            noisy, time = torch.zeros_like(noisy), torch.ones_like(time)
        out: Tensor = self.network(features, noisy, time)
        return out.float()
