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
    numbers, charges, pos = (getattr(table, k).numpy() for k in ("atomic_number", "charge", "pos"))
    ends, orders = table.bond_atoms.numpy(), table.bond_order.numpy()
    for i in range(len(table)):
        atoms = slice(int(table.offsets[i]), int(table.offsets[i + 1]))
        bonds = slice(int(table.bond_offsets[i]), int(table.bond_offsets[i + 1]))
        n = atoms.stop - atoms.start
        square = np.zeros((n, n), dtype=np.int64)
        first, second = ends[bonds].astype(np.int64).T
        square[first, second] = square[second, first] = orders[bonds]
        yield mol_from_arrays(numbers[atoms], charges[atoms], square, pos[atoms])


def collect(table: MoleculeTable, every: int, chemnet: bool, progress: bool) -> Statistics:
    """Count what occurs in the molecules of a table.

    Args:
        table: the training molecules.
        every: take one molecule in so many for the geometry, the functional groups and ChemNet;
            ring systems are those of all.
        chemnet: also fit ChemNet's last layer; needs the package `fcd`.
        progress: show a bar.
    """
    from molgen.evaluate import geometry, substructure
    from molgen.evaluate.prepared import Prepared

    columns = {kind: getattr(geometry, kind) for kind in STEPS}
    counts: dict[str, dict[str, Counter[int]]] = {kind: {} for kind in STEPS}
    groups: Counter[str] = Counter()
    part = table.select(list(range(0, len(table), every)))
    bar = tqdm(molecules(part), "statistics", len(part), unit="mol", disable=not progress)
    with rdBase.BlockLogs():
        for mol in bar:
            prepared = Prepared(mol)
            for kind, measure in columns.items():
                for name, values in geometry.collected([measure(prepared)]).items():
                    bins = np.rint(values / STEPS[kind]).astype(int).tolist()
                    counts[kind].setdefault(name, Counter()).update(bins)
            groups.update(substructure.parse_counts(substructure.functional_groups(prepared) or ""))
    arrays = packed_names(_ring_systems(table.smiles(), progress))
    for kind in STEPS:
        arrays |= packed_histograms(kind, counts[kind])
    if chemnet:
        arrays |= _moments(part.smiles(), progress)
    types = {kind: sorted(found) for kind, found in counts.items()}
    return Statistics(arrays, types, {name: groups[name] for name in sorted(groups)})


def _ring_systems(smiles: list[str], progress: bool) -> Counter[str]:
    from molgen.evaluate.substructure import ring_systems_of

    found: Counter[str] = Counter()
    for one in tqdm(smiles, "ring systems", unit="mol", disable=not progress):
        found.update(ring_systems_of(Chem.MolFromSmiles(one)))
    return found


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
