"""What the learned models of solvents see of a component: counts and sums that RDKit reads off."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from rdkit import Chem
from rdkit.Chem import GraphDescriptors, rdMolDescriptors

from molgen.solvents.liquidus import Floats

PATTERNS: Mapping[str, str] = MappingProxyType(
    {
        "alcohol": "[OX2H][CX4]",
        "phenol": "[OX2H]c",
        "acid": "C(=O)[OX2H]",
        "amide": "[NX3][CX3]=O",
        "amine": "[NX3H2,NX3H1;!$(NC=O)]",
        "ketone": "[#6]C(=O)[#6]",
        "ester": "C(=O)O[#6]",
        "ether": "[OX2]([#6])[#6]",
        "methyl": "[CH3]",
        "methylene": "[CH2]",
        "fluorine": "[F]",
        "ammonium": "[#7+]",
        "aromatic nitrogen": "n",
        "phosphonium": "[P+]",
        "quaternary carbon": "[CX4H0]",
    }
)
"""Functional groups by SMARTS."""

HALIDES = ("[Cl-]", "[Br-]")

NAMES: tuple[str, ...] = (
    "salt",
    "ions",
    "molar mass",
    "hydrogen bond donors",
    "hydrogen bond acceptors",
    "polar surface",
    "logP",
    "molar refraction",
    "rotatable bonds",
    "rings",
    "aromatic rings",
    "sp3 carbons",
    "heavy atoms",
    "complexity",
    "alcohols a heavy atom",
    *PATTERNS,
    "chloride",
    "bromide",
    "other anion",
)


@lru_cache(maxsize=1)
def _patterns() -> tuple[Chem.Mol, ...]:
    return tuple(Chem.MolFromSmarts(smarts) for smarts in PATTERNS.values())


@lru_cache(maxsize=65536)
def _described(smiles: str) -> tuple[float, ...]:
    mol = Chem.MolFromSmiles(smiles)
    parts = Chem.GetMolFrags(mol, asMols=True)
    body = max(parts, key=lambda part: part.GetNumHeavyAtoms())
    anions = [Chem.MolToSmiles(p) for p in parts if Chem.GetFormalCharge(p) < 0]
    salt = bool(anions)
    counts = [len(mol.GetSubstructMatches(pattern)) for pattern in _patterns()]
    heavy = max(body.GetNumHeavyAtoms(), 1)
    whole = (
        salt,
        len(parts),
        rdMolDescriptors._CalcMolWt(mol),
        rdMolDescriptors.CalcNumHBD(mol),
        rdMolDescriptors.CalcNumHBA(mol),
        rdMolDescriptors.CalcTPSA(mol),
        rdMolDescriptors.CalcCrippenDescriptors(body)[0],
        rdMolDescriptors.CalcCrippenDescriptors(body)[1],
        rdMolDescriptors.CalcNumRotatableBonds(mol),
        rdMolDescriptors.CalcNumRings(mol),
        rdMolDescriptors.CalcNumAromaticRings(mol),
        rdMolDescriptors.CalcFractionCSP3(mol),
        heavy,
        GraphDescriptors.BertzCT(body),
        counts[0] / heavy,
    )
    halides = [halide in anions for halide in HALIDES]
    other = salt and not any(halides)
    return tuple(float(v) for v in (*whole, *counts, *halides, other))


def descriptors(smiles: str) -> Floats:
    """Descriptors of a component, [len(NAMES)]; of a salt's largest ion where that makes sense.

    Args:
        smiles: canonical SMILES of a neutral component.
    """
    return np.array(_described(smiles), dtype=np.float64)
