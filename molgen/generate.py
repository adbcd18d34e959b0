"""Generate molecules: a model file in, RDKit molecules out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from diffcore import random
from diffcore.denoisers import Denoiser
from diffcore.errors import ConfigError
from molgen.loading import load_model
from molgen.progress import molecule_bar
from molgen.properties import PropertyPredictor
from molgen.sampling import Sampling
from molgen.steer.check import unmet
from molgen.steer.draw import Plan, draw, draw_size
from molgen.steer.properties import best_of, predicted_miss
from molgen.steer.redraw import BLOCK, Drawn, redrawn
from molgen.steer.request import Request, check_reward
from molgen.targets import Given
from molgen.tasks.molecules import MoleculeTask
from molgen.weights.files import find_model

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.deliver import Delivery, Source
    from molgen.steer.optimise import Optimised
    from molgen.steer.rewards import MoleculeReward

__all__ = ["BLOCK", "FEWEST", "LANES", "MoleculeGenerator", "Sampling"]

LANES, FEWEST = 4, 16
"""A network call has a multiple of so many atoms, and at least so many: matrix kernels treat whole
tiles of rows alike, and some processors have others for eight rows or fewer; so that a molecule
does not depend on its neighbours in a batch, to the last bit."""


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
        drawing: draws one batch of one size; to be wrapped, as a stopwatch does.
    """

    task: MoleculeTask
    denoiser: Denoiser
    sampling: Sampling = field(default_factory=Sampling)
    card: dict[str, Any] = field(default_factory=dict, repr=False)
    device: torch.device = torch.device("cpu")
    evaluations: int = 0
    steerer: PropertyPredictor | None = field(default=None, repr=False)
    drawing: Callable[..., Any] = field(default=draw, repr=False)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path = "qm9", device: str = "cpu"
    ) -> MoleculeGenerator:
        """Load a shipped model by name, or a .safetensors file with its card beside it.

        Raises:
            ModelFileError: the model is unknown, or its files are missing, broken or do not fit
                each other.
        """
        return cls(*load_model(find_model(name_or_path), device), torch.device(device))

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
        reward: str | MoleculeReward | None = None,
        budget: float | None = None,
        search: str | None = None,
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
            reward: a function of a molecule, or a name of `molgen.steer.rewards.REWARDS`: the best
                of a search are handed out. See `optimise`, which also tells what it cost.
            budget: network evaluations of the search, only with ``reward``.
            search: its name, see `optimise`; only with ``reward``.
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
        options: dict[str, Any] = {
            "n_atoms": n_atoms,
            "formula": formula,
            "charge": charge,
            "property": property,
            "strength": strength,
            "candidates": candidates,
            "scaffold": scaffold,
            "keep": keep,
            "seed": seed,
            "steps": steps,
            "sampler": sampler,
            "temperature": temperature,
        }
        demanded = bool(require or unique or novel or repair)
        check_reward(reward, budget, search, demanded)
        if reward is not None:
            how: dict[str, Any] = {"budget": budget, "search": search, "progress": progress}
            return self.optimise(n, reward, **how, **options).all_of(n)
        options["batch_size"] = batch_size
        if demanded:
            return self.deliver(
                n,
                require=require,
                unique=unique,
                novel=novel,
                repair=repair,
                max_tries=max_tries,
                progress=progress,
                **options,
            ).mols
        with molecule_bar(n, show=progress) as bar:
            return list(self.stream(n, progress=bar.update, **options))

    def optimise(
        self,
        n: int,
        reward: str | MoleculeReward,
        *,
        budget: float | None = None,
        search: str | None = None,
        options: Mapping[str, Any] | None = None,
        stop: Callable[[], bool] | None = None,
        progress: bool | None = None,
        seed: int = 0,
        steps: int | None = None,
        sampler: str | None = None,
        temperature: float | None = None,
        **request: Any,
    ) -> Optimised:
        """Search for the ``n`` valid molecules of highest reward, no two of one graph.

        Args:
            n: how many; fewer come back where fewer were found.
            reward: a function of a molecule (sanitised, with hydrogens and a conformer) that gives
                a number, larger being better; or a name of `molgen.steer.rewards.REWARDS`. A
                molecule at which it raises or returns NaN is dropped and counted.
            budget: network evaluations; 64 trajectories if left out.
            search: ``evolution`` by default, or another of `diffcore.searches.SEARCHES`.
            options: of the search, in place of those in `molgen.steer.optimise.TUNED`.
            stop: asked now and then; the search ends when it is true. Ctrl-C ends it too, and both
                keep the best so far.
            progress: show a bar; by default where the output is a terminal or a notebook.
            seed: the same seed gives the same search.
            steps: of a trajectory; the model's own if left out.
            sampler: name; the model's own if left out.
            temperature: of the class probabilities; the model's own if left out.
            **request: ``n_atoms``, ``formula``, ``charge``, ``property``, ``strength``,
                ``scaffold`` or ``keep``: what has to hold beside, see `sample`.

        Returns:
            The molecules, their rewards, and what the search cost.

        Raises:
            ConfigError: an option is outside what is allowed.
        """
        from molgen.steer.optimise import Search, optimise

        wanted = Request.parse(self.task, **request)
        settings = self.sampling.changed(steps, sampler, temperature)
        how = Search(reward, budget, search, options or {}, stop)
        return optimise(self, n, how, seed, settings, wanted, progress)

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
        settings = self.sampling.changed(steps, sampler, temperature)

        def blocks(
            first: int, count: int, done: Callable[[float], object] | None
        ) -> Iterator[Chem.Mol]:
            def drawn(rngs: Mapping[int, torch.Generator]) -> Drawn:
                return self._drawn(rngs, asked, settings, batch_size, done)

            return redrawn(drawn, range(first, first + count), asked, self.name, seed)

        if not asked.targets:
            return blocks(start, n, progress)
        miss = predicted_miss(self.predictor(), asked.targets)
        return best_of(blocks, asked.candidates, miss)(start, n, progress)

    def predictor(self) -> PropertyPredictor:
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

    def _drawn(
        self,
        rngs: Mapping[int, torch.Generator],
        request: Request,
        settings: Sampling,
        batch_size: int,
        progress: Callable[[float], object] | None,
    ) -> Drawn:
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
        rows = max(len(rngs), -(-FEWEST // n_atoms))
        rows += -rows % tile
        filled = rngs + [random.generator(0, k) for k in range(rows - len(rngs))]
        plan = Plan(self.task, request or Request(self.task.sizes), n_atoms, self.device)
        steerer = self.predictor() if plan.request.targets else None
        state, calls = self.drawing(plan, self.denoiser, settings, filled, steerer, done)
        self.evaluations += calls * len(rngs)
        return self.task.decode(state.take(torch.arange(len(rngs))))
