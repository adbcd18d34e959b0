"""The statistics of a data set that evaluation and generation compare against; shipped as files.

`python -m molgen.datasets.reference` rebuilds `molgen/references/qm9.*` from the converted QM9.
All statistics are of the training split.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcore.errors import DataError
from diffcore.files import write_whole
from molgen.datasets.reference_arrays import Histogram, unpacked
from molgen.datasets.table import HYBRIDISATIONS, MoleculeTable

FOLDER = Path(__file__).resolve().parent.parent / "references"


@dataclass(frozen=True)
class Reference:
    """Statistics of a data set's training molecules.

    Attributes:
        name: name of the data set.
        info: source, licence, units, counts, the command that built it.
        valency: (atomic number, charge) -> {(aromatic bonds, sum of the other kekulised orders):
            number of atoms}; the aromatic bonds are those that RDKit marks.
        total_valence: (atomic number, charge) -> {sum of kekulised orders: number of atoms}.
        n_atoms: atoms in a molecule -> number of molecules.
        elements: atomic number -> number of atoms.
        charges: formal charge in e -> number of atoms.
        hybridisations: name of the hybridisation -> number of atoms.
        bond_orders: kekulised order -> number of unordered pairs, 0 for pairs without a bond.
        ring_sizes: atoms in a ring -> number of rings (smallest set of smallest rings).
        rings_per_molecule: number of rings -> number of molecules.
        smiles_hashes: sorted `smiles_hash` of the distinct canonical SMILES, [.] uint64.
        bond_lengths: type -> (lengths in Angstrom ascending, bonds); types as in
            `molgen.evaluate.geometry`; empty where the reference has none, like all that follow.
        bond_angles: type -> (angles in degrees ascending, angles counted).
        torsion_angles: type -> (unsigned torsions in degrees ascending, torsions counted).
        ring_systems: SMILES of a ring system -> how often it occurs.
        functional_groups: name of a functional group -> how often it occurs.
        chemnet: mean [512] and covariance [512, 512] of ChemNet's last layer, or None.
        scores: metric -> (value, n) of a sample of the test split; shares as fractions.
    """

    name: str
    info: dict[str, Any]
    valency: dict[tuple[int, int], dict[tuple[int, int], int]]
    total_valence: dict[tuple[int, int], dict[int, int]]
    n_atoms: dict[int, int]
    elements: dict[int, int]
    charges: dict[int, int]
    hybridisations: dict[str, int]
    bond_orders: dict[int, int]
    ring_sizes: dict[int, int]
    rings_per_molecule: dict[int, int]
    smiles_hashes: NDArray[np.uint64]
    bond_lengths: Mapping[str, Histogram] = field(default_factory=dict)
    bond_angles: Mapping[str, Histogram] = field(default_factory=dict)
    torsion_angles: Mapping[str, Histogram] = field(default_factory=dict)
    ring_systems: Mapping[str, int] = field(default_factory=dict)
    functional_groups: Mapping[str, int] = field(default_factory=dict)
    chemnet: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    scores: Mapping[str, tuple[float, int]] = field(default_factory=dict)

    def contains(self, smiles: Sequence[str]) -> NDArray[np.bool_]:
        """Whether each canonical SMILES (as `molgen.chem.canonical_smiles`) is a training molecule.

        Args:
            smiles: [K] canonical SMILES, hydrogens implicit, no stereo marks.

        Returns:
            [K] bool; a false hit has odds of about 1e-14.
        """
        asked = np.array([smiles_hash(one) for one in smiles], dtype=np.uint64)
        place = np.searchsorted(self.smiles_hashes, asked)
        place = np.minimum(place, len(self.smiles_hashes) - 1)
        return np.asarray(self.smiles_hashes[place] == asked)


def smiles_hash(smiles: str) -> int:
    """First 8 bytes (little-endian) of the BLAKE2b-8 digest of a SMILES."""
    return int.from_bytes(hashlib.blake2b(smiles.encode(), digest_size=8).digest(), "little")


def load_reference(name: str = "qm9", folder: str | os.PathLike[str] = FOLDER) -> Reference:
    """A reference that ships with the package.

    Raises:
        DataError: there is none of this name, or its files are broken.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(folder)
    known = sorted(file.stem for file in folder.glob("*.json"))
    if name not in known:
        raise DataError(f"unknown reference {name!r}: expected one of {', '.join(known) or 'none'}")
    try:
        content = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / f"{name}.safetensors")
        hashes = arrays["smiles_hashes"]
        digest = hashlib.sha256(hashes.astype("<u8").tobytes()).hexdigest()
        if digest != content["info"]["smiles_hashes_sha256"]:
            raise DataError(f"reference {name!r}: the two files do not belong together")
        return Reference(
            name=name,
            info=content["info"],
            valency=_by_atom(content["valency"], _pair),
            total_valence=_by_atom(content["total_valence"], int),
            hybridisations=content["hybridisations"],
            smiles_hashes=hashes,
            functional_groups=content.get("functional_groups", {}),
            scores={key: (value, n) for key, (value, n) in content.get("scores", {}).items()},
            **unpacked(arrays, content.get("types", {})),
            **_int_histograms(content),
        )
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"reference {name!r} is broken: {error!r}") from error


_INT_HISTOGRAMS = (
    "n_atoms",
    "elements",
    "charges",
    "bond_orders",
    "ring_sizes",
    "rings_per_molecule",
)


def _int_histograms(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: {int(k): v for k, v in content[key].items()} for key in _INT_HISTOGRAMS}


def build_reference(
    table: MoleculeTable,
    name: str,
    folder: str | os.PathLike[str] = FOLDER,
    command: str = "",
    progress: bool = True,
    every: int = 1,
    chemnet: bool = False,
) -> Path:
    """Write `<name>.json` and `<name>.safetensors` from the training split of a table.

    Minutes for QM9, of which the statistics of geometry and substructures take most.

    Args:
        table: the converted data set.
        name: name of the reference.
        folder: where to write.
        command: the command line, kept in the file.
        progress: show a bar.
        every: take the geometry, the functional groups and ChemNet's moments from one training
            molecule in so many.
        chemnet: also fit ChemNet's last layer; needs the package `fcd`.

    Returns:
        The path of the json file.
    """
    from safetensors.numpy import save

    from molgen.datasets.reference_statistics import collect

    train = table.select(table.split_indices("train"))
    smiles = train.smiles()
    hashes = np.array(sorted({smiles_hash(one) for one in smiles}), dtype=np.uint64)
    sizes, per_molecule = _ring_statistics(smiles, progress)
    n_pairs = int((train.n_atoms.long() * (train.n_atoms.long() - 1) // 2).sum())
    orders = _histogram(train.bond_order)
    card = {key: table.card[key] for key in ("source", "licence", "version", "counts", "split")}
    info = {
        "name": name,
        **card,
        "properties": table.card["properties"],
        "command": command,
        "n_molecules": len(train),
        "n_distinct_smiles": len(hashes),
        "smiles": "RDKit canonical, hydrogens implicit, no stereo marks",
        "smiles_hash": "BLAKE2b, digest_size 8, little-endian uint64, sorted",
        "smiles_hashes_sha256": hashlib.sha256(hashes.astype("<u8").tobytes()).hexdigest(),
        "statistics": f"geometry, functional groups, ChemNet: one molecule in {every}",
        "valency": "'Z:charge' -> 'aromatic bonds,sum of other kekulised orders' -> atoms",
    }
    valency, total = valency_tables(train)
    hybridisations = _histogram(train.hybridisation)
    content = {
        "info": info,
        "valency": valency,
        "total_valence": total,
        "n_atoms": _histogram(train.n_atoms),
        "elements": _histogram(train.atomic_number),
        "charges": _histogram(train.charge),
        "hybridisations": {HYBRIDISATIONS[int(k)]: v for k, v in hybridisations.items()},
        "bond_orders": {"0": n_pairs - len(train.bond_order), **orders},
        "ring_sizes": sizes,
        "rings_per_molecule": per_molecule,
    }
    statistics = collect(train, every, chemnet, progress)
    content |= {"functional_groups": statistics.functional_groups, "types": statistics.types}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"smiles_hashes": hashes, **statistics.arrays}
    write_whole(folder / f"{name}.safetensors", save(arrays))
    path = folder / f"{name}.json"
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode())
    return path


def add_scores(
    table: MoleculeTable, name: str, folder: str | os.PathLike[str] = FOLDER, progress: bool = True
) -> None:
    """Score a sample of a table's test split against a reference and write the values into it.

    The cheap set on up to 2,000 molecules, the others on up to 200; sets whose package is missing
    are left out.
    """
    from molgen.datasets.reference_statistics import score

    reference = load_reference(name, folder)
    scores = score(table.select(table.split_indices("test")), reference, progress)
    path = Path(folder) / f"{name}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["scores"] = {key: list(pair) for key, pair in scores.items()}
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode())


def valency_tables(
    table: MoleculeTable,
) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]]:
    """Valencies of every atom, counted by element and charge.

    A bond counts as aromatic when RDKit would mark it: both atoms are aromatic and share an
    aromatic ring. The store has no bond flags, so the SMILES' aromaticity is perceived again.

    Returns:
        {"Z:charge": {"aromatic,other": atoms}} and {"Z:charge": {"total": atoms}}.
    """
    owner = np.repeat(table.offsets[:-1].numpy(), table.n_bonds.numpy())
    ends = table.bond_atoms.numpy().astype(np.int64) + owner[:, None]
    order = table.bond_order.numpy().astype(np.int64)
    aromatic = aromatic_bonds(table)
    n = int(table.offsets[-1])
    counts = {}
    for name, weight in (("aromatic", aromatic), ("other", order * ~aromatic), ("total", order)):
        both = np.concatenate([ends[:, 0], ends[:, 1]])
        sums = np.bincount(both, weights=np.tile(weight.astype(np.float64), 2), minlength=n)
        counts[name] = sums.astype(np.int64)
    z, q = table.atomic_number.numpy().astype(np.int64), table.charge.numpy().astype(np.int64)
    tuples = _grouped(z, q, counts["aromatic"], counts["other"])
    return tuples, _grouped(z, q, counts["total"])


def aromatic_bonds(table: MoleculeTable) -> NDArray[np.bool_]:
    """Which bonds RDKit marks as aromatic, [B] bool.

    Only molecules with a bond between two aromatic atoms need RDKit.
    """
    from molgen.chem import aromatic_bond_flags

    owner = np.repeat(np.arange(len(table)), table.n_bonds.numpy())
    start = table.offsets.numpy()
    ends = table.bond_atoms.numpy().astype(np.int64) + start[owner][:, None]
    flags = np.asarray((table.aromatic.numpy()[ends] == 1).all(axis=1))
    z, q = table.atomic_number.numpy(), table.charge.numpy()
    bond_start = table.bond_offsets.numpy()
    for k in np.unique(owner[flags]).tolist():
        atoms = slice(start[k], start[k + 1])
        bonds = slice(bond_start[k], bond_start[k + 1])
        flags[bonds] = aromatic_bond_flags(
            z[atoms], q[atoms], table.bond_atoms[bonds].numpy(), table.bond_order[bonds].numpy()
        )
    return flags


def _ring_statistics(
    smiles: Iterable[str], progress: bool
) -> tuple[dict[str, int], dict[str, int]]:
    """Ring sizes, and rings per molecule, of the smallest set of smallest rings."""
    from rdkit import Chem
    from tqdm import tqdm

    sizes: Counter[int] = Counter()
    per_molecule: Counter[int] = Counter()
    for one in tqdm(smiles, desc="rings", unit="mol", disable=not progress):
        mol = Chem.MolFromSmiles(one)  # the ring information dies with its molecule
        rings = mol.GetRingInfo().AtomRings()
        sizes.update(len(ring) for ring in rings)
        per_molecule[len(rings)] += 1
    return _sorted(sizes), _sorted(per_molecule)


def _histogram(values: Any) -> dict[str, int]:
    found, counts = np.unique(values.numpy(), return_counts=True)
    return {str(v): c for v, c in zip(found.tolist(), counts.tolist(), strict=True)}


def _sorted(counts: Counter[int]) -> dict[str, int]:
    return {str(key): counts[key] for key in sorted(counts)}


def _grouped(z: NDArray[Any], q: NDArray[Any], *values: NDArray[Any]) -> dict[str, dict[str, int]]:
    """{"z:q": {"value,...": count}}, ascending."""
    rows, counts = np.unique(np.stack([z, q, *values], axis=1), axis=0, return_counts=True)
    out: dict[str, dict[str, int]] = {}
    for row, count in zip(rows.tolist(), counts.tolist(), strict=True):
        out.setdefault(f"{row[0]}:{row[1]}", {})[",".join(map(str, row[2:]))] = count
    return out


def _by_atom(content: dict[str, dict[str, int]], key: Any) -> dict[Any, Any]:
    return {
        tuple(int(part) for part in atom.split(":")): {key(k): v for k, v in counts.items()}
        for atom, counts in content.items()
    }


def _pair(text: str) -> tuple[int, int]:
    first, second = text.split(",")
    return int(first), int(second)


if __name__ == "__main__":
    from molgen.datasets.qm9 import load

    call = shlex.join(["python", "-m", "molgen.datasets.reference", *sys.argv[1:]])
    build_reference(load(), "qm9", command=call, every=5, chemnet=True)
    add_scores(load(), "qm9")
