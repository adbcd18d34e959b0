"""`METRICS`: everything that is measured, in one table.

To add a metric, write a plain function in one of the modules beside this one and give it a row
here: the row table, the summary, the report and the documentation follow.
"""

from __future__ import annotations

from functools import partial

from molgen.evaluate import (
    chemnet,
    chirality,
    distribution,
    geometry,
    properties,
    substructure,
    validity,
)
from molgen.evaluate.docking_table import DOCKING
from molgen.evaluate.legacy_table import LEGACY
from molgen.evaluate.metric import Cost, Family, Metric
from molgen.evaluate.physics_table import PHYSICS

__all__ = ["METRICS", "Cost", "Family", "Metric"]

fact = partial(Metric, family="description")
text = partial(Metric, family="description", kind="text")
flag = partial(Metric, unit="%", kind="flag", failed=False)
mean, over_atoms = distribution.average, distribution.average_over_atoms

_FACTS: dict[str, Metric] = {
    "smiles": text("canonical SMILES, hydrogens implicit, no stereo", row=validity.smiles),
    "formula": text("molecular formula", row=validity.formula),
    "n_atoms": fact(
        "atoms, hydrogens included", unit="atoms", row=validity.n_atoms, whole=mean("n_atoms")
    ),
    "charge": fact("total formal charge", unit="e", row=validity.charge),
    "molecular_weight": fact(
        "average molecular weight of molecules that sanitise",
        unit="g/mol",
        row=validity.molecular_weight,
        whole=mean("molecular_weight"),
    ),
    "logp": fact(
        "octanol-water log10 P of molecules that sanitise",
        dimensionless=True,
        row=properties.logp,
        whole=mean("logp"),
        source="Wildman and Crippen 1999",
    ),
    "qed": fact(
        "drug-likeness, 0 to 1, of molecules that sanitise",
        dimensionless=True,
        row=properties.qed,
        whole=mean("qed"),
        source="Bickerton et al. 2012",
    ),
    "sa_score": fact(
        "synthetic accessibility, 1 (easy) to 10 (hard), of molecules that sanitise",
        dimensionless=True,
        row=properties.sa_score,
        whole=mean("sa_score"),
        source="Ertl and Schuffenhauer 2009",
    ),
    "lipinski_violations": fact(
        "rules of five that are broken, 0 to 4, by molecules that sanitise",
        unit="rules",
        row=properties.lipinski_violations,
        whole=mean("lipinski_violations"),
        source="Lipinski et al. 1997",
    ),
    "pains_alerts": text(
        "PAINS patterns found in molecules that sanitise",
        row=properties.pains_alerts,
        source="Baell and Holloway 2010, RDKit's FilterCatalog",
    ),
    "brenk_alerts": text(
        "unwanted groups found in molecules that sanitise",
        row=properties.brenk_alerts,
        source="Brenk et al. 2008, RDKit's FilterCatalog",
    ),
    "with_pains_alert": fact(
        "molecules with a PAINS pattern, of those that sanitise",
        unit="%",
        whole=partial(distribution.share_with, column="pains_alerts"),
    ),
    "with_brenk_alert": fact(
        "molecules with an unwanted group, of those that sanitise",
        unit="%",
        whole=partial(distribution.share_with, column="brenk_alerts"),
    ),
    "rings": fact(
        "rings of molecules that sanitise",
        unit="rings",
        row=validity.rings,
        whole=mean("rings"),
    ),
    "ring_systems": text(
        "ring systems (rings that share an atom) of molecules that sanitise, with counts",
        row=substructure.ring_systems,
    ),
    "scaffold": text(
        "Bemis-Murcko scaffold of molecules that sanitise; empty without a ring",
        row=substructure.scaffold,
        source="Bemis and Murcko 1996",
    ),
    "functional_groups": text(
        "functional groups (RDKit's 85 fragments) of molecules that sanitise, with counts",
        row=substructure.functional_groups,
    ),
    "stereocentres": text(
        "CIP labels of the tetrahedral centres, perceived from the coordinates",
        row=chirality.stereocentres,
    ),
}

_STRICT: dict[str, Metric] = {
    "strict_valid": flag(
        "one fragment, sanitises, nothing added (hydrogens, radicals) or changed, every valency "
        "in the reference",
        row=validity.strict_valid,
        whole=mean("strict_valid"),
    ),
    "atom_stability": Metric(
        "atoms whose (aromatic bonds, other bond orders) occur in the reference for their element "
        "and charge; an unknown element or charge is unstable",
        unit="%",
        row=validity.atom_stability,
        whole=over_atoms("atom_stability"),
    ),
    "molecule_stability": flag(
        "molecules whose atoms are all stable",
        row=validity.molecule_stability,
        whole=mean("molecule_stability"),
    ),
    "connected": flag("molecules in one fragment", row=validity.connected, whole=mean("connected")),
    "n_fragments": fact("connected components", unit="fragments", row=validity.n_fragments),
    "has_3d": flag(
        "molecules with a finite 3D conformer", row=validity.has_3d, whole=mean("has_3d")
    ),
    "uniqueness": Metric(
        "different SMILES over all strictly valid molecules, duplicates still in",
        unit="%",
        whole=distribution.uniqueness,
    ),
    "novelty": Metric(
        "different strictly valid molecules that the reference's training set does not hold",
        unit="%",
        whole=distribution.novelty,
    ),
    "valid_unique_novel": Metric(
        "different, novel, strictly valid molecules per molecule scored",
        unit="%",
        whole=distribution.valid_unique_novel,
    ),
    "internal_diversity": Metric(
        "mean 1 - Tanimoto (Morgan radius 2, 2048 bits) over pairs of at most "
        f"{distribution.DIVERSITY_MOLECULES} strictly valid molecules",
        dimensionless=True,
        whole=distribution.internal_diversity,
        source="Benhenda 2017",
    ),
    "scaffold_diversity": Metric(
        "different Bemis-Murcko scaffolds over strictly valid molecules that have one",
        unit="%",
        whole=substructure.scaffold_diversity,
    ),
    "chirality_balance": Metric(
        "share of R among the assigned tetrahedral centres, perceived from the coordinates",
        unit="%",
        whole=chirality.chirality_balance,
    ),
    "chirality_p_value": Metric(
        "two-sided sign test over molecules, more R than S against more S than R: small where one "
        "hand is preferred",
        dimensionless=True,
        whole=chirality.chirality_p_value,
    ),
    "unseen_ring_systems": Metric(
        "molecules with a ring system that the reference lacks, of strictly valid ones with a ring",
        unit="%",
        against=substructure.unseen_ring_systems,
    ),
    "ring_system_distance": Metric(
        "total variation of the frequencies of ring systems, 0 (as the reference) to 1, strictly "
        "valid molecules",
        dimensionless=True,
        against=substructure.ring_system_distance,
    ),
    "functional_group_distance": Metric(
        "total variation of the frequencies of functional groups, 0 to 1, strictly valid molecules",
        dimensionless=True,
        against=substructure.functional_group_distance,
    ),
    "size_distance": Metric(
        "Wasserstein-1 distance of the numbers of atoms",
        unit="atoms",
        against=distribution.size_distance,
    ),
    "element_distance": Metric(
        "total variation of the frequencies of elements over all atoms, 0 to 1",
        dimensionless=True,
        against=distribution.element_distance,
    ),
    "bond_length_distance": Metric(
        "Wasserstein-1 distance of bond lengths by elements and order, weighted by the reference's "
        "frequency; all molecules with 3D",
        unit="Angstrom",
        against=distribution.bond_length_distance,
    ),
    "bond_angle_distance": Metric(
        "Wasserstein-1 distance of bond angles by elements and the centre's number of neighbours, "
        "weighted by the reference's frequency; all molecules with 3D",
        unit="degree",
        against=distribution.bond_angle_distance,
    ),
    "torsion_distance": Metric(
        "Wasserstein-1 distance of unsigned torsions of heavy atoms by the bond in the middle, "
        "weighted by the reference's frequency; all molecules with 3D",
        unit="degree",
        against=distribution.torsion_distance,
    ),
    "unseen_bonds": Metric(
        "bonds between elements and of an order that the reference lacks",
        unit="%",
        against=distribution.unseen_bonds,
    ),
    "fcd": Metric(
        f"Frechet ChemNet distance of {chemnet.LEAST:,} to {chemnet.MOST:,} strictly valid "
        "molecules from the reference, by SMILES without stereo; no value for fewer molecules, or "
        "without the package fcd (extra trust)",
        dimensionless=True,
        against=chemnet.fcd,
        source="Preuer et al. 2018",
        needs="fcd",
        extra="trust",
    ),
}

_COORDINATES: dict[str, Metric] = {
    "bond_lengths": text("bond lengths by elements and order, Angstrom", row=geometry.bond_lengths),
    "bond_angles": text(
        "bond angles by elements and the centre's number of neighbours, degree",
        row=geometry.bond_angles,
    ),
    "torsion_angles": text(
        "torsions of heavy atoms by the bond in the middle (@: in a ring), 0 to 180 degree",
        row=geometry.torsion_angles,
    ),
}
"""Long texts, hence the last columns: what the distances of geometry are made of."""

METRICS: dict[str, Metric] = {**_FACTS, **_STRICT, **PHYSICS, **DOCKING, **LEGACY, **_COORDINATES}
"""Name -> metric. Those with `row` are columns of the table, those `summarised` in the summary."""
