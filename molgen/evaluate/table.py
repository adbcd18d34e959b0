"""`METRICS`: everything that is measured, in one table.

To add a metric, write a plain function in one of the modules beside this one and give it a row
here: the row table, the summary, the report and the documentation follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from molgen.evaluate import distribution, legacy, validity
from molgen.evaluate.prepared import Prepared

if TYPE_CHECKING:
    from molgen.datasets.reference import Reference

Family = Literal["strict", "legacy", "description"]

Cost = Literal["cheap", "posebusters", "xtb"]
"""Sets of metrics: milliseconds a molecule, tenths of a second, seconds."""


@dataclass(frozen=True)
class Metric:
    """One row of `METRICS`.

    Attributes:
        definition: What is measured, in one sentence.
        unit: Unit of the summary's value; fractions are shown in per cent there.
        family: `strict` (to be trusted), `legacy` (a paper's own definition, for comparison) or
            `description` (a plain fact).
        row: Function of one prepared molecule that gives the column of the same name, or None.
        whole: Function of the row table that gives (value, items counted), or None to leave the
            metric out of the summary.
        failed: The column's value where there is no molecule to measure.
        source: Where the definition comes from.
        cost: The set it belongs to: `cheap` is always measured, the others when asked for.
        against: In place of `whole`, for a comparison: function of the row table and the reference.
    """

    definition: str
    unit: str = ""
    family: Family = "strict"
    row: Callable[[Prepared], Any] | None = None
    whole: Callable[[pd.DataFrame], tuple[float, int]] | None = None
    failed: Any = None
    source: str = ""
    cost: Cost = "cheap"
    against: Callable[[pd.DataFrame, Reference], tuple[float, int]] | None = None

    @property
    def summarised(self) -> bool:
        """Whether the summary has a row for it."""
        return self.whole is not None or self.against is not None

    def summarise(self, table: pd.DataFrame, reference: Reference | None) -> tuple[float, int]:
        """(value, items counted) of a set; NaN where nothing can be counted.

        Args:
            table: The row table; for a set that was measured on a sample, the sampled rows.
            reference: What to compare with, or None.
        """
        if self.whole is not None:
            return self.whole(table)
        if self.against is None or reference is None:
            return math.nan, 0
        return self.against(table, reference)


def _average(column: str) -> Callable[[pd.DataFrame], tuple[float, int]]:
    return partial(distribution.mean, column=column)


def _over_atoms(column: str) -> Callable[[pd.DataFrame], tuple[float, int]]:
    return partial(distribution.mean_over_atoms, column=column)


_EDM = "EDM, Hoogeboom et al. 2022 (ICML), appendix"
_MIDI = "MiDi, Vignac et al. 2023 (ECML), and its public code"

METRICS: dict[str, Metric] = {
    # Facts about each molecule.
    "smiles": Metric(
        "canonical SMILES, hydrogens implicit, no stereo", family="description", row=validity.smiles
    ),
    "formula": Metric("molecular formula", family="description", row=validity.formula),
    "n_atoms": Metric(
        "atoms, hydrogens included",
        family="description",
        row=validity.n_atoms,
        whole=_average("n_atoms"),
    ),
    "charge": Metric("total formal charge", unit="e", family="description", row=validity.charge),
    "molecular_weight": Metric(
        "average molecular weight of molecules that sanitise",
        unit="g/mol",
        family="description",
        row=validity.molecular_weight,
        whole=_average("molecular_weight"),
    ),
    "logp": Metric(
        "octanol-water log10 P of molecules that sanitise",
        family="description",
        row=validity.logp,
        whole=_average("logp"),
        source="Wildman and Crippen 1999",
    ),
    "qed": Metric(
        "drug-likeness, 0 to 1, of molecules that sanitise",
        family="description",
        row=validity.qed,
        whole=_average("qed"),
        source="Bickerton et al. 2012",
    ),
    "rings": Metric(
        "rings of molecules that sanitise",
        family="description",
        row=validity.rings,
        whole=_average("rings"),
    ),
    # The strict set.
    "strict_valid": Metric(
        "one fragment, sanitises, nothing added (hydrogens, radicals) or changed, every valency "
        "in the reference",
        unit="%",
        row=validity.strict_valid,
        whole=_average("strict_valid"),
        failed=False,
    ),
    "atom_stability": Metric(
        "atoms whose (aromatic bonds, other bond orders) occur in the reference for their element "
        "and charge; an unknown element or charge is unstable",
        unit="%",
        row=validity.atom_stability,
        whole=_over_atoms("atom_stability"),
    ),
    "molecule_stability": Metric(
        "molecules whose atoms are all stable",
        unit="%",
        row=validity.molecule_stability,
        whole=_average("molecule_stability"),
        failed=False,
    ),
    "connected": Metric(
        "molecules in one fragment",
        unit="%",
        row=validity.connected,
        whole=_average("connected"),
        failed=False,
    ),
    "n_fragments": Metric("connected components", family="description", row=validity.n_fragments),
    "has_3d": Metric(
        "molecules with a finite 3D conformer",
        unit="%",
        row=validity.has_3d,
        whole=_average("has_3d"),
        failed=False,
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
        whole=distribution.internal_diversity,
        source="Benhenda 2017",
    ),
    # The definitions of the papers, for comparison.
    "edm_atom_stability": Metric(
        "atoms with a neutral valence, bonds read from distances; charges unknown",
        unit="%",
        family="legacy",
        row=legacy.edm_atom_stability,
        whole=_over_atoms("edm_atom_stability"),
        source=_EDM,
    ),
    "edm_molecule_stability": Metric(
        "molecules whose atoms are all stable by edm_atom_stability",
        unit="%",
        family="legacy",
        row=legacy.edm_molecule_stability,
        whole=_average("edm_molecule_stability"),
        failed=False,
        source=_EDM,
    ),
    "edm_validity": Metric(
        "the neutral graph read from distances sanitises; fragments, radicals and missing "
        "hydrogens pass",
        unit="%",
        family="legacy",
        row=legacy.edm_validity,
        whole=_average("edm_validity"),
        failed=False,
        source=_EDM,
    ),
    "midi_atom_stability": Metric(
        "atoms with a valence allowed for their charge in MiDi's table; an unknown charge counts "
        "as 0",
        unit="%",
        family="legacy",
        row=legacy.midi_atom_stability,
        whole=_over_atoms("midi_atom_stability"),
        source=_MIDI,
    ),
    "midi_molecule_stability": Metric(
        "molecules whose atoms are all stable by midi_atom_stability",
        unit="%",
        family="legacy",
        row=legacy.midi_molecule_stability,
        whole=_average("midi_molecule_stability"),
        failed=False,
        source=_MIDI,
    ),
    "midi_validity": Metric(
        "the largest fragment sanitises; the rest is dropped, radicals and missing hydrogens pass",
        unit="%",
        family="legacy",
        row=legacy.midi_validity,
        whole=_average("midi_validity"),
        failed=False,
        source=_MIDI,
    ),
    "connected_validity": Metric(
        "one fragment that sanitises; radicals and missing hydrogens pass",
        unit="%",
        family="legacy",
        row=legacy.connected_validity,
        whole=_average("connected_validity"),
        failed=False,
        source="'valid and connected' of EQGAT-diff (Le et al. 2024) and later papers",
    ),
    "legacy_uniqueness_after_dedup": Metric(
        "uniqueness counted after duplicates were removed: 100 % by construction, says nothing",
        unit="%",
        family="legacy",
        whole=distribution.uniqueness_after_dedup,
        source="several public scoring scripts",
    ),
}
"""Name -> metric. Those with `row` are columns of the table, those with `whole` in the summary."""
