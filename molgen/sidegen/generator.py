"""Conformers in Cartesian coordinates from a trained model, with or without a target."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffcore import random
from diffcore.checkpoint import fill_module, load_card, load_weights
from diffcore.composition import Range
from diffcore.denoisers import Denoiser
from diffcore.errors import ConfigError, DataError, ModelFileError
from diffcore.guidance import Energy, energy_guided
from diffcore.samplers import prior, sample, solver
from diffcore.schedules import power_grid
from diffcore.state import State
from molgen.datasets.complex_table import flat
from molgen.sidegen.features import NO_TARGET, ligand_arrays, target_arrays
from molgen.sidegen.network import ALONE, MESSAGES, POOLED
from molgen.sidegen.task import ENCODED, FIELD, SideDenoiser, SideTask
from molgen.weights.files import find_model

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.docking.pocket import Pocket

Floats = NDArray[np.float64]
SIGHT = {"none": ALONE, "pooled": POOLED, "messages": MESSAGES}
"""What the network sees of the target, by name."""

METHODS = {"isotropic": "ancestral", "harmonic": "flow_euler"}
STEPS = 25
"""Evaluations of the network for a conformer, unless said otherwise."""

ROUNDS = 4
"""Times at most that conformers are drawn: those without the marked stereo are drawn again."""


@dataclass(frozen=True)
class Guidance:
    """An energy that draws samples, and how strongly.

    Attributes:
        energy: of a noisy state; see `molgen.sidegen.chemistry.chemical_energy`.
        scale: factor of its gradient.
        limit: largest root-mean-square shift of a prediction, in the field's unit.
    """

    energy: Energy
    scale: float = 1.0
    limit: float = 0.05


@dataclass
class CartesianGenerator:
    """A trained generator.

    Attributes:
        task: process, prior, size of the network.
        denoiser: the network in the x0 convention.
        card: what is known of the model.
    """

    task: SideTask
    denoiser: SideDenoiser
    card: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path = "sidegen") -> CartesianGenerator:
        """Load a shipped model by name, or a .safetensors file with its card beside it.

        Raises:
            ModelFileError: the model is unknown, or its files are broken or of another kind.
        """
        path = find_model(name_or_path)
        card = load_card(path)
        if card.get("kind") != "cartesian-conformers":
            found = card.get("kind")
            raise ModelFileError(f"{path}: expected a model of Cartesian conformers, got {found!r}")
        try:
            task = SideTask.from_json(card["task"])
        except (ConfigError, KeyError) as error:
            raise ModelFileError(f"{path.with_suffix('.json')}: {error}") from error
        network = task.build().requires_grad_(False).eval()
        fill_module(network, load_weights(path, card), path)
        return cls(task, SideDenoiser(network, task), card)

    def sample(
        self,
        mol: Chem.Mol | str,
        n: int = 10,
        *,
        pocket: Pocket | None = None,
        sees: str = "messages",
        steps: int = STEPS,
        seed: int = 0,
        guidance: Guidance | None = None,
    ) -> Chem.Mol:
        """Up to n conformers; with a pocket, poses in the protein's frame.

        Stereo that is marked is asked for and checked: a conformer that lacks it is not returned.
        The first conformer has the least mean RMSD to the others. Properties are those of
        `molgen.conformers.ConformerGenerator.sample`; every conformer is a sample, so that each has
        the same confidence.

        Args:
            mol: a molecule or its SMILES; hydrogens that are implicit are added.
            n: how many are drawn.
            pocket: the target; the centre of its box is where the ligand starts.
            sees: ``messages``, ``pooled`` (the mean of the target's atoms) or ``none``.
            steps: evaluations of the network.
            seed: of the random numbers.
            guidance: an energy to follow.

        Raises:
            ConfigError: an option is outside what is allowed.
            DataError: the molecule cannot be read or embedded, or no conformer has its stereo.
        """
        from molgen import embedding

        _check(n, steps, seed, sees)
        whole = embedding.prepared(mol)
        graph, centre = self._graph(whole, pocket, sees, seed)
        rng = random.generator(seed)
        kept: list[Floats] = []
        for _ in range(ROUNDS):
            lacking = torch.zeros(n - len(kept), dtype=torch.long)
            heavy = self._drawn(graph.take(lacking), steps, rng, guidance)
            made = with_hydrogens(whole, heavy + centre)
            kept += [pos for pos in made if embedding.keeps_stereo(whole, pos)]
            if len(kept) == n:
                break
        if not kept:
            raise DataError(f"none of {ROUNDS * n} conformers has the marked stereo")
        out = _ranked(whole, np.stack(kept))
        out.SetProp("model", str(self.card.get("name", "unnamed")))
        out.SetProp("seed", str(seed))
        return out

    def _graph(
        self, mol: Chem.Mol, pocket: Pocket | None, sees: str, seed: int
    ) -> tuple[State, Floats]:
        """One row of a prepared molecule with its target, and the centre [3] of its positions.

        Raises:
            DataError: the molecule cannot be embedded, so that its handedness is not known.
        """
        from molgen import embedding

        local = next(
            (p for p in embedding.embed(mol, 4, seed + 1) if embedding.keeps_stereo(mol, p)), None
        )
        if local is None:
            raise DataError("cannot be embedded: no structure has the marked stereo")
        arrays = ligand_arrays(mol, local)
        centre = np.zeros(3) if pocket is None else np.array(pocket.box.centre)
        target = NO_TARGET if pocket is None else target_arrays(pocket.structure, centre)
        arrays["pos"] = arrays["pos"] - arrays["pos"].mean(0) + centre
        batch = flat([arrays | target], [0], {}).batch([0])
        told = ALONE if pocket is None else SIGHT[sees]
        return self.task.encode({**batch, "info": torch.tensor([told])}), centre

    def _drawn(
        self, graph: State, steps: int, rng: torch.Generator, guidance: Guidance | None
    ) -> NDArray[np.float64]:
        """Heavy atoms [n, N, 3], Angstrom, centred."""
        processes = self.task.processes()
        denoiser: Denoiser = self.denoiser
        if guidance is not None:
            denoiser = energy_guided(
                denoiser,
                processes,
                guidance.energy,
                guidance.scale,
                on="xt",
                within=Range(0.05, 0.7),
                limit=guidance.limit,
            )
        with torch.inference_mode():
            encoded = self.denoiser.network.encode(graph, graph.mask)
            start = graph.replace(**{FIELD: prior(processes, graph.mask, rng)[FIELD]})
            end = sample(
                denoiser,
                processes,
                start,
                power_grid(steps),
                rng,
                method=solver(METHODS[self.task.prior]),
                context={ENCODED: encoded},
            )
        return np.asarray(self.task.to_angstrom(end[FIELD], graph).double().numpy())


def with_hydrogens(mol: Chem.Mol, heavy: Floats) -> Floats:
    """Positions [n, A, 3] of all atoms of a molecule from those of the heavy ones [n, N, 3]."""
    from rdkit import Chem

    from molgen import embedding

    pos = np.zeros((len(heavy), mol.GetNumAtoms(), 3))
    pos[:, [a.GetIdx() for a in mol.GetAtoms() if a.GetAtomicNum() > 1]] = heavy
    made = embedding.with_conformers(mol, pos)
    for atom in made.GetAtoms():
        if atom.GetAtomicNum() == 1 and atom.GetDegree() == 1:
            owner = atom.GetNeighbors()[0].GetIdx()
            Chem.SetTerminalAtomCoords(made, atom.GetIdx(), owner)
    return embedding.positions_of(made)


def _ranked(mol: Chem.Mol, pos: Floats) -> Chem.Mol:
    """The molecule with these conformers [C, A, 3], the most central one first."""
    from molgen import embedding

    order = embedding.distances(mol, pos).mean(1).argsort(kind="stable")
    overlap = embedding.overlap(mol, pos)
    properties = [{"confidence": 1 / len(pos), "overlap": float(overlap[k])} for k in order]
    return embedding.with_conformers(mol, pos[order], properties)


def _check(n: int, steps: int, seed: int, sees: str) -> None:
    for name, value, least in (("n", n, 1), ("steps", steps, 1), ("seed", seed, 0)):
        if value < least:
            raise ConfigError(f"{name}: expected {least} or more, got {value}")
    if sees not in SIGHT:
        raise ConfigError(f"sees: expected one of {', '.join(SIGHT)}, got {sees!r}")
