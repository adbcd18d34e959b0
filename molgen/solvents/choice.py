"""Which molecules can be a component of a solvent, and which generators write some."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

ELEMENTS = frozenset("C N O S P F Cl Br".split())
HEAVY = (2, 30)
"""Fewest and most heavy atoms of a component."""


def written(generator: str, n: int, seed: int) -> list[str]:
    """SMILES of molecules from a generator of graphs or of tokens.

    Args:
        generator: a shipped model by name, or a weights file.
        n: molecules to draw; those that are none are left out.
        seed: of the drawing.

    Raises:
        ModelFileError: the model is unknown, broken or of another kind.
    """
    from rdkit import Chem

    from diffcore.checkpoint import load_card
    from molgen.weights.files import find_model

    if load_card(find_model(generator)).get("kind") == "tokens":
        from molgen.tokens.generator import TokenGenerator

        made = TokenGenerator.from_pretrained(generator).sample(n, seed=seed)
        return [smiles for smiles in made if smiles is not None]
    from molgen.generate import MoleculeGenerator

    model = MoleculeGenerator.from_pretrained(generator)
    return [Chem.MolToSmiles(mol) for mol in model.sample(n, seed=seed, progress=False)]


def fitting(made: Sequence[str]) -> list[str]:
    """SMILES of molecules that could be components: no strained rings, no alerts."""
    from rdkit import Chem

    found = []
    for one in made:
        bare = Chem.MolFromSmiles(one)
        if bare is None:
            continue
        rings = bare.GetRingInfo().AtomRings()
        strained = len(rings) > 2 or any(len(ring) < 5 for ring in rings)
        smiles = Chem.MolToSmiles(bare, isomericSmiles=False)
        if not strained and "." not in smiles and not alerts(smiles):
            found.append(smiles)
    return found


def passes(smiles: str) -> bool:
    """Whether a component has only usual elements, a usual size and a part in hydrogen bonds."""
    from rdkit import Chem

    mol = Chem.MolFromSmiles(smiles)
    usual = {a.GetSymbol() for a in mol.GetAtoms()} <= ELEMENTS
    sized = HEAVY[0] <= mol.GetNumHeavyAtoms() <= HEAVY[1]
    return usual and sized and (is_acceptor(smiles) or is_donor(smiles))


def is_acceptor(smiles: str) -> bool:
    """Whether a component accepts hydrogen bonds: a salt, or with a lone pair that does."""
    from rdkit import Chem
    from rdkit.Chem import rdMolDescriptors

    return "." in smiles or rdMolDescriptors.CalcNumHBA(Chem.MolFromSmiles(smiles)) > 0


def is_donor(smiles: str) -> bool:
    """Whether a component is neutral and gives hydrogen bonds."""
    from rdkit import Chem
    from rdkit.Chem import rdMolDescriptors

    return "." not in smiles and rdMolDescriptors.CalcNumHBD(Chem.MolFromSmiles(smiles)) > 0


def alerts(smiles: str) -> list[str]:
    """Names of unwanted groups (Brenk et al. 2008), of a salt's ions too."""
    from rdkit import Chem

    matches = _catalogue().GetMatches(Chem.MolFromSmiles(smiles))
    return sorted(match.GetDescription() for match in matches)


@lru_cache(maxsize=1)
def _catalogue() -> Any:
    from rdkit.Chem import FilterCatalog

    params = FilterCatalog.FilterCatalogParams()
    params.AddCatalog(FilterCatalog.FilterCatalogParams.FilterCatalogs.BRENK)
    return FilterCatalog.FilterCatalog(params)
