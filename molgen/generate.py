"""Generate molecules: a model file in, RDKit molecules out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcore import random
from diffcore.checkpoint import fill_module, load_card, load_weights
from diffcore.denoisers import Denoiser
from diffcore.errors import ConfigError, ModelFileError, YieldError
from molgen.progress import molecule_bar
from molgen.properties import PropertyPredictor
from molgen.sampling import Sampling, named_molecule
from molgen.steer.check import hopeless, placed, unmet
from molgen.steer.draw import Plan, draw, draw_size
from molgen.steer.properties import best_of, predicted_miss
from molgen.steer.request import Request
from molgen.targets import Given
from molgen.tasks.molecules import MoleculeDenoiser, MoleculeTask
from molgen.weights.files import find_model

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.deliver import Delivery, Source

__all__ = ["BLOCK", "LANES", "MoleculeGenerator", "Sampling"]

BLOCK = 256
"""Molecules are made in blocks of this many, each handed out in order as soon as it is whole."""

LANES = 4
"""A network call is filled up until its atoms are a multiple of this: matrix kernels treat whole
tiles of rows alike, so that a molecule does not depend on its neighbours in a batch, to the last
bit."""

ATTEMPTS = 1000
"""How often a molecule is drawn at most until it is what was asked for."""

HOPELESS = (300, 0.01)
"""A block is given up after so many draws, if so small a share of them was what was asked for."""


@dataclass
class MoleculeGenerator:
    """A trained generator of molecules.

    Attributes:
        task: fields, processes and data statistics of the model.
        denoiser: the network in the x0 convention.
        sampling: the model's own settings.
        card: what is known of the model: data, recipe, quality.
        device: where the network's weights are.
        evaluations: network evaluations so far, one per molecule and call; rows that only fill a
            call are not counted.
        steerer: predictor that steers towards properties; the card's, loaded when it is needed.
    """

    task: MoleculeTask
    denoiser: Denoiser
    sampling: Sampling = field(default_factory=Sampling)
    card: dict[str, Any] = field(default_factory=dict, repr=False)
    device: torch.device = torch.device("cpu")
    evaluations: int = 0
    steerer: PropertyPredictor | None = field(default=None, repr=False)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path = "qm9", device: str = "cpu"
    ) -> MoleculeGenerator:
        """Load a shipped model by name, or a .safetensors file with its card beside it.

        Raises:
            ModelFileError: the model is unknown, or its files are missing, broken or do not fit
                each other.
        """
        path = find_model(name_or_path)
        card = load_card(path)
        if card.get("kind") != "molecules":
            raise ModelFileError(f"{path}: expected a model of molecules, got {card.get('kind')!r}")
        try:
            task = MoleculeTask.from_json(card["task"])
            settings = Sampling(**card.get("sampling", {}))
        except (ConfigError, KeyError, TypeError) as error:
            raise ModelFileError(f"{path.with_suffix('.json')}: {error}") from error
        network = task.build().requires_grad_(False).eval()
        fill_module(network, load_weights(path, card), path)
        denoiser = MoleculeDenoiser(network.to(device), task.processes(), task.predicts)
        return cls(task, denoiser, settings, card, torch.device(device))

    @property
    def name(self) -> str:
        """Of the model, as its molecules bear it."""
        return str(self.card.get("name", "unnamed"))

    @property
    def size_range(self) -> tuple[int, int]:
        """Fewest and most atoms (hydrogens included) the model was trained on."""
        return min(self.task.sizes), max(self.task.sizes)

    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        n_atoms: int | None = None,
        formula: str | None = None,
        charge: int | None = None,
        property: Mapping[str, Given] | None = None,
        strength: float = 1.0,
        candidates: int = 4,
        scaffold: str | None = None,
        keep: Chem.Mol | None = None,
        steps: int | None = None,
        sampler: str | None = None,
        temperature: float | None = None,
        batch_size: int = 64,
        progress: bool | None = None,
        require: Sequence[str] = (),
        unique: bool = False,
        novel: bool = False,
        repair: Literal["mmff", "xtb"] | None = None,
        max_tries: int | None = None,
    ) -> list[Chem.Mol]:
        """Generate ``n`` molecules; with a demand (``require`` to ``repair``), ``n`` that meet it.

        Whatever is asked of formula, charge, scaffold or fragment holds for every molecule that
        comes back. See docs/steering.md.

        Args:
            n: how many.
            seed: molecule ``i`` depends on the seed and ``i`` alone, not on ``n`` or the batch
                size.
            n_atoms: atoms in every molecule, hydrogens included; drawn from the training sizes if
                left out.
            formula: such as ``C7H10O2``; neutral, unless a charge is given.
            charge: total charge in e.
            property: values or ranges of what the model was trained with, ``{"mu": (0, 1)}``;
                see `molgen.targets`.
            strength: with which the gradient of a predictor pulls towards the properties.
            candidates: molecules made for each one that is handed out: the one that the predictor
                finds nearest to the properties. Only with ``property``.
            scaffold: SMILES or SMARTS of a part of every molecule. Its hydrogens, or the places of
                its ``*``, may be anything.
            keep: a part with coordinates; molecules come in its frame, its atoms first. Several
                pieces are joined.
            steps: network evaluations; the model's own if left out.
            sampler: name of the sampler; the model's own if left out.
            temperature: of the class probabilities; the model's own if left out.
            batch_size: rows of one network call: a matter of memory and speed only.
            progress: show a bar; by default where the output is a terminal or a notebook.
            require: checks that every molecule passes: names of yes-or-no metrics of
                `molgen.evaluate.METRICS` such as ``strict_valid``, ``connected``, ``pb_valid``.
            unique: no two molecules of one graph.
            novel: no molecule of the training set.
            repair: relax the geometry with MMFF94s or GFN2-xTB; whatever would change the graph or
                the stereo is rejected.
            max_tries: molecules to make at most; without a bound, the run stops when the share
                of good ones is hopeless.

        Returns:
            Molecules with explicit hydrogens, formal charges, bonds and one conformer (Angstrom),
            in order. Those that RDKit accepts are sanitised; the others are handed over as the
            model made them: score them with `molgen.evaluate`. What was rejected and why is in
            the result of `deliver`.

        Raises:
            ConfigError: an option is outside what is allowed, or contradicts another.
            YieldError: too few molecules meet the demands, or are what was asked for.
        """
        request: dict[str, Any] = {
            "n_atoms": n_atoms,
            "formula": formula,
            "charge": charge,
            "property": property,
            "strength": strength,
            "candidates": candidates,
            "scaffold": scaffold,
            "keep": keep,
        }
        if require or unique or novel or repair:
            return self.deliver(
                n,
                require=require,
                unique=unique,
                novel=novel,
                repair=repair,
                max_tries=max_tries,
                progress=progress,
                seed=seed,
                steps=steps,
                sampler=sampler,
                temperature=temperature,
                batch_size=batch_size,
                **request,
            ).mols
        with molecule_bar(n, show=progress) as bar:
            mols = self.stream(
                n,
                seed=seed,
                steps=steps,
                sampler=sampler,
                temperature=temperature,
                batch_size=batch_size,
                progress=bar.update,
                **request,
            )
            return list(mols)

    def deliver(
        self,
        n: int,
        *,
        require: Sequence[str] = (),
        unique: bool = False,
        novel: bool = False,
        repair: Literal["mmff", "xtb"] | None = None,
        max_tries: int | None = None,
        progress: bool | None = None,
        **options: Any,
    ) -> Delivery:
        """Generate until ``n`` molecules meet the demands; see `sample`.

        The first ``n`` good ones of the seed's endless sequence are taken, in its order: asking for
        more continues the same list. ``options`` are those of `stream`.

        Returns:
            The molecules, and what was made, rejected (with reasons) and repaired.

        Raises:
            ConfigError: an option is outside what is allowed.
            YieldError: too few molecules meet the demands; it carries those that do.
        """
        from molgen.deliver import Demands, deliver

        demands = Demands(require, unique, novel, repair, reference=self.reference)
        return deliver(self.source(**options), n, demands, max_tries=max_tries, progress=progress)

    def source(self, **options: Any) -> Source:
        """The endless sequence of a seed for `molgen.deliver`; options are those of `stream`."""

        def source(
            start: int, count: int, done: Callable[[float], object] | None
        ) -> Iterator[Chem.Mol]:
            return self.stream(count, start=start, progress=done, **options)

        return source

    @property
    def reference(self) -> str | None:
        """Name of the reference with the model's training molecules, if it ships."""
        from molgen.datasets.reference import FOLDER

        data = self.card.get("data")
        name = data.get("name") if isinstance(data, dict) else None
        return name if isinstance(name, str) and (FOLDER / f"{name}.json").is_file() else None

    def stream(
        self,
        n: int,
        *,
        seed: int = 0,
        start: int = 0,
        steps: int | None = None,
        sampler: str | None = None,
        temperature: float | None = None,
        batch_size: int = 64,
        progress: Callable[[float], object] | None = None,
        **request: Any,
    ) -> Iterator[Chem.Mol]:
        """Generate molecules ``start`` to ``start + n`` of a seed, one by one; see `sample`.

        They come out in blocks; ``progress`` is called in between with the share of a molecule's
        work, in molecules, that has been done since its last call. ``request`` is ``n_atoms``,
        ``formula``, ``charge``, ``property`` (with ``strength`` and ``candidates``), ``scaffold``
        or ``keep``.
        """
        if n < 1:
            raise ConfigError(f"n: expected at least 1 molecule, got {n}")
        if batch_size < 1:
            raise ConfigError(f"batch_size: expected at least 1, got {batch_size}")
        asked = Request.parse(self.task, **request)
        own = self.sampling
        settings = Sampling(
            own.steps if steps is None else steps,
            own.sampler if sampler is None else sampler,
            own.temperature if temperature is None else temperature,
            own.power,
        )

        def blocks(
            first: int, count: int, done: Callable[[float], object] | None
        ) -> Iterator[Chem.Mol]:
            wanted = range(first, first + count)
            return self._blocks(wanted, seed, asked, settings, batch_size, done)

        if not asked.targets:
            return blocks(start, n, progress)
        miss = predicted_miss(self._predictor(), asked.targets)
        return best_of(blocks, asked.candidates, miss)(start, n, progress)

    def _predictor(self) -> PropertyPredictor:
        """The predictor that steers towards properties; its name stands in the card.

        Raises:
            ConfigError: the model has none.
        """
        if self.steerer is None:
            name = self.card.get("predictor")
            if not name:
                raise ConfigError("property: the model's card names no predictor to steer with")
            self.steerer = PropertyPredictor.from_pretrained(str(name))
        return self.steerer

    def _blocks(
        self,
        wanted: range,
        seed: int,
        request: Request,
        settings: Sampling,
        batch_size: int,
        progress: Callable[[float], object] | None,
    ) -> Iterator[Chem.Mol]:
        for at in range(0, len(wanted), BLOCK):
            indices = wanted[at : at + BLOCK]
            made: dict[int, Chem.Mol] = {}
            failed: Counter[str] = Counter()
            for attempt in range(ATTEMPTS):
                left = [i for i in indices if i not in made]
                tried = len(made) + failed.total()
                if not left or (tried >= HOPELESS[0] and len(made) < HOPELESS[1] * tried):
                    break
                path = (attempt,) if attempt else ()
                rngs = {i: random.generator(seed, *path, i) for i in left}
                for i, arrays in self._drawn(rngs, request, settings, batch_size, progress):
                    lacks = unmet(request, arrays)
                    if lacks:
                        failed[lacks] += 1
                    else:
                        made[i] = named_molecule(placed(request, arrays), self.name, seed, i)
            if len(made) < len(indices):
                raise YieldError(hopeless(request, len(made), failed))
            yield from (made[i] for i in indices)

    def _drawn(
        self,
        rngs: Mapping[int, torch.Generator],
        request: Request,
        settings: Sampling,
        batch_size: int,
        progress: Callable[[float], object] | None,
    ) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
        """One draw for every index and its generator, met or not, as arrays; sizes together."""
        sizes = {i: draw_size(request.sizes, rng) for i, rng in rngs.items()}
        for size in sorted(set(sizes.values())):
            same = [i for i in rngs if sizes[i] == size]
            for at in range(0, len(same), batch_size):
                rows = same[at : at + batch_size]
                batch = [rngs[i] for i in rows]
                during = None if request.steers else progress
                found = self.arrays(batch, size, settings, during, request)
                arrays = [{k: v.numpy() for k, v in one.items()} for one in found]
                yield from zip(rows, arrays, strict=True)
                if request.steers and progress is not None:
                    progress(sum(not unmet(request, one) for one in arrays))

    def arrays(
        self,
        rngs: list[torch.Generator],
        n_atoms: int,
        settings: Sampling,
        progress: Callable[[float], object] | None = None,
        request: Request | None = None,
    ) -> list[dict[str, Tensor]]:
        """Molecules of one size as arrays (see `MoleculeTask.decode`), one per generator.

        With a request the draw is steered towards it; whether it is met has to be checked.
        """

        def done(_: int, steps: int) -> None:
            if progress is not None:
                progress(len(rngs) / steps)

        tile = LANES // math.gcd(n_atoms, LANES)
        filled = rngs + [random.generator(0, k) for k in range(-len(rngs) % tile)]
        plan = Plan(self.task, request or Request(self.task.sizes), n_atoms, self.device)
        steerer = self._predictor() if plan.request.targets else None
        state, calls = draw(plan, self.denoiser, settings, filled, steerer, done)
        self.evaluations += calls * len(rngs)
        return self.task.decode(state.take(torch.arange(len(rngs))))
