"""Trained models of tokens: write molecules for properties, read properties off SMILES."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffcore import random
from diffcore.checkpoint import fill_module, load_card, load_weights
from diffcore.denoisers import Denoiser, with_temperature, without_previous
from diffcore.errors import ConfigError, DataError, ModelFileError
from diffcore.guidance import classifier_free, conditioned
from diffcore.samplers import prior, sample, solver
from diffcore.schedules import uniform_grid
from diffcore.state import State
from molgen.tokens.task import LEFT_TO_RIGHT, MULTITASK, TokenDenoiser, TokenTask
from molgen.tokens.vocabulary import END, MIXED, split
from molgen.weights.files import find_model

if TYPE_CHECKING:
    import pandas as pd

METHODS = {
    "causal": ("left_to_right", None),
    MULTITASK: ("left_to_right", None),
    "absorbing": ("ancestral", 24),
    "replacing": ("tau_leaping", 50),
    "analog": ("dpmpp_2m", 50),
    "diffusion": ("ancestral", 50),
}
"""Sampler and evaluations of each method; a causal network takes one more than it has tokens."""

OPEN = "[?]"
"""A symbol of a draft that the model shall choose."""


def load_tokens(name_or_path: str | Path, reads: bool) -> tuple[TokenDenoiser, dict[str, Any]]:
    """A model of tokens that reads properties, or writes molecules, and its card.

    Raises:
        ModelFileError: the model is unknown, broken or of another kind.
    """
    path = find_model(name_or_path)
    card = load_card(path)
    if card.get("kind") != "tokens":
        raise ModelFileError(f"{path}: expected a model of tokens, got {card.get('kind')!r}")
    try:
        task = TokenTask.from_json(card["task"])
    except (ConfigError, KeyError) as error:
        raise ModelFileError(f"{path.with_suffix('.json')}: {error}") from error
    if task.reads != reads and task.method != MULTITASK:
        kind = "reads properties" if reads else "writes molecules"
        raise ModelFileError(f"{name_or_path}: expected a model that {kind}")
    network = task.build().requires_grad_(False).eval()
    fill_module(network, load_weights(path, card), path)
    return TokenDenoiser(network, task), card


def told_numbers(task: TokenTask, number: int, each: Sequence[Mapping[str, float]]) -> Tensor:
    """Standardised numbers [number, P] that a model is told, NaN where none is.

    Args:
        task: of the model.
        number: of rows.
        each: a mapping for each row, or nothing, in physical units.

    Raises:
        ConfigError: another number of mappings, an unknown name, or a value that is no number.
    """
    names = list(task.properties)
    if each and len(each) != number:
        raise ConfigError(f"properties: expected one or {number} mappings, got {len(each)}")
    values = torch.full((number, len(names)), torch.nan, dtype=torch.float64)
    for k, one in enumerate(each):
        for name, value in one.items():
            if name not in names:
                known = ", ".join(names)
                raise ConfigError(f"unknown property {name!r}; the model knows {known}")
            if not abs(float(value)) < float("inf"):
                raise ConfigError(f"{name}: expected a number, got {value!r}")
            values[k, names.index(name)] = float(value)
    return task.standardised(values)


@dataclass
class TokenGenerator:
    """Writes molecules as SMILES (Luu and Buehler 2023, the inverse task).

    Attributes:
        denoiser: the network and its task.
        card: what is known of the model.
    """

    denoiser: TokenDenoiser
    card: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path = "qm9-causal-selfies") -> TokenGenerator:
        """Load a shipped model by name, or a .safetensors file with its card beside it.

        Raises:
            ModelFileError: the model is unknown, broken or of another kind, or reads properties.
        """
        return cls(*load_tokens(name_or_path, reads=False))

    def sample(
        self,
        number: int,
        *,
        seed: int = 0,
        properties: Mapping[str, float] | Sequence[Mapping[str, float]] = (),
        strength: float = 1.0,
        temperature: float | None = None,
        steps: int | None = None,
        draft: str = "",
        batch_size: int = 256,
    ) -> list[str | None]:
        """Canonical SMILES of molecules that depend on seed and place alone.

        Args:
            number: of molecules.
            seed: of the drawing.
            properties: values in the units of the data (QM9 as the card names them: eV, bohr^3,
                D, cal/mol/K), for all molecules or one mapping each; what is not named is free.
            strength: of classifier-free guidance; 1 is the condition alone.
            temperature: below 1 for likelier tokens; by default what the card recommends, or 1:
                one where nothing is asked, another where properties are.
            steps: evaluations of the network; a causal network takes one more than its tokens.
            draft: symbols to keep, in the model's notation, with ``[?]`` for one that is open; what
                follows the draft is open too. A causal network does not see kept symbols that come
                later. Only for models with a mask.
            batch_size: molecules a call.

        Returns:
            One entry a molecule; None where the tokens are no molecule.

        Raises:
            ConfigError: an unknown property, a value that is none, numbers out of range, or a draft
                for a model without a mask.
            DataError: a draft that the vocabulary cannot say.
        """
        if temperature is None:
            temperature = self._recommended(bool(properties))
        if number < 1 or batch_size < 1 or not temperature > 0:
            raise ConfigError("number, batch_size: expected 1 or more; temperature: above 0")
        each = [properties] * number if isinstance(properties, Mapping) else properties
        asked = told_numbers(self.denoiser.task, number, each)
        kept = self._kept(draft)
        written: list[str | None] = []
        for at in range(0, number, batch_size):
            rows = range(at, min(at + batch_size, number))
            rng = random.row_generators(seed, rows)
            tokens = self._draw(
                asked[rows.start : rows.stop], kept, rng, strength, temperature, steps
            )
            written += self.denoiser.task.vocabulary.decode(tokens)
        return written

    def _recommended(self, asked: bool) -> float:
        """The card's temperature where properties are asked for, or nothing is."""
        said = self.card.get("sampling", {})
        return float(said.get("temperature_asked" if asked else "temperature", 1.0))

    def _kept(self, draft: str) -> Tensor:
        """Classes [L] of a draft, the mask's where it is open."""
        task = self.denoiser.task
        v = task.vocabulary
        kept = torch.full((v.length,), v.mask_class)
        symbols = split(draft, v.notation) if draft else []
        if symbols and task.method not in (*LEFT_TO_RIGHT, "absorbing"):
            raise ConfigError(
                f"a draft needs a causal or absorbing model, this one is {task.method}"
            )
        if len(symbols) > v.length:
            raise DataError(f"draft: expected {v.length} symbols or less, got {len(symbols)}")
        for k, symbol in enumerate(symbols):
            if symbol not in (OPEN, *v.symbols):
                raise DataError(f"draft: the model does not know {symbol}")
            kept[k] = v.places.get(symbol, v.mask_class)
        return kept

    @torch.inference_mode()
    def _draw(
        self,
        asked: Tensor,
        kept: Tensor,
        rng: list[torch.Generator],
        strength: float,
        temperature: float,
        steps: int | None,
    ) -> Tensor:
        task = self.denoiser.task
        length, processes = task.vocabulary.length, task.processes()
        name, usual = METHODS[task.method]
        free = torch.full_like(asked, torch.nan)
        plain: Denoiser = self.denoiser
        if task.method != "analog":  # the others were not taught with their own prediction
            plain = without_previous(plain)
        told = conditioned(plain, property=asked)
        if strength != 1.0 and not bool(asked.isnan().all()):
            told = classifier_free(told, conditioned(plain, property=free), processes, strength)
        if temperature != 1.0 and task.method != "analog":
            told = with_temperature(told, {"token": temperature})
        start = prior(processes, torch.ones(len(asked), length, dtype=torch.bool), rng)
        if bool((kept != task.vocabulary.mask_class).any()):
            open_ = kept == task.vocabulary.mask_class
            start = start.replace(token=torch.where(open_, start["token"], kept))
        grid = uniform_grid(
            length + 1 if task.method in LEFT_TO_RIGHT else steps or usual or length
        )
        made = sample(told, processes, start, grid, rng, method=solver(name))["token"]
        return made.argmax(-1) if made.is_floating_point() else made


@dataclass
class PropertyReader:
    """Reads properties off SMILES (Luu and Buehler 2023, the forward task).

    Attributes:
        denoiser: the network and its task.
        card: what is known of the model.
    """

    denoiser: TokenDenoiser
    card: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path = "qm9-direct-smiles") -> PropertyReader:
        """Load a shipped model by name, or a .safetensors file with its card beside it.

        Raises:
            ModelFileError: the model is unknown, broken or of another kind, or writes molecules.
        """
        return cls(*load_tokens(name_or_path, reads=True))

    def predict(
        self,
        smiles: Sequence[str],
        *,
        given: Sequence[Mapping[str, float]] = (),
        seed: int = 0,
        batch_size: int = 512,
    ) -> pd.DataFrame:
        """Properties in the units of the data, one row a molecule, in order.

        Args:
            smiles: of molecules; they are made canonical, without stereo marks. For a multi-task
                model also of mixtures, their components with ``|`` between.
            given: numbers that are known of each, for a multi-task model: of a mixture ``x_1``, the
                mole fraction of what is written first, and ``temperature`` (K).
            seed: of the drawing, for a model that predicts by diffusion.
            batch_size: molecules a call.

        Returns:
            NaN where a SMILES cannot be read or has a symbol the model does not know; the column
            ``why_not`` says which.

        Raises:
            ConfigError: ``given`` for a model of one task, of another length, or unknown numbers.
        """
        import pandas as pd

        names = list(self.denoiser.task.properties)
        values = torch.full((len(smiles), len(names)), torch.nan, dtype=torch.float64)
        tokens, reasons = self._tokens(smiles)
        told = self._told(len(smiles), given)
        rows = [k for k, reason in enumerate(reasons) if not reason]
        for at in range(0, len(rows), batch_size):
            part = rows[at : at + batch_size]
            x = torch.stack([t for k in part if (t := tokens[k]) is not None])
            values[part] = self._read(x, told[part], random.row_generators(seed, part))
        table = pd.DataFrame(values.numpy(), columns=names)
        table["why_not"] = reasons
        return table

    def _tokens(self, smiles: Sequence[str]) -> tuple[list[Tensor | None], list[str]]:
        from molgen.tokens.vocabulary import plain

        tokens: list[Tensor | None] = []
        reasons: list[str] = []
        for one in smiles:
            try:
                parts = MIXED.join(plain(part) for part in one.split(MIXED))
                tokens.append(self.denoiser.task.vocabulary.encode([parts])[0])
                reasons.append("")
            except DataError as error:
                tokens.append(None)
                reasons.append(str(error))
        return tokens, reasons

    def _told(self, number: int, given: Sequence[Mapping[str, float]]) -> Tensor:
        """Standardised numbers [number, P], NaN where not known."""
        task = self.denoiser.task
        if given and task.method != MULTITASK:
            raise ConfigError(f"given: expected a multi-task model, this one is {task.method}")
        return told_numbers(task, number, given)

    @torch.inference_mode()
    def _read(self, tokens: Tensor, given: Tensor, rng: list[torch.Generator]) -> Tensor:
        task = self.denoiser.task
        if task.method == MULTITASK:
            tokens = tokens[:, : int((tokens != END).sum(1).max()) + 1]
            state = State({"token": tokens, "property": given}, torch.ones_like(tokens) > 0)
            answer = self.denoiser(state, {"token": torch.zeros(len(tokens))}, {})["answer"]
            return task.physical(answer)
        told = conditioned(without_previous(self.denoiser), token=tokens)
        processes = task.processes()
        start = prior(processes, torch.ones(tokens.shape, dtype=torch.bool), rng)
        name, steps = METHODS["diffusion"] if task.method == "diffusion" else ("ddim", 1)
        made = sample(told, processes, start, uniform_grid(steps or 1), rng, method=solver(name))
        return task.physical(made["property"])
