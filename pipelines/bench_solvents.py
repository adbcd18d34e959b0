"""The table of the solvents: liquidus of systems and components that the model has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffcore.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from molgen.solvents.forest import Forest


def bench_solvents(
    data: Path | None = None,
    trees: int = 200,
    seed: int = 0,
    output: Path | None = None,
    train: bool = False,
    molecules: int = 0,
    pictures: Path | None = None,
) -> str:
    """Measure liquidus, density and viscosity on whole systems, and components, held out.

    With --molecules the token models' tables come too: forward, inverse, and multi-task.

    Args:
        data: Folder of the published tables; `shared/data/solvents` beside the checkout by default.
        trees: Trees of each forest.
        seed: Of the folds.
        output: With `train`: .safetensors file to write; else .csv of the held-out predictions.
        train: Also grow the final forests on all data and write them to `output`, those of density
            and viscosity to liquid.safetensors beside it.
        molecules: Of QM9, read and written for each property by the token models; 0 leaves their
            tables out, otherwise at least 10.
        pictures: Folder for phase diagrams of well-known systems, each by a model that has not seen
            the system, beside the measured points.

    Returns:
        The tables.

    Raises:
        ConfigError: `train` without `output`, or an option outside its range.
        DataError: The tables are missing.
    """
    import pandas as pd

    from molgen.solvents import training
    from molgen.solvents.data import FURTHER_FILE, LIQUIDUS_FILE, read_further, read_liquidus
    from pipelines import bench_liquids

    if train and (output is None or output.suffix != ".safetensors"):
        raise ConfigError(f"--output: expected a .safetensors file for --train, got {output}")
    if molecules and molecules < 10:
        raise ConfigError(f"--molecules: expected 0 or at least 10, got {molecules}")
    folder = data or training.default_data()
    table = read_liquidus(folder / LIQUIDUS_FILE)
    unifac = training.unifac_liquidus(table)
    pure = pure_substances(folder)
    fusion = training.fusion_from(table, pure["entropy of fusion"][0])
    further = read_further(folder / FURTHER_FILE, table, fusion)
    both = pd.concat([table, further], ignore_index=True)

    def judged(splits: Sequence[Any]) -> pd.DataFrame:
        found, spread = training.held_out(both, splits, trees)
        return measured(table, (found[: len(table)], spread[: len(table)]), unifac)

    rows = judged(training.by_system(both, seed))
    unseen = judged(training.by_component(both, seed))
    lines = ["systems held out", *_lines(table, rows)]
    lines += ["components held out", *_lines(table, unseen)]
    liquids = bench_liquids.measured(folder, trees, seed)
    for quantity, one in liquids.items():
        lines += ["", *bench_liquids.lines(quantity, one)]
    if molecules:
        lines += ["", *_tokens(molecules, folder, seed)]
    if pictures is not None:
        from pipelines.solvents_pictures import draw_held_out

        draw_held_out(pictures, both, pure, widths_of(rows), trees)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        if train:
            _write(output, both, pure, rows, lines, trees)
            bench_liquids.write(output.with_name("liquid.safetensors"), liquids, trees)
        else:
            rows.to_csv(output)
    return "\n".join(lines)


def _tokens(number: int, mixtures: Path, seed: int) -> list[str]:
    from pipelines.bench_multitask import bench_multitask
    from pipelines.tokens import bench_tokens

    text = bench_tokens(number, seed=seed), bench_multitask(number, mixtures=mixtures, seed=seed)
    return ["token models", "", *text[0].splitlines(), "", *text[1].splitlines()]


def measured(table: pd.DataFrame, learned: Any, unifac: Any) -> pd.DataFrame:
    """Prediction, error and interval of each row; other folds give the interval."""
    import pandas as pd

    from molgen.solvents import training

    found, spread, route = training.combined(table, learned, unifac)
    error = found - table["temperature"].to_numpy()
    half, fold = np.zeros(len(table)), training.folds_of(table["system"].tolist(), seed=1)
    for name in set(route):
        for k in range(5):
            others, mine = (route == name) & (fold != k), (route == name) & (fold == k)
            half[mine] = training.width(error[others], spread[others]) * spread[mine]
    columns = {"found": found, "error": error, "spread": spread, "half": half, "route": route}
    return pd.DataFrame(columns, index=table.index)


def widths_of(rows: pd.DataFrame) -> dict[str, float]:
    """Factors on the spread that cover 90 % of the held-out errors, by route."""
    from molgen.solvents import training

    return {
        str(name): training.width(part["error"].to_numpy(), part["spread"].to_numpy())
        for name, part in rows.groupby("route")
    }


def _lines(table: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    lines = [f"{'':24s}{'rows':>6s}{'MAE, K':>8s}{'covered, %':>12s}"]
    yes = table["measured"]
    kinds = {"all": yes | True, "phase diagrams": yes}
    kinds |= {f"  {kind}": yes & (table["kind"] == kind) for kind in sorted(set(table["kind"]))}
    for name, choice in kinds.items():
        part = rows[choice & rows["found"].notna()]
        inside = (part["error"].abs() <= part["half"].clip(lower=0.2)).mean() * 100
        mae = part["error"].abs().mean()
        lines.append(f"{name:24s}{len(part):6d}{mae:8.1f}{inside:12.0f}")
    return lines


def pure_substances(folder: Path) -> dict[str, tuple[Forest, float]]:
    """Forests of melting points (K) and entropies of fusion, and their errors held out."""
    from molgen.solvents import training
    from molgen.solvents.data import read_fusion

    melting = read_fusion(folder / "fajar2024_melt_temp_data.csv", "smiles", "mpK")
    thermo = read_fusion(folder / "lavrinenko2023_thermochem.csv", "Smiles", "T")
    heat = read_fusion(folder / "lavrinenko2023_thermochem.csv", "Smiles", "H")
    both = heat.merge(thermo, on="smiles", suffixes=("", "_t"))
    more = read_fusion(folder / "fajar2024_fus_ent_data.csv", "smiles", "fusH")
    both = _joined(both, more.merge(melting, on="smiles", suffixes=("", "_t")))
    entropy = both.assign(value=both["value"] / both["value_t"])[["smiles", "value"]]
    return {
        "melting point": training.pure_forest(_joined(thermo, melting)),
        "entropy of fusion": training.pure_forest(entropy),
    }


def _write(
    path: Path,
    table: pd.DataFrame,
    pure: Mapping[str, tuple[Forest, float]],
    rows: pd.DataFrame,
    lines: list[str],
    trees: int,
) -> None:
    import torch

    from diffcore.checkpoint import save_weights
    from molgen.solvents import regular_training, training
    from molgen.solvents.model import EXCESS

    forest, networks = training.learned_pair(table, trees)
    (hot, hot_error), (order, order_error) = pure["melting point"], pure["entropy of fusion"]
    arrays = forest.arrays("pair") | hot.arrays("melting") | order.arrays("entropy")
    card = {
        "kind": "solvents",
        "name": path.stem,
        "data": {
            "pair": "Lavrinenko et al. 2023, doi:10.1021/acssuschemeng.3c05207; for other systems "
            "DESignSolvents 2024",
            "pure": "the same, and Fajar et al. 2024, Commun. Chem. 7, 27",
            "licence": "none stated; the tables are not shipped",
        },
        "recipe": {
            "forest": {"trees": trees, "leaf": 2, "max_features": 1.0, "seed": 0},
            "networks": {
                "members": regular_training.MEMBERS,
                "epochs": regular_training.EPOCHS,
                "learning_rate": regular_training.RATE,
                "weight_decay": regular_training.DECAY,
                "dropout": regular_training.DROP,
                "seed": 0,
            },
        },
        "widths": widths_of(rows),
        "errors": {"melting point": hot_error, "entropy of fusion": order_error},
        "quality": lines,
    }
    stored = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()}
    stored |= {EXCESS + name: value for name, value in networks.state_dict().items()}
    save_weights(path, stored, card, dtype=torch.float32)


def _joined(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Both tables; the first one's value where a substance is in both."""
    import pandas as pd

    return pd.concat([first, second]).drop_duplicates("smiles").reset_index(drop=True)
