"""Network weights from a trained model: for a data set, zero-shot or steered by labelled rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcore import random
from diffcore.chain import Chain
from diffcore.checkpoint import fill_module, load_card, load_weights
from diffcore.denoisers import Denoiser
from diffcore.errors import ConfigError, ModelFileError
from diffcore.guidance import Energy, energy_guided
from diffcore.samplers import prior, sample, solver
from diffcore.schedules import power_grid
from diffcore.search import run
from diffcore.searches import search
from diffcore.state import State, Times
from structgen.netweights.fitting import largest
from structgen.netweights.lessons import ROWS
from structgen.netweights.networks import Perceptron
from structgen.netweights.prompt import Prompt, prompt
from structgen.netweights.tables import Table, from_arrays
from structgen.netweights.task import Parts, WeightTask
from structgen.netweights.weights import find_model

Steering = Literal["none", "guided", "best_of_n", "feynman_kac"]

STEERING: tuple[Steering, ...] = ("none", "guided", "best_of_n", "feynman_kac")


@dataclass(frozen=True)
class Asked:
    """What is asked of the networks beside the data set.

    Attributes:
        accuracy: 0 to 1; None leaves it to the model.
        sparsity: share of the first layer's weights that are zero; None leaves it to the model.
        steering: ``none`` is zero-shot: the labelled rows are read by the encoder alone.
            ``guided`` follows the gradient of their cross-entropy through the decoded networks;
            ``best_of_n`` and ``feynman_kac`` search for a low one.
        strength: of the guidance.
        rows: labelled rows that steer, at most.
        limit: largest shift of the latents by the guidance in one step, root mean square.
        draws: networks a search may draw for each one that is delivered.
        steps: of the sampler.
        method: of the sampler.
        temperature: standard deviation of the noise that networks are drawn from; below 1 they are
            nearer to each other, and better one by one. None takes what the model's card
            recommends. Searches draw at 1.
        shrinkage: how far networks are pulled back to where the probe's Newton steps end, 0 to 1
            (after James and Stein 1961): what a model draws is an estimate with an error, and the
            probe is another. None takes what the card recommends for zero-shot networks, and 0 for
            those that the rows steer.
    """

    accuracy: float | None = None
    sparsity: float | None = None
    steering: Steering = "guided"
    strength: float = 4.0
    rows: int = 4096
    limit: float = 2.0
    draws: int = 8
    steps: int = 40
    method: str = "ddim"
    temperature: float | None = None
    shrinkage: float | None = None

    def __post_init__(self) -> None:
        for name in ("accuracy", "sparsity", "temperature", "shrinkage"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"{name}: expected 0 to 1, got {value}")
        if self.steering not in STEERING:
            known = ", ".join(STEERING)
            raise ConfigError(f"unknown steering {self.steering!r}; known: {known}")
        for name in ("steps", "draws", "rows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not self.strength >= 0 or not self.limit > 0:
            raise ConfigError(
                f"expected a strength of 0 or more and a limit above 0, got {self.strength} and "
                f"{self.limit}"
            )


class WeightGenerator:
    """A trained model of network weights."""

    def __init__(self, task: WeightTask, parts: Parts, card: Mapping[str, Any] | None = None):
        """See `from_pretrained`."""
        self.task, self.parts, self.card = task, parts, dict(card or {})
        self.processes = task.processes()
        self.denoiser: Denoiser = task.denoiser(parts.network, parts.coder, self.processes)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> WeightGenerator:
        """A shipped model by name, or a weights file with its card beside it.

        Raises:
            ModelFileError: unknown, broken, of another kind, or of an architecture that is unknown.
        """
        path = find_model(name_or_path)
        card = load_card(path)
        if card.get("kind") != "network weights":
            raise ModelFileError(
                f"{path}: expected a model of network weights, got {card.get('kind')!r}"
            )
        try:
            task = WeightTask.from_json(card["task"])
        except (ConfigError, KeyError) as error:
            raise ModelFileError(f"{path.with_suffix('.json')}: {error}") from error
        with torch.random.fork_rng(devices=[]):
            parts = task.build()
        fill_module(parts, load_weights(path, card), path)
        parts.eval().requires_grad_(False)
        return cls(task, parts, card)

    def sample(
        self, number: int, dataset: tuple[Any, Any] | Table, *, seed: int = 0, **asked: Any
    ) -> list[dict[str, Tensor]]:
        """State dicts of ``torch.nn.Sequential(Linear(F, H), ReLU(), Linear(H, C))``.

        The networks take the data set's raw features; output k is the k-th class in sorted order.

        Args:
            number: of networks.
            dataset: features [n, F] and classes [n], or a table.
            seed: of everything that is random; network k does not depend on ``number``, unless a
                search chooses among all of them.
            asked: see `Asked`.

        Raises:
            ConfigError: an option outside its range.
            DataError: a data set that does not fit the model; see `tables.from_arrays`, `prompt`.
        """
        told = self.prompt(dataset)
        flat = self.draw(number, told, Asked(**asked), seed=seed)
        raw, rows = told.encoding.fold(self.task.net, flat, len(told.table.labels))
        return [raw.state_dict(row) for row in rows]

    def prompt(self, dataset: tuple[Any, Any] | Table) -> Prompt:
        """A data set in the model's input space.

        Raises:
            DataError: see `sample`.
        """
        table = dataset if isinstance(dataset, Table) else from_arrays(*dataset)
        return prompt(self.task.net, table, self.task.encoding)

    def module(self, told: Prompt) -> torch.nn.Sequential:
        """The plain module that `sample`'s state dicts fit."""
        net = self.task.net
        return Perceptron(told.table.x.shape[1], net.hidden, len(told.table.labels)).module()

    @torch.no_grad()
    def conditions(self, told: Prompt, asked: Asked) -> dict[str, Tensor]:
        """What the denoiser reads, one row: the data set's code and what is asked."""
        code = self.parts.network.encoder(told.x, told.y, told.present)
        return {
            "code": code,
            "present": told.present,
            "asked": self.task.asked(1, asked.accuracy, asked.sparsity),
            **self.task.probed(told.x, told.y, told.present),
        }

    def decode(self, latent: Tensor, present: Tensor) -> Tensor:
        """Networks [B, P] of latents [B, N, Z]; what belongs to absent classes is zero."""
        return self.task.decode(self.parts.coder, latent, present)

    def energy(self, told: Prompt, most: int = 4096) -> Energy:
        """Cross-entropy of the decoded networks, summed over labelled rows.

        Of more than ``most`` rows the energy takes as many, and of more than 256 it counts 256, so
        that its strength does not depend on the number of rows.
        """
        order = torch.randperm(len(told.table.y), generator=random.generator(0, 9))[:most]
        x, y = told.rows(told.table.take(order.numpy()))
        weight = min(1.0, ROWS / len(y))

        def energy(state: State, times: Times) -> Tensor:
            flat = self.decode(state["z"], told.present)
            logits = self.task.net.logits(flat, x, told.present)
            each = F.cross_entropy(
                logits.flatten(0, 1), y.repeat(len(flat)), reduction="none"
            ).view(len(flat), -1)
            return weight * each.sum(1)

        return energy

    def draw(self, number: int, told: Prompt, asked: Asked, *, seed: int = 0) -> Tensor:
        """Networks [number, P] in the model's input space; see `sample`.

        Raises:
            ConfigError: fewer than one network, or a shrinkage of a model without Newton steps.
        """
        if number < 1:
            raise ConfigError(f"number: expected at least 1, got {number}")
        share = self.shrinkage(asked)
        known = self.conditions(told, asked)
        if asked.steering in ("best_of_n", "feynman_kac"):
            latent = self._searched(number, known, told, asked, seed)
        else:
            latent = self._sampled(number, known, told, asked, seed)
        with torch.no_grad():
            if share:
                end = self.parts.coder.end(known["probed"])
                latent = torch.lerp(latent, end.expand_as(latent), share)
            flat = self.decode(latent, told.present)
            if asked.sparsity:
                flat = flat * largest(self.task.net, flat, torch.full((len(flat),), asked.sparsity))
        return flat

    def temperature(self, asked: Asked) -> float:
        """What is asked for, else what the card recommends, else 1."""
        if asked.temperature is not None:
            return asked.temperature
        return float(self.card.get("sampling", {}).get("temperature", 1.0))

    def shrinkage(self, asked: Asked) -> float:
        """What is asked for, else what the card recommends for zero-shot networks, else 0.

        Raises:
            ConfigError: it is asked of a model without Newton steps.
        """
        if asked.shrinkage and not self.task.size.newton:
            raise ConfigError(
                f"shrinkage: {self.card.get('name')} is told no Newton steps to shrink towards"
            )
        if asked.shrinkage is not None:
            return asked.shrinkage
        recommended = float(self.card.get("sampling", {}).get("shrinkage", 0.0))
        return recommended if asked.steering == "none" else 0.0

    def _steered(self, told: Prompt, asked: Asked) -> Denoiser:
        if asked.steering != "guided":
            return self.denoiser
        return energy_guided(
            self.denoiser,
            self.processes,
            self.energy(told, asked.rows),
            asked.strength,
            on="x0",
            limit=asked.limit,
        )

    @torch.no_grad()
    def _sampled(
        self, number: int, known: Mapping[str, Tensor], told: Prompt, asked: Asked, seed: int
    ) -> Tensor:
        rngs = random.row_generators(seed, range(number))
        fields = {n: v.expand(number, *v.shape[1:]) for n, v in known.items()}
        mask = torch.ones(number, self.task.chunks, dtype=torch.bool)
        start = prior(self.processes, mask, rngs)
        start = start.replace(z=self.temperature(asked) * start["z"], **fields)
        made = sample(
            self._steered(told, asked),
            self.processes,
            start,
            power_grid(asked.steps),
            rngs,
            method=solver(asked.method),
        )
        return made["z"]

    def _searched(
        self, number: int, known: Mapping[str, Tensor], told: Prompt, asked: Asked, seed: int
    ) -> Tensor:
        empty = torch.zeros(1, self.task.chunks, self.task.size.latent)
        one = self.task.state(empty, known)
        chain = Chain(
            self.denoiser, self.processes, power_grid(asked.steps), solver("ancestral"), one
        )
        reward = _reward(self.energy(told, asked.rows))
        budget = number * asked.draws * asked.steps
        find: Callable[..., Any] = search(asked.steering)
        options = {"batch": 64} if asked.steering == "best_of_n" else {}
        found = run(find(chain, reward, random.generator(seed), budget=budget, **options))
        best: Tensor = found.states["z"][:number]
        return best


def _reward(energy: Energy) -> Callable[[State], Tensor]:
    def reward(state: State) -> Tensor:
        with torch.no_grad():
            return -energy(state, {})

    return reward
