"""Generate conformers: a molecule in, the same molecule with ranked conformers out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcore import random
from diffcore.checkpoint import fill_module, load_card, load_weights
from diffcore.denoisers import Denoiser, with_temperature
from diffcore.errors import ConfigError, DataError, ModelFileError
from diffcore.samplers import prior, sample, solver
from diffcore.schedules import uniform_grid
from molgen.contacts.term import Contacts
from molgen.ranking import Ranker
from molgen.tasks.conformers import ENCODED, FIELD, ConformerDenoiser, ConformerTask
from molgen.weights.files import find_model

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.docking.ensemble import Costs, Redraw
    from molgen.docking.pocket import Pocket
    from molgen.torsions import TorsionGraph

Floats = NDArray[np.float64]
MAX_CONFORMERS = 10_000


@dataclass(frozen=True)
class ConformerSampling:
    """How conformers are drawn; a model's card holds its own.

    Attributes:
        steps: evaluations of the network.
        temperature: of the predicted torsion densities; lower is safer and less diverse.
        structures: share of RDKit structures to embed for every conformer asked for.
        least: structures embedded at least, where as many conformers or more are asked for.
        pool: samples drawn at most, of which the conformers are chosen: 64 for every rotatable
            bond, but always four times as many as asked for.
        overlap: atoms may be this much too near each other, in Angstrom, summed over a molecule.
    """

    steps: int = 10
    temperature: float = 1.0
    structures: float = 0.2
    least: int = 6
    pool: int = 384
    overlap: float = 0.5

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, low in (("steps", 1), ("least", 1), ("pool", 1)):
            if getattr(self, name) < low:
                raise ConfigError(f"{name}: expected at least {low}, got {getattr(self, name)}")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ConfigError(f"temperature: expected a number above 0, got {self.temperature}")


@dataclass
class ConformerGenerator:
    """A trained generator of conformers.

    Attributes:
        task: the process and the network's size.
        denoiser: the network in the x0 convention.
        sampling: the model's own settings.
        card: what is known of the model: data, recipe, quality.
        ranker: weighs the model's samples; all count the same without one.
        contacts: tells the model of a pocket, where there is one.
    """

    task: ConformerTask
    denoiser: ConformerDenoiser
    sampling: ConformerSampling = field(default_factory=ConformerSampling)
    card: dict[str, Any] = field(default_factory=dict, repr=False)
    ranker: Ranker | None = None
    contacts: Contacts | None = None

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path = "bound") -> ConformerGenerator:
        """Load a shipped model by name, or a .safetensors file with its card beside it.

        The card may name a ranking and contacts in the same folder, which are loaded too.

        Raises:
            ModelFileError: the model is unknown, or its files are missing, broken or do not fit
                each other.
        """
        path = find_model(name_or_path)
        card = load_card(path)
        if card.get("kind") != "conformers":
            raise ModelFileError(
                f"{path}: expected a model of conformers, got {card.get('kind')!r}"
            )
        try:
            task = ConformerTask.from_json(card["task"])
            settings = ConformerSampling(**card.get("sampling", {}))
        except (ConfigError, KeyError, TypeError) as error:
            raise ModelFileError(f"{path.with_suffix('.json')}: {error}") from error
        network = task.build().requires_grad_(False).eval()
        fill_module(network, load_weights(path, card), path)
        ranker = None
        if "ranking" in card:
            ranker = Ranker.read(path.with_name(f"{card['ranking']}.safetensors"), card["sha256"])
        contacts = None
        if "contacts" in card:
            contacts = Contacts.read(path.with_name(f"{card['contacts']}.safetensors"))
        denoiser = ConformerDenoiser(network, task.process())
        return cls(task, denoiser, settings, card, ranker, contacts)

    def sample(
        self,
        mol: Chem.Mol | str,
        n: int = 50,
        *,
        seed: int = 0,
        pocket: str | Path | Pocket | None = None,
        reference_ligand: str | Path | Chem.Mol | None = None,
        centre: Sequence[float] | None = None,
        box: float | Sequence[float] | None = None,
        exhaustiveness: int = 8,
    ) -> Chem.Mol:
        """Up to ``n`` conformers of a molecule, the most representative first; or poses.

        With a pocket, conformers of the model are docked into it by AutoDock Vina, and poses come
        back in the protein's frame. A model that has contacts draws their torsions anew in the
        pocket; what Vina makes of that is ranked with the others, by Vina's energy and by how
        likely the model finds torsions and contacts.

        Args:
            mol: a molecule or its SMILES. Hydrogens that are implicit are added after the other
                atoms; order, name, properties and marked stereo are kept.
            n: how many; fewer come back only for small rigid molecules, or where conformers had
                to be dropped because their stereo was not the marked one.
            seed: of the random numbers.
            pocket: PDB file of the protein, or a `molgen.docking.pocket.Pocket`.
            reference_ligand: with a pocket: a ligand that sits in it, file or molecule.
            centre: with a pocket: middle of the box, three numbers in Angstrom.
            box: with a pocket: its edge or three edges, Angstrom.
            exhaustiveness: with a pocket: searches of Vina.

        Returns:
            A molecule with conformers 0, 1, ... in Angstrom. Each has the double properties
            ``confidence`` (share of the model's samples that are nearest to this conformer, as the
            ranking weighs them; for poses each counts the same) and ``overlap`` (Angstrom, see
            `molgen.embedding.overlap`), poses also ``vina_score``, ``vina_min``, ``torsion_cost``
            and, if the model has contacts, ``contact_cost`` (kcal/mol); the molecule ``model`` and
            ``seed``.

        Raises:
            ConfigError: ``n`` or ``seed`` is outside what is allowed, a pocket lacks its place, or
                Vina is not installed.
            DataError: the molecule cannot be read, embedded or docked, or the protein not read.
        """
        from molgen import embedding

        if pocket is None and any(x is not None for x in (reference_ligand, centre, box)):
            raise ConfigError("reference_ligand, centre, box: expected a pocket beside them")

        if not 1 <= n <= MAX_CONFORMERS:
            raise ConfigError(f"n: expected 1 to {MAX_CONFORMERS} conformers, got {n}")
        if seed < 0:
            raise ConfigError(f"seed: expected 0 or more, got {seed}")
        whole = embedding.prepared(mol)
        if pocket is not None:
            from molgen.docking.pocket import as_pocket

            where = as_pocket(pocket, reference_ligand, centre, box)
            return self._placed(whole, where, n, seed, exhaustiveness)
        pool = self.pool(whole, n, seed)
        return self._chosen(whole, pool, n, seed)

    def _placed(
        self, mol: Chem.Mol, pocket: Pocket, n: int, seed: int, exhaustiveness: int
    ) -> Chem.Mol:
        """The molecule with up to n poses as conformers."""
        from molgen.docking.ensemble import STARTS, posed

        pool = self.pool(mol, STARTS, seed)
        made = posed(
            mol,
            pocket,
            pool,
            n,
            exhaustiveness=exhaustiveness,
            seed=seed,
            costs=self._costs(mol, pocket),
            redraw=self._redraw(mol, pocket, seed),
        )
        return self._signed(made, seed)

    def _costs(self, mol: Chem.Mol, pocket: Pocket) -> Costs:
        """What the model says of poses beside Vina's energy, in kcal/mol."""
        from molgen import torsion_cost
        from molgen.contacts import term

        def torsions(poses: Floats) -> Floats:
            return torsion_cost.WEIGHT * torsion_cost.torsion_nats(self.denoiser, mol, poses)

        def contacts(poses: Floats) -> Floats:
            assert self.contacts is not None
            return term.WEIGHT * self.contacts.nats(mol, poses, pocket.structure)

        told: Costs = {"torsion_cost": torsions}
        return told if self.contacts is None else {**told, "contact_cost": contacts}

    def _redraw(self, mol: Chem.Mol, pocket: Pocket, seed: int) -> Redraw | None:
        """Torsions of poses by the model that is told of the pocket, where it can be."""
        from molgen.contacts.redraw import redrawn

        told = self.contacts
        if told is None:
            return None
        rng = random.generator(seed, 13)
        return lambda poses: redrawn(
            self.denoiser, told.potential, mol, poses, pocket.structure, rng
        )

    def pool(self, mol: Chem.Mol, n: int, seed: int) -> Floats:
        """Candidate positions [S, A, 3] of a prepared molecule, for n conformers to choose from.

        Raises:
            DataError: the molecule cannot be embedded, or never with the marked stereo.
        """
        from molgen import embedding
        from molgen.torsions import torsion_graph

        graph = torsion_graph(mol)
        own = self.sampling
        turning = len(graph.quad) > 0
        wanted = max(own.least, math.ceil(own.structures * n)) if turning else max(n, own.least)
        local = embedding.embed(mol, wanted, random_seed(seed))
        right = [k for k, pos in enumerate(local) if embedding.keeps_stereo(mol, pos)]
        if not right:
            raise DataError("cannot be embedded: no structure has the marked stereo")
        local = local[right]
        if not turning:
            return local
        size = max(4 * n, min(own.pool, 64 * len(graph.quad)))
        rows = np.arange(size) % len(local)
        return self.turned(mol, graph, local, rows, seed)

    def turned(
        self, mol: Chem.Mol, graph: TorsionGraph, local: Floats, rows: NDArray[Any], seed: int
    ) -> Floats:
        """Local structures with sampled torsions, those without overlap where there are enough."""
        from molgen import embedding
        from molgen.torsions import moving_atoms, set_torsions

        angles = self.torsions(graph, local, rows, seed)
        made = set_torsions(local[rows], angles, graph, moving_atoms(mol, graph))
        bad = embedding.overlap(mol, made)
        order = bad.argsort(kind="stable")
        free = int((bad <= self.sampling.overlap).sum())
        return made[np.sort(order[: max(free, len(made) // 4)])]

    def torsions(self, graph: TorsionGraph, local: Floats, rows: NDArray[Any], seed: int) -> Floats:
        """Sampled torsions [S, R] in radians for the local structures local[rows] [S, A, 3]."""
        from molgen.datasets.torsions import network_input

        batch = network_input(graph, local[:, graph.heavy])
        processes = self.task.processes()
        denoiser: Denoiser = self.denoiser
        if self.sampling.temperature != 1:
            denoiser = with_temperature(denoiser, {FIELD: self.sampling.temperature})
        rng = random.generator(seed)
        mask = torch.ones(len(rows), len(graph.quad), dtype=torch.bool)
        with torch.inference_mode():
            encoded = self.denoiser.network.encode(batch).take(torch.from_numpy(rows))
            state = sample(
                denoiser,
                processes,
                prior(processes, mask, rng),
                uniform_grid(self.sampling.steps),
                rng,
                method=solver("ancestral"),
                context={ENCODED: encoded},
            )
        angles: Tensor = state[FIELD]
        return np.asarray(angles.double().numpy())

    def _chosen(self, mol: Chem.Mol, pool: Floats, n: int, seed: int) -> Chem.Mol:
        """The molecule with the n most representative members of the pool as conformers."""
        from molgen import embedding
        from molgen.selection import choose

        chosen, share = choose(embedding.distances(mol, pool), n, self.weights(mol, pool))
        overlap = embedding.overlap(mol, pool[chosen])
        rows = zip(chosen.tolist(), share.tolist(), overlap.tolist(), strict=True)
        good = [row for row in rows if embedding.keeps_stereo(mol, pool[row[0]])]
        properties = [{"confidence": p, "overlap": bad} for _, p, bad in good]
        made = embedding.with_conformers(mol, pool[[k for k, _, _ in good]], properties)
        return self._signed(made, seed)

    def weights(self, mol: Chem.Mol, pool: Floats) -> Floats | None:
        """Shares [S] of a pool [S, A, 3] of a molecule by the ranking; None where all are alike."""
        from molgen.torsions import torsion_graph

        if self.ranker is None:
            return None
        graph = torsion_graph(mol)
        if not len(graph.quad):
            return None
        return self.ranker.weights(self.denoiser.network, graph, pool[:, graph.heavy])

    def _signed(self, mol: Chem.Mol, seed: int) -> Chem.Mol:
        """The molecule with the model's name and the seed."""
        mol.SetProp("model", str(self.card.get("name", "unnamed")))
        mol.SetProp("seed", str(seed))
        return mol


def random_seed(seed: int) -> int:
    """A seed for RDKit [1, 2^31 - 2] that differs from seed to seed."""
    return 1 + (seed * 2_654_435_761 + 12_345) % (2**31 - 2)
