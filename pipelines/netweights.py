"""Network weights from the command line: generate some for a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diffcore.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from structgen.netweights.tables import Table


def generate_weights(
    data: Path | None = None,
    target: str | None = None,
    output: Path = Path("weights.safetensors"),
    number: int = 10,
    model: str = "tabular-mlp",
    steering: Literal["none", "guided", "best_of_n", "feynman_kac"] = "guided",
    accuracy: float | None = None,
    sparsity: float | None = None,
    test_share: float = 0.25,
    steps: int = 40,
    temperature: float | None = None,
    shrinkage: float | None = None,
    seed: int = 0,
    threads: int = 1,
    force: bool = False,
) -> str:
    """Generate networks that classify the rows of a table; none of them is trained.

    A quarter of the rows is kept aside to say how good the networks are; the others are what the
    model sees. The file holds stacked state dicts: entry k of every tensor is network k.

    Args:
        data: CSV file with a header line; needed.
        target: Column of the classes; needed.
        output: .safetensors file; a JSON card with classes and columns is written beside it.
        number: Networks to make.
        model: A shipped model by name, or a weights file.
        steering: none: zero-shot; guided: by the loss of the labelled rows; the others search.
        accuracy: What to ask for, 0 to 1.
        sparsity: Share of zeros in the first layer to ask for, 0 to 1.
        test_share: Share of rows that is kept aside; 0 shows the model all of them.
        steps: Of the sampler.
        temperature: Of the noise that networks are drawn from, 0 to 1: lower is better one by one
            and less diverse; the model's own by default.
        shrinkage: How far networks are pulled back to the probe's end, 0 to 1; by default the
            model's own for zero-shot networks, 0 for others.
        seed: Seed of everything random.
        threads: Threads of the tensor library.
        force: Overwrite the output.

    Returns:
        What was made and how good it is.

    Raises:
        ConfigError: An option is outside what is allowed.
        DataError: A table that cannot be used.
        ModelFileError: An unknown or broken model.
        OutputError: The output exists without `force`, or cannot be written.
    """
    if data is None or target is None:
        raise ConfigError("expected --data with a CSV file and --target with its column of classes")
    if output.suffix != ".safetensors":
        raise ConfigError(f"--output: expected a .safetensors file, got {output}")
    if output.exists() and not force:
        raise OutputError(f"{output} exists already; give --force to overwrite it")
    if not 0 <= test_share < 1:
        raise ConfigError(f"--test-share: expected 0 up to 1, got {test_share}")
    for name, value in (("number", number), ("threads", threads)):
        if value < 1:
            raise ConfigError(f"--{name}: expected at least 1, got {value}")
    if seed < 0:
        raise ConfigError(f"--seed: expected 0 or more, got {seed}")

    import torch

    from diffcore.checkpoint import save_weights
    from structgen.netweights.generator import Asked, WeightGenerator
    from structgen.netweights.tables import read_csv, split

    table = read_csv(data, target)
    shown, aside = split(table, seed, test_share) if test_share else (table, table)
    generator = WeightGenerator.from_pretrained(model)
    asked = Asked(
        accuracy=accuracy,
        sparsity=sparsity,
        steering=steering,
        steps=steps,
        temperature=temperature,
        shrinkage=shrinkage,
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        told = generator.prompt(shown)
        flat = generator.draw(number, told, asked, seed=seed)
    finally:
        torch.set_num_threads(before)
    raw, rows = told.encoding.fold(generator.task.net, flat, len(table.labels))
    each = [raw.state_dict(row) for row in rows]
    scores = judge(raw, rows, aside)
    card = {
        "kind": "generated network weights",
        "model": model,
        "seed": seed,
        "steering": steering,
        "asked": {"accuracy": accuracy, "sparsity": sparsity},
        "architecture": raw.to_json(),
        "module": f"Sequential(Linear({raw.inputs}, {raw.hidden}), ReLU(), "
        f"Linear({raw.hidden}, {raw.classes}))",
        "columns": list(table.columns),
        "classes": list(table.labels),
        "accuracy": {
            "rows": len(aside.y),
            "kept aside": bool(test_share),
            "networks": [round(float(s), 4) for s in scores],
        },
    }
    stacked = {name: torch.stack([one[name] for one in each]) for name in each[0]}
    save_weights(output, stacked, card, torch.float32)
    where = "rows kept aside" if test_share else "rows that the model saw"
    return (
        f"{number} networks {raw} for {table.name}: accuracy {scores.mean():.1%} "
        f"(worst {scores.min():.1%}, best {scores.max():.1%}) on {len(aside.y)} {where}\n"
        f"written: {output}"
    )


def judge(raw: Any, rows: Any, table: Table) -> Any:
    """Accuracy [n] of networks on raw features, on a table's rows."""
    import torch

    from structgen.netweights.fitting import accuracy

    # raw features may be large: the folded network is judged in double precision
    x, y = torch.from_numpy(table.x), torch.from_numpy(table.y)
    return accuracy(raw, rows.double(), x, y)
