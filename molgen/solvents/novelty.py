"""Which systems are known, and which known system is nearest to a new one."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from molgen.solvents.components import canonical

REFERENCES = Path(__file__).resolve().parent.parent / "references"
HASHES = Path(__file__).resolve().parent / "weights" / "known.json"


@dataclass(frozen=True)
class Nearest:
    """A known system near another one.

    Attributes:
        name: its components.
        reference: literature.
        similarity: mean Tanimoto similarity of the components, matched as they fit best, 0 to 1.
    """

    name: str
    reference: str
    similarity: float


def key(first: str, second: str) -> str:
    """Twelve hexadecimal digits that stand for a pair of canonical SMILES in either order."""
    pair = " + ".join(sorted((first, second)))
    return hashlib.sha256(pair.encode()).hexdigest()[:12]


@lru_cache(maxsize=1)
def library() -> dict[str, str]:
    """Canonical SMILES of the components that designs are made of, by name."""
    with (REFERENCES / "solvent_components.csv").open(encoding="utf-8", newline="") as stream:
        return {row["name"]: canonical(row["smiles"]) for row in csv.DictReader(stream)}


@lru_cache(maxsize=1)
def well_known() -> tuple[tuple[str, str, str], ...]:
    """Well-known systems: two names of the library and the literature."""
    with (REFERENCES / "solvent_systems.csv").open(encoding="utf-8", newline="") as stream:
        rows = [(row["first"], row["second"], row["reference"]) for row in csv.DictReader(stream)]
    return tuple(rows)


@lru_cache(maxsize=1)
def known() -> frozenset[str]:
    """Keys of the systems that are known: the well-known ones, and those of the published tables.

    Of the tables only these digests are shipped.
    """
    smiles = library()
    own = {key(smiles[a], smiles[b]) for a, b, _ in well_known()}
    return frozenset(own | set(json.loads(HASHES.read_text("utf-8"))))


def is_novel(first: str, second: str) -> bool:
    """Whether a pair of canonical SMILES is none of the known systems."""
    return key(first, second) not in known()


@lru_cache(maxsize=8192)
def _fingerprint(smiles: str) -> Any:
    from rdkit import Chem
    from rdkit.Chem import rdFingerprintGenerator

    made = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    return made.GetFingerprint(Chem.MolFromSmiles(smiles))


@lru_cache(maxsize=8192)
def _likeness(smiles: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Similarity to both components of every well-known system, [systems, 2]."""
    from rdkit import DataStructs

    known_smiles = library()
    own = _fingerprint(smiles)
    return np.array(
        [
            [DataStructs.TanimotoSimilarity(own, _fingerprint(known_smiles[n])) for n in pair[:2]]
            for pair in well_known()
        ]
    )


def nearest(first: str, second: str) -> Nearest:
    """The well-known system whose components are most like those of a pair.

    Args:
        first: canonical SMILES.
        second: canonical SMILES.
    """
    one, other = _likeness(first), _likeness(second)
    both = np.maximum(one[:, 0] + other[:, 1], one[:, 1] + other[:, 0]) / 2
    best = int(both.argmax())
    a, b, reference = well_known()[best]
    return Nearest(f"{a} + {b}", reference, float(both[best]))
