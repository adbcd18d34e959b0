"""Generation into a file: every molecule is on disk as soon as it is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffcore.errors import ConfigError, OutputError

MAX_SEED = 2**31 - 1
"""The seed is kept with every molecule, in a property of 32 bits."""


def generate_molecules(
    number: int = 100,
    seed: int = 0,
    output: Path = Path("molecules.sdf"),
    model: str = "qm9",
    n_atoms: int | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    temperature: float | None = None,
    batch_size: int | None = None,
    resume: bool = False,
    force: bool = False,
    threads: int = 1,
) -> str:
    """Generate 3D molecules with hydrogens, charges and bonds into a file.

    The same seed gives the same molecules on the same machine, however often the run was
    interrupted and resumed. An interrupted run leaves a file of whole records.

    Args:
        number: How many molecules the file shall hold in the end.
        seed: Seed of the random numbers.
        output: File to write; its ending chooses the format: .sdf, .smi, .xyz or .csv.
        model: Name of a shipped model, or path of a model file.
        n_atoms: Atoms in every molecule, hydrogens included; the model's own sizes if left out.
        steps: Steps of the sampler; the model's own number if left out.
        sampler: Name of the sampler; the model's own if left out.
        temperature: Temperature of the categorical choices (1 follows the model, lower is safer).
        batch_size: Molecules made at a time.
        resume: Continue the file after its last whole record.
        force: Overwrite the file if it exists.
        threads: Threads of the tensor library; more than one seldom pays for small molecules.

    Returns:
        One line that says what was written.

    Raises:
        ConfigError: An option is outside what is allowed.
        ModelFileError: The model is unknown or its file is broken.
        OutputError: The file exists without `force` or `resume`, or cannot be written.
    """
    for name, value in (("number", number), ("batch-size", batch_size), ("threads", threads)):
        if value is not None and value < 1:
            raise ConfigError(f"--{name}: expected at least 1, got {value}")
    if not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"--seed: expected 0 to {MAX_SEED}, got {seed}")
    if resume and force:
        raise ConfigError("--resume continues a file and --force overwrites it: give one of them")
    if output.exists() and not (resume or force):
        raise OutputError(f"{output} exists: expected --force to overwrite or --resume to continue")

    from molgen.io import MoleculeWriter

    options = {
        "n_atoms": n_atoms,
        "steps": steps,
        "sampler": sampler,
        "temperature": temperature,
        "batch_size": batch_size,
    }
    given = {name: value for name, value in options.items() if value is not None}
    with MoleculeWriter(output, force=force, append=resume) as writer:
        already = writer.count
        try:
            for mol in _make(number, already, seed, model, threads, given):
                writer.write(mol)
        except KeyboardInterrupt:
            if not writer.count:
                raise
            made = f"{output} holds {writer.count} of {number} molecules"
            raise KeyboardInterrupt(f"interrupted: {made}; --resume continues") from None
        return f"{output}: {writer.count - already} molecules written, {writer.count} in all"


def _make(
    number: int, start: int, seed: int, model: str, threads: int, options: dict[str, Any]
) -> Iterator[Any]:
    """The molecules from `start` up to `number`, under a bar with the time left."""
    if start >= number:
        return
    import torch

    from diffcore.memory import keep_freed_memory
    from molgen.generate import MoleculeGenerator
    from molgen.progress import molecule_bar

    torch.set_num_threads(threads)
    keep_freed_memory()
    generator = MoleculeGenerator.from_pretrained(model)
    # The bar waits a moment, so that a refused option stays one line of text.
    with molecule_bar(number, initial=start, show=True) as bar:
        yield from generator.stream(
            number - start, seed=seed, start=start, progress=bar.update, **options
        )
