"""The statistics of a reference that need every molecule: geometry, substructures, scores.

They are taken by the very functions that measure a set, so that the two can be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rdkit import Chem, rdBase
from tqdm import tqdm

from molgen.chem import mol_from_arrays
from molgen.datasets.reference_arrays import (
    STEPS,
    Arrays,
    packed_histograms,
    packed_moments,
    packed_names,
)
from molgen.datasets.table import MoleculeTable

if TYPE_CHECKING:
    from molgen.datasets.reference import Reference
    from molgen.evaluate.metric import Metric
    from molgen.evaluate.prepared import Prepared

SAMPLE = {"cheap": 2000, "posebusters": 200, "xtb": 200}
"""Test molecules that are scored at most, by set of metrics."""


@dataclass(frozen=True)
class Statistics:
    """What was counted.

    Attributes:
        arrays: tensors for the safetensors file.
        types: kind of coordinate -> names of its types, sorted.
        functional_groups: name -> count.
    """

    arrays: Arrays
    types: dict[str, list[str]]
    functional_groups: dict[str, int]


def molecules(table: MoleculeTable) -> Iterator[Chem.Mol]:
    """The molecules of a table, as a model would hand them over."""
    for i in range(len(table)):
        one = {key: value[0].numpy() for key, value in table.batch([i]).items()}
        yield mol_from_arrays(one["atomic_number"], one["charge"], one["bond"], one["pos"])


def collect(table: MoleculeTable, chemnet: bool, progress: bool) -> Statistics:
    """Count what occurs in the molecules of a table.

    Args:
        table: the training molecules.
        chemnet: also fit ChemNet's last layer; needs the package `fcd`.
        progress: show a bar.
    """
    from molgen.evaluate import geometry, substructure
    from molgen.evaluate.prepared import Prepared

    columns = {kind: getattr(geometry, kind) for kind in STEPS}
    counts: dict[str, dict[str, Counter[int]]] = {kind: {} for kind in STEPS}
    rings: Counter[str] = Counter()
    groups: Counter[str] = Counter()
    bar = tqdm(molecules(table), "statistics", len(table), unit="mol", disable=not progress)
    with rdBase.BlockLogs():
        for mol in bar:
            prepared = Prepared(mol)
            for kind, measure in columns.items():
                for name, values in geometry.collected([measure(prepared)]).items():
                    bins = np.rint(values / STEPS[kind]).astype(int).tolist()
                    counts[kind].setdefault(name, Counter()).update(bins)
            rings.update(substructure.parse_counts(substructure.ring_systems(prepared) or ""))
            groups.update(substructure.parse_counts(substructure.functional_groups(prepared) or ""))
    arrays = packed_names(rings)
    for kind in STEPS:
        arrays |= packed_histograms(kind, counts[kind])
    if chemnet:
        arrays |= _moments(table.smiles(), progress)
    types = {kind: sorted(found) for kind, found in counts.items()}
    return Statistics(arrays, types, {name: groups[name] for name in sorted(groups)})


def _moments(smiles: list[str], progress: bool) -> Arrays:
    from molgen.evaluate.chemnet import activations, moments

    parts = range(0, len(smiles), 1024)
    bar = tqdm(parts, "ChemNet", unit="block", disable=not progress)
    found = np.concatenate([activations(smiles[i : i + 1024]) for i in bar])
    return packed_moments(*moments(found))


def score(
    table: MoleculeTable, reference: Reference, progress: bool = True
) -> dict[str, tuple[float, int]]:
    """Metric -> (value, n) of molecules, evenly chosen from a table; shares as fractions."""
    from molgen.evaluate.prepared import Prepared
    from molgen.evaluate.table import METRICS

    scores: dict[str, tuple[float, int]] = {}
    for cost, n in SAMPLE.items():
        metrics = {k: m for k, m in METRICS.items() if m.cost == cost and not m.missing}
        chosen = np.unique(np.linspace(0, len(table) - 1, min(n, len(table))).round().astype(int))
        some = table.select(chosen.tolist())
        bar = tqdm(molecules(some), cost, len(some), unit="mol", disable=not progress)
        with rdBase.BlockLogs():
            rows = [_row(Prepared(mol, reference.valency), metrics) for mol in bar]
        frame = pd.DataFrame(rows)
        if cost == "cheap":
            novel = ~reference.contains(frame["smiles"].tolist())
            frame["novel"] = pd.Series(novel, dtype="boolean")
        for name, metric in metrics.items():
            if metric.summarised:
                value, counted = metric.summarise(frame, reference)
                if np.isfinite(value):
                    scores[name] = float(value), int(counted)
    return scores


def _row(prepared: Prepared, metrics: dict[str, Metric]) -> dict[str, Any]:
    return {name: m.row(prepared) for name, m in metrics.items() if m.row is not None}
