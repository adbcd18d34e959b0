"""Training what `molgen.solvents.model` learns, and measuring it on systems held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from molgen.solvents.activity import MissingGroups, group_activity
from molgen.solvents.components import Component, Known, has_charges, looked_up
from molgen.solvents.descriptors import descriptors
from molgen.solvents.excess import HALF, features, ideal, reach
from molgen.solvents.forest import Floats, Forest, forest_of
from molgen.solvents.fusion import LEAST_ENTROPY
from molgen.solvents.liquidus import liquidus
from molgen.solvents.model import together, with_groups
from molgen.solvents.regular import ExcessNetworks, Pairs, pairs_of
from molgen.solvents.regular_training import trained

if TYPE_CHECKING:
    import pandas as pd

Ints = NDArray[np.int64]
LEVEL = 0.9


def pair_of(row: Any) -> tuple[Component, Component]:
    """Components of a row of `molgen.solvents.data.read_liquidus`, with the row's own values."""
    return (
        Component(
            str(row.name_1),
            row.smiles_1,
            Known(float(row.melting_1), "given"),
            Known(float(row.fusion_1), "given"),
        ),
        Component(
            str(row.name_2),
            row.smiles_2,
            Known(float(row.melting_2), "given"),
            Known(float(row.fusion_2), "given"),
        ),
    )


def inputs(table: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """Features [m, features], ideal liquidus (K) [m] and the forest's share [m] of a table."""
    rows, base = [], []
    for row in table.itertuples():
        first, second = pair_of(row)
        x = np.clip(np.array([row.x_1], dtype=np.float64), 1e-6, 1 - 1e-6)
        rows.append(features(first, second, x)[0])
        base.append(ideal(first, second, x)[0])
    x = np.clip(table["x_1"].to_numpy(np.float64), 1e-6, 1 - 1e-6)
    return np.array(rows), np.array(base), reach(x)


def grow(
    rows: Floats,
    answers: Floats,
    weights: Floats,
    trees: int = 200,
    leaf: int = 2,
    share: float = 0.4,
) -> Forest:
    """Extremely randomised trees (Geurts, Ernst and Wehenkel 2006).

    Args:
        rows: features, [m, features].
        answers: what to predict, [m].
        weights: of the rows, [m].
        trees: number.
        leaf: least rows in a leaf.
        share: of the features, tried at a split.

    Raises:
        ConfigError: scikit-learn is missing.
    """
    try:
        from sklearn.ensemble import ExtraTreesRegressor
    except ImportError:
        from diffcore.errors import ConfigError

        raise ConfigError('training needs scikit-learn: pip install "designloom[loops]"') from None
    made = ExtraTreesRegressor(trees, min_samples_leaf=leaf, max_features=share, random_state=0)
    return forest_of(made.fit(rows, answers, sample_weight=weights).estimators_)


def row_weights(systems: Sequence[str]) -> Floats:
    """Weights [m]: one over the root of the system's number of rows."""
    _, place, counts = np.unique(np.asarray(systems), return_inverse=True, return_counts=True)
    return np.asarray(1 / np.sqrt(counts[place]))


def learned_pair(table: pd.DataFrame, trees: int = 200) -> tuple[Forest, ExcessNetworks]:
    """The forest and the networks of the liquidus of pairs, from a table of them."""
    rows, _, _ = inputs(table)
    answers = table["temperature"].to_numpy(np.float64)
    weights = table["trust"].to_numpy(np.float64) * row_weights(table["system"].tolist())
    forest = grow(rows, answers, weights, trees, share=1.0)
    return forest, trained(pairs_in(table), answers, weights)


def pairs_in(table: pd.DataFrame) -> Pairs:
    """What the networks see of a table."""
    x = np.clip(table["x_1"].to_numpy(np.float64), 1e-6, 1 - 1e-6)
    return pairs_of([pair_of(row) for row in table.itertuples()], x)


def folds_of(keys: Sequence[str], number: int = 5, seed: int = 0) -> Ints:
    """Number of the fold of each row, [m]; equal keys share a fold."""
    unique = sorted(set(keys))
    order = np.random.default_rng(seed).permutation(len(unique))
    fold = {key: int(order[i]) % number for i, key in enumerate(unique)}
    return np.array([fold[key] for key in keys], dtype=np.int64)


def unifac_liquidus(table: pd.DataFrame) -> Floats:
    """Liquidus (K) [m] by UNIFAC; NaN for salts, zwitterions and where groups are missing."""
    found = np.full(len(table), np.nan)
    for _, part in table.groupby("system"):
        for place, row in zip(part.index, part.itertuples(), strict=True):
            pair = pair_of(row)
            if any(c.is_ionic for c in pair):
                break
            x = min(max(float(row.x_1), 1e-6), 1 - 1e-6)
            try:
                found[place] = liquidus(pair, [x, 1 - x], group_activity(pair))[0]
            except (MissingGroups, ValueError):
                continue
    return found


def held_out(
    table: pd.DataFrame, splits: Sequence[tuple[Ints, Ints]], trees: int = 200
) -> tuple[Floats, Floats]:
    """Learned liquidus and spread (K), [m], each row by models that saw none of its split.

    Args:
        table: of `molgen.solvents.data.read_liquidus`, further rows included.
        splits: rows to learn from and rows to predict; NaN for rows that are in none.
        trees: of each forest.
    """
    found, spread = np.full(len(table), np.nan), np.full(len(table), np.nan)
    for learn, test in splits:
        forest, networks = learned_pair(table.iloc[learn], trees)
        rows, base, share = inputs(table.iloc[test])
        regular = networks(pairs_in(table.iloc[test])).double().numpy()
        shift, spread[test] = together(forest.trees(rows), regular, base, share)
        found[test] = base + shift
    return found, spread


def by_system(table: pd.DataFrame, seed: int = 0) -> list[tuple[Ints, Ints]]:
    """Five splits by whole systems; further rows (`read_further`) are learnt from only."""
    main, more = _main_and_further(table)
    fold = folds_of(table["system"].iloc[main].tolist(), seed=seed)
    return [(np.concatenate([main[fold != k], more]), main[fold == k]) for k in range(5)]


def by_component(table: pd.DataFrame, seed: int = 0) -> list[tuple[Ints, Ints]]:
    """Five splits by components: of every test pair one component is in no pair learnt from."""
    pairs = list(zip(table["smiles_1"], table["smiles_2"], strict=True))
    main, _ = _main_and_further(table)
    fold, splits = folds_of([min(pairs[i]) for i in main], seed=seed), []
    for k in range(5):
        test = main[fold == k]
        out, unseen = {min(pairs[i]) for i in test}, set(test.tolist())
        learn = [i for i, pair in enumerate(pairs) if i not in unseen and not out & set(pair)]
        splits.append((np.array(learn, dtype=np.int64), test))
    return splits


def _main_and_further(table: pd.DataFrame) -> tuple[Ints, Ints]:
    main = table["trust"].to_numpy() == 1
    return np.flatnonzero(main), np.flatnonzero(~main)


def width(error: Floats, spread: Floats) -> float:
    """The factor on the spread that covers 90 % of the errors."""
    return float(np.quantile(np.abs(error) / np.maximum(spread, 0.2), LEVEL))


def combined(
    table: pd.DataFrame, learned: tuple[Floats, Floats], unifac: Floats
) -> tuple[Floats, Floats, NDArray[np.str_]]:
    """Liquidus, spread (K) and route of each row, as `LiquidusModel.predict` chooses."""
    ionic = (table["smiles_1"].map(has_charges) | table["smiles_2"].map(has_charges)).to_numpy()
    group = ~np.isnan(unifac)
    route = np.where(group, "unifac", np.where(ionic, "ionic", "neutral"))
    _, base, _ = inputs(table)
    alone = base + np.where(ionic, 1.0, HALF) * (learned[0] - base)
    x = np.clip(table["x_1"].to_numpy(np.float64), 1e-6, 1 - 1e-6)
    both, apart = with_groups(unifac, alone, np.maximum(x, 1 - x))
    return np.where(group, both, alone), np.where(group, apart, learned[1]), route


def pure_forest(table: pd.DataFrame, trees: int = 40) -> tuple[Forest, float]:
    """Forest of a value of pure substances and its mean absolute error, five folds."""
    rows = np.array([descriptors(s) for s in table["smiles"]])
    answers = table["value"].to_numpy(np.float64)
    fold, error = folds_of(table["smiles"].tolist()), np.zeros(len(table))
    ones: Callable[[int], Floats] = np.ones
    for k in range(5):
        learn, test = fold != k, fold == k
        forest = grow(rows[learn], answers[learn], ones(int(learn.sum())), trees, 4)
        error[test] = np.abs(forest.mean(rows[test]) - answers[test])
    return grow(rows, answers, ones(len(rows)), trees, 4), float(error.mean())


def fusion_from(table: pd.DataFrame, entropy: Forest) -> Callable[[str, float], float]:
    """Enthalpies of fusion (kJ/mol) of a SMILES and a melting point (K).

    A table of liquidus temperatures is asked first, then `chemicals`; else the entropy is
    predicted.
    """
    known = {
        smiles: float(value)
        for side in ("1", "2")
        for smiles, value in zip(table[f"smiles_{side}"], table[f"fusion_{side}"], strict=True)
    }

    def fusion(smiles: str, melting: float) -> float:
        if smiles not in known:
            found = looked_up(smiles, "Hfus")
            predicted = max(float(entropy.mean(descriptors(smiles)[None])[0]), LEAST_ENTROPY)
            known[smiles] = found.value if found else predicted * melting
        return known[smiles]

    return fusion


def default_data() -> Path:
    """Folder of the published tables beside the checkout."""
    return Path(__file__).resolve().parents[3] / "shared" / "data" / "solvents"
