"""The rows of `METRICS` that are papers' own definitions, for comparison with published rows."""

from __future__ import annotations

from functools import partial

from molgen.evaluate import distribution, legacy
from molgen.evaluate.metric import Metric

_EDM = "EDM, Hoogeboom et al. 2022 (ICML), appendix"
_MIDI = "MiDi, Vignac et al. 2023 (ECML), and its public code"
_EQGAT = "EQGAT-diff, Le et al. 2024 (ICLR), and its public code"
_SEMLA = "SemlaFlow, Irwin et al. 2025 (AISTATS), and its public code"
_FLOWMOL = "FlowMol3, Dunn and Koes 2026 (Digital Discovery), and FlowMol's public code"

flag = partial(Metric, unit="%", family="legacy", kind="flag", failed=False)
share = partial(Metric, unit="%", family="legacy")
mean, over_atoms = distribution.average, distribution.average_over_atoms

LEGACY: dict[str, Metric] = {
    "edm_atom_stability": share(
        "atoms with a neutral valence, bonds read from distances; charges unknown",
        row=legacy.edm_atom_stability,
        whole=over_atoms("edm_atom_stability"),
        source=_EDM,
    ),
    "edm_molecule_stability": flag(
        "molecules whose atoms are all stable by edm_atom_stability",
        row=legacy.edm_molecule_stability,
        whole=mean("edm_molecule_stability"),
        source=_EDM,
    ),
    "edm_validity": flag(
        "the neutral graph read from distances sanitises; fragments, radicals and missing "
        "hydrogens pass",
        row=legacy.edm_validity,
        whole=mean("edm_validity"),
        source=_EDM,
    ),
    "midi_atom_stability": share(
        "atoms with a valence allowed for their charge in MiDi's table; an unknown charge counts "
        "as 0; aromatic bonds kekulised first",
        row=legacy.midi_atom_stability,
        whole=over_atoms("midi_atom_stability"),
        source=_MIDI,
    ),
    "midi_molecule_stability": flag(
        "molecules whose atoms are all stable by midi_atom_stability",
        row=legacy.midi_molecule_stability,
        whole=mean("midi_molecule_stability"),
        source=_MIDI,
    ),
    "truncated_molecule_stability": flag(
        "the same with every aromatic bond counted as 1: 1.5 kept in an integer",
        row=legacy.truncated_molecule_stability,
        whole=mean("truncated_molecule_stability"),
        source=f"{_MIDI}, as it runs; inherited by EQGAT-diff's",
    ),
    "midi_validity": flag(
        "the largest fragment sanitises; the rest is dropped, radicals and missing hydrogens pass",
        row=legacy.midi_validity,
        whole=mean("midi_validity"),
        source=_MIDI,
    ),
    "midi_bond_length_distance": Metric(
        "Wasserstein-1 distance of bond lengths by bond order alone, weighted by the reference's "
        "frequency; the reference is the training split here, lengths are not binned to 0.01",
        unit="Angstrom",
        family="legacy",
        against=distribution.midi_bond_lengths,
        source=_MIDI,
    ),
    "midi_bond_angle_distance": Metric(
        "Wasserstein-1 distance of bond angles by the element of the centre, weighted by the "
        "reference's atoms with a valency above 1",
        unit="degree",
        family="legacy",
        against=distribution.midi_bond_angles,
        source=_MIDI,
    ),
    "connected_validity": flag(
        "one fragment that sanitises; radicals and missing hydrogens pass",
        row=legacy.connected_validity,
        whole=mean("connected_validity"),
        source="'valid and connected' of later papers",
    ),
    "eqgat_diff_molecule_stability": flag(
        "MiDi's rule and table (see midi_molecule_stability)",
        row=legacy.midi_molecule_stability,
        whole=mean("eqgat_diff_molecule_stability"),
        source=_EQGAT,
    ),
    "eqgat_diff_validity": flag(
        "one fragment that sanitises; radicals and missing hydrogens pass",
        row=legacy.connected_validity,
        whole=mean("eqgat_diff_validity"),
        source=_EQGAT,
    ),
    "semlaflow_atom_stability": share(
        "MiDi's table, but an unknown charge is unstable; molecules that sanitise only",
        row=legacy.semlaflow_atom_stability,
        whole=over_atoms("semlaflow_atom_stability"),
        source=_SEMLA,
    ),
    "semlaflow_molecule_stability": flag(
        "molecules whose atoms are all stable by semlaflow_atom_stability",
        row=legacy.semlaflow_molecule_stability,
        whole=mean("semlaflow_molecule_stability"),
        source=_SEMLA,
    ),
    "semlaflow_validity": flag(
        "it sanitises; fragments, radicals and missing hydrogens pass",
        row=legacy.semlaflow_validity,
        whole=mean("semlaflow_validity"),
        source=_SEMLA,
    ),
    "flowmol3_molecule_stability": flag(
        "MiDi's rule and table (see midi_molecule_stability)",
        row=legacy.midi_molecule_stability,
        whole=mean("flowmol3_molecule_stability"),
        source=_FLOWMOL,
    ),
    "flowmol3_validity": flag(
        "the largest fragment sanitises (see midi_validity)",
        row=legacy.midi_validity,
        whole=mean("flowmol3_validity"),
        source=_FLOWMOL,
    ),
    "legacy_uniqueness_after_dedup": share(
        "uniqueness counted after duplicates were removed: 100 % by construction, says nothing",
        whole=distribution.uniqueness_after_dedup,
        source="several public scoring scripts, EQGAT-diff's among them",
    ),
}
"""Name -> metric."""
