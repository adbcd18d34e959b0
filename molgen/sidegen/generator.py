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
        steps: int = 25,
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
        from rdkit import Chem
        from rdkit.Geometry import Point3D  # noqa: F401 - conformers need its converters

        from molgen import embedding

        _check(n, steps, seed, sees)
        whole = embedding.prepared(mol)
        positions = self.positions(whole, n, pocket, sees, steps, seed, guidance)
        made = Chem.Mol(whole)
        for one in positions:
            conformer = Chem.Conformer(whole.GetNumAtoms())
            conformer.Set3D(True)
            conformer.SetPositions(np.ascontiguousarray(one))
            made.AddConformer(conformer, assignId=True)
        for atom in made.GetAtoms():
            if atom.GetAtomicNum() == 1 and atom.GetDegree() == 1:
                owner = atom.GetNeighbors()[0].GetIdx()
                Chem.SetTerminalAtomCoords(made, atom.GetIdx(), owner)
        for conformer in list(made.GetConformers()):
            if not embedding.keeps_stereo(whole, np.asarray(conformer.GetPositions())):
                made.RemoveConformer(conformer.GetId())
        if not made.GetNumConformers():
            raise DataError(f"none of {n} conformers has the marked stereo")
        made = _ranked(made)
        made.SetProp("model", str(self.card.get("name", "unnamed")))
        made.SetProp("seed", str(seed))
        return made

    def positions(
        self,
        mol: Chem.Mol,
        n: int,
        pocket: Pocket | None,
        sees: str,
        steps: int,
        seed: int,
        guidance: Guidance | None,
    ) -> Floats:
        """Positions [n, A, 3] of a prepared molecule; only heavy atoms have a place yet.

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
        state = self.task.encode({**batch, "info": torch.tensor([told])})
        made = self._drawn(state.take(torch.zeros(n, dtype=torch.long)), steps, seed, guidance)
        out = np.zeros((n, mol.GetNumAtoms(), 3))
        heavy = [a.GetIdx() for a in mol.GetAtoms() if a.GetAtomicNum() > 1]
        out[:, heavy] = made + centre
        return out

    def _drawn(
        self, graph: State, steps: int, seed: int, guidance: Guidance | None
    ) -> NDArray[np.float64]:
        """Heavy atoms [n, N, 3], Angstrom, centred."""
        processes, rng = self.task.processes(), random.generator(seed)
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


def _ranked(mol: Chem.Mol) -> Chem.Mol:
    """A copy, the most central conformer first, with their properties."""
    from rdkit import Chem

    from molgen import embedding
    from molgen.selection import symmetric_rmsd

    pos = np.stack([np.asarray(c.GetPositions(), np.float64) for c in mol.GetConformers()])
    heavy = [a.GetIdx() for a in mol.GetAtoms() if a.GetAtomicNum() > 1]
    distance = symmetric_rmsd(pos[:, heavy], embedding.symmetries(mol))
    out = Chem.Mol(mol)
    out.RemoveAllConformers()
    overlap = embedding.overlap(mol, pos)
    for k in distance.mean(1).argsort(kind="stable").tolist():
        conformer = Chem.Conformer(mol.GetNumAtoms())
        conformer.Set3D(True)
        conformer.SetPositions(np.ascontiguousarray(pos[k]))
        conformer.SetDoubleProp("confidence", 1 / len(pos))
        conformer.SetDoubleProp("overlap", float(overlap[k]))
        out.AddConformer(conformer, assignId=True)
    return out


def _check(n: int, steps: int, seed: int, sees: str) -> None:
    for name, value, least in (("n", n, 1), ("steps", steps, 1), ("seed", seed, 0)):
        if value < least:
            raise ConfigError(f"{name}: expected {least} or more, got {value}")
    if sees not in SIGHT:
        raise ConfigError(f"sees: expected one of {', '.join(SIGHT)}, got {sees!r}")
