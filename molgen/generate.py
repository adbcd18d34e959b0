"""Generate molecules: a model file in, RDKit molecules out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from diffcore import random
from diffcore.checkpoint import fill_module, load_card, load_weights
from diffcore.denoisers import Counted, Denoiser, with_temperature
from diffcore.errors import ConfigError, ModelFileError
from diffcore.processes import Categorical
from diffcore.samplers import prior, sample, solver
from diffcore.schedules import power_grid
from diffcore.state import State
from molgen.progress import molecule_bar
from molgen.tasks.molecules import MoleculeDenoiser, MoleculeTask
from molgen.weights.files import find_model

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.deliver import Delivery, Source

BLOCK = 256
"""Molecules are made in blocks of this many, each handed out in order as soon as it is whole."""

LANES = 4
"""Rows of a network call are filled up to a multiple of this: matrix kernels treat whole tiles of
rows alike, so that a molecule does not depend on its neighbours in a batch, to the last bit."""


@dataclass(frozen=True)
class Sampling:
    """How molecules are drawn; a model's card holds its own.

    Attributes:
        steps: evaluations of the network (Heun makes about twice as many).
        sampler: name in `diffcore.samplers.SOLVERS`.
        temperature: of the predicted class probabilities; lower is safer and less diverse.
        power: exponent of the time grid; above 1 there are more steps near the data.
    """

    steps: int = 45
    sampler: str = "renoise"
    temperature: float = 0.5
    power: float = 1.3

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.steps < 1:
            raise ConfigError(f"steps: expected at least 1, got {self.steps}")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ConfigError(f"temperature: expected a number above 0, got {self.temperature}")
        if not (math.isfinite(self.power) and self.power > 0):
            raise ConfigError(f"power: expected a number above 0, got {self.power}")
        solver(self.sampler)


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
    """

    task: MoleculeTask
    denoiser: Denoiser
    sampling: Sampling = field(default_factory=Sampling)
    card: dict[str, Any] = field(default_factory=dict, repr=False)
    device: torch.device = torch.device("cpu")
    evaluations: int = 0

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
    def size_range(self) -> tuple[int, int]:
        """Fewest and most atoms (hydrogens included) the model was trained on."""
        return min(self.task.sizes), max(self.task.sizes)

    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        n_atoms: int | None = None,
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

        Args:
            n: how many.
            seed: molecule ``i`` depends on the seed and ``i`` alone, not on ``n`` or the batch
                size.
            n_atoms: atoms in every molecule, hydrogens included; drawn from the training sizes if
                left out.
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
            ConfigError: an option is outside what is allowed.
            YieldError: too few molecules meet the demands.
        """
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
                n_atoms=n_atoms,
                steps=steps,
                sampler=sampler,
                temperature=temperature,
                batch_size=batch_size,
            ).mols
        with molecule_bar(n, show=progress) as bar:
            mols = self.stream(
                n,
                seed=seed,
                n_atoms=n_atoms,
                steps=steps,
                sampler=sampler,
                temperature=temperature,
                batch_size=batch_size,
                progress=bar.update,
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
        n_atoms: int | None = None,
        steps: int | None = None,
        sampler: str | None = None,
        temperature: float | None = None,
        batch_size: int = 64,
        progress: Callable[[float], object] | None = None,
    ) -> Iterator[Chem.Mol]:
        """Generate molecules ``start`` to ``start + n`` of a seed, one by one; see `sample`.

        They come out in blocks; ``progress`` is called in between with the share of a molecule's
        work, in molecules, that has been done since its last call.
        """
        if n < 1:
            raise ConfigError(f"n: expected at least 1 molecule, got {n}")
        if batch_size < 1:
            raise ConfigError(f"batch_size: expected at least 1, got {batch_size}")
        low, high = self.size_range
        if n_atoms is not None and not low <= n_atoms <= high:
            raise ConfigError(
                f"n_atoms: the model makes molecules of {low} to {high} atoms, got {n_atoms}"
            )
        own = self.sampling
        settings = Sampling(
            own.steps if steps is None else steps,
            own.sampler if sampler is None else sampler,
            own.temperature if temperature is None else temperature,
            own.power,
        )
        return self._blocks(start, start + n, seed, n_atoms, settings, batch_size, progress)

    def _blocks(
        self,
        start: int,
        stop: int,
        seed: int,
        n_atoms: int | None,
        settings: Sampling,
        batch_size: int,
        progress: Callable[[float], object] | None,
    ) -> Iterator[Chem.Mol]:
        for first in range(start, stop, BLOCK):
            indices = list(range(first, min(first + BLOCK, stop)))
            rngs = dict(zip(indices, random.row_generators(seed, indices), strict=True))
            sizes = {i: n_atoms or self._draw_size(rngs[i]) for i in indices}
            made: dict[int, Chem.Mol] = {}
            for size in sorted(set(sizes.values())):
                same = [i for i in indices if sizes[i] == size]
                for at in range(0, len(same), batch_size):
                    rows = same[at : at + batch_size]
                    arrays = self.arrays([rngs[i] for i in rows], size, settings, progress)
                    made |= {
                        i: self._molecule(a, seed, i) for i, a in zip(rows, arrays, strict=True)
                    }
            yield from (made[i] for i in indices)

    def arrays(
        self,
        rngs: list[torch.Generator],
        n_atoms: int,
        settings: Sampling,
        progress: Callable[[float], object] | None = None,
    ) -> list[dict[str, Tensor]]:
        """Molecules of one size as arrays (see `MoleculeTask.decode`), one per generator."""

        def done(_: int, steps: int) -> None:
            if progress is not None:
                progress(len(rngs) / steps)

        filled = rngs + [random.generator(0, k) for k in range(-len(rngs) % LANES)]
        state, calls = self._draw(filled, n_atoms, settings, done)
        self.evaluations += calls * len(rngs)
        return self.task.decode(state.take(torch.arange(len(rngs))))

    def _draw(
        self,
        rngs: list[torch.Generator],
        n_atoms: int,
        settings: Sampling,
        progress: Callable[[int, int], None],
    ) -> tuple[State, int]:
        processes = self.task.processes()
        mask = torch.ones(len(rngs), n_atoms, dtype=torch.bool, device=self.device)
        cold = {n: settings.temperature for n, p in processes.items() if isinstance(p, Categorical)}
        denoiser = (
            self.denoiser if settings.temperature == 1 else with_temperature(self.denoiser, cold)
        )
        counted = Counted(denoiser)
        grid = power_grid(settings.steps, settings.power)
        method = solver(settings.sampler)
        with torch.inference_mode():
            start = prior(processes, mask, rngs)
            state = sample(counted, processes, start, grid, rngs, method=method, progress=progress)
        return state, counted.calls

    def _draw_size(self, rng: torch.Generator) -> int:
        counts = torch.tensor(list(self.task.sizes.values()), dtype=torch.float64)
        u = torch.rand((), generator=rng, dtype=torch.float64)
        return list(self.task.sizes)[int(random.categorical(counts, u))]

    def _molecule(self, arrays: dict[str, Tensor], seed: int, index: int) -> Chem.Mol:
        from rdkit import Chem, rdBase

        from molgen.chem import mol_from_arrays

        raw = mol_from_arrays(**{k: v.numpy() for k, v in arrays.items()})
        mol = Chem.Mol(raw)
        with rdBase.BlockLogs():
            refused = Chem.SanitizeMol(mol, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE
        if refused or any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()):
            mol = raw
        mol.SetProp("_Name", f"{self.card.get('name', 'molecule')}-{seed}-{index}")
        for key, value in (("seed", seed), ("index", index), ("n_atoms", mol.GetNumAtoms())):
            mol.SetProp(key, str(value))
        mol.SetProp("model", str(self.card.get("name", "unnamed")))
        return mol
