"""Generation into a file: every molecule is on disk as soon as it is made."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffcore.errors import ConfigError, OutputError, YieldError

MAX_SEED = 2**31 - 1
"""The seed is kept with every molecule, in a property of 32 bits."""


def generate_molecules(
    number: int = 100,
    seed: int = 0,
    output: Path = Path("molecules.sdf"),
    model: str = "qm9",
    n_atoms: int | None = None,
    formula: str | None = None,
    charge: int | None = None,
    scaffold: str | None = None,
    keep: Path | None = None,
    property: Sequence[str] = (),
    strength: float | None = None,
    candidates: int | None = None,
    reward: str | None = None,
    budget: int | None = None,
    search: str | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    temperature: float | None = None,
    batch_size: int | None = None,
    require: str | None = None,
    unique: bool = False,
    novel: bool = False,
    repair: str | None = None,
    max_tries: int | None = None,
    rejected: Path | None = None,
    resume: bool = False,
    force: bool = False,
    threads: int = 1,
) -> str:
    """Generate 3D molecules with hydrogens, charges and bonds into a file.

    The same seed gives the same molecules on the same machine, however often the run was
    interrupted and resumed. An interrupted run leaves a file of whole records. With a demand
    (require, unique, novel, repair) molecules are made until as many as asked for meet it. What is
    asked of formula, charge, scaffold and fragment holds for all of them. With a reward they are
    the best of a search, in one go.

    Args:
        number: How many molecules the file shall hold in the end.
        seed: Seed of the random numbers.
        output: File to write; its ending chooses the format: .sdf, .smi, .xyz or .csv.
        model: Name of a shipped model, or path of a model file.
        n_atoms: Atoms in every molecule, hydrogens included; the model's own sizes if left out.
        formula: Such as C7H10O2; neutral, unless a charge is given.
        charge: Total charge in e.
        scaffold: SMILES or SMARTS of a part of every molecule; its hydrogens, or the places of its
            *, may be anything.
        keep: File (.sdf, .mol) with a part that is kept where it lies; several pieces are joined.
        property: NAME=VALUE or NAME=LOW:HIGH, such as gap=0.25 or mu=0:1; can be given repeatedly.
        strength: Pull towards the properties, 0 or more.
        candidates: Molecules made for each one handed out, chosen by the properties.
        reward: Name of a reward to climb: qed, sa, logp, similarity:SMILES or gap.
        budget: Network evaluations of the search for the reward; 64 molecules' worth if left out.
        search: Name of the search; evolution if left out.
        steps: Steps of the sampler; the model's own number if left out.
        sampler: Name of the sampler; the model's own if left out.
        temperature: Temperature of the categorical choices (1 follows the model, lower is safer).
        batch_size: Molecules made at a time.
        require: Checks every molecule passes, with commas: strict_valid, connected, posebusters.
        unique: No two molecules with the same graph.
        novel: No molecule of the training data.
        repair: Relax every geometry with MMFF94s (mmff) or GFN2-xTB (xtb).
        max_tries: Molecules to make at most; 100 for each one asked for if left out.
        rejected: Table (.csv) to write of the rejected molecules and why.
        resume: Continue the file after its last whole record.
        force: Overwrite the file if it exists.
        threads: Threads of the tensor library; more than one seldom pays for small molecules.

    Returns:
        A line that says what was written and, with demands, one that says what was rejected.

    Raises:
        ConfigError: An option is outside what is allowed.
        ModelFileError: The model is unknown or its file is broken.
        OutputError: A file exists without `force` or `resume`, or cannot be written.
        YieldError: Too few molecules meet the demands; the file holds those that do.
    """
    _check_numbers(
        {"number": number, "batch-size": batch_size, "threads": threads, "max-tries": max_tries}
    )
    if not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"--seed: expected 0 to {MAX_SEED}, got {seed}")
    if resume and force:
        raise ConfigError("--resume continues a file and --force overwrites it: give one of them")
    demanded = bool(require or unique or novel or repair)
    if not demanded and (max_tries is not None or rejected is not None):
        raise ConfigError("--max-tries and --rejected need one of --require, --unique, ... to meet")
    _check_reward(reward, budget, search, demanded, resume)
    if not property and (strength is not None or candidates is not None):
        raise ConfigError("--strength and --candidates need a --property to aim at")
    _check_files(output, rejected, resume or force)

    from molgen.writer import MoleculeWriter
    from pipelines.filling import climb, fill, fill_with_good, loader, read_fragment

    options = {
        "n_atoms": n_atoms,
        "formula": formula,
        "charge": charge,
        "scaffold": scaffold,
        "keep": None if keep is None else read_fragment(keep),
        "property": _properties(property) or None,
        "strength": strength,
        "candidates": candidates,
        "steps": steps,
        "sampler": sampler,
        "temperature": temperature,
        "batch_size": None if reward else batch_size,
    }
    given = {name: value for name, value in options.items() if value is not None}
    with _own_words(), MoleculeWriter(output, force=force, append=resume) as writer:
        already = writer.count
        with _progress_kept(writer, number):
            if reward:
                how = {"reward": reward, "budget": budget, "search": search}
                said = climb(writer, number, seed, loader(model, threads), given, how)
            elif demanded:
                from molgen.demands import Demands

                demands = Demands(require or (), unique, novel, repair)
                said = fill_with_good(
                    writer,
                    number,
                    seed,
                    loader(model, threads),
                    given,
                    demands,
                    max_tries,
                    rejected,
                )
            else:
                said = fill(writer, number, seed, loader(model, threads), given)
        line = f"{output}: {writer.count - already} molecules written, {writer.count} in all"
        return f"{line}\n{said}" if said else line


def _check_numbers(given: dict[str, int | None]) -> None:
    for name, value in given.items():
        if value is not None and value < 1:
            raise ConfigError(f"--{name}: expected at least 1, got {value}")


def _check_reward(
    reward: str | None, budget: int | None, search: str | None, demanded: bool, resume: bool
) -> None:
    if reward is None and (budget is not None or search is not None):
        raise ConfigError("--budget and --search need a --reward to climb")
    if reward is not None and resume:
        raise ConfigError("--reward: a search is made in one go, it cannot be resumed")
    if reward is not None and demanded:
        raise ConfigError(
            "--reward: its molecules are valid and unique; expected no --require, --unique, "
            "--novel or --repair beside it"
        )


def _properties(words: Sequence[str]) -> dict[str, Any]:
    """``gap=0.25`` and ``mu=0:1`` as the library takes them."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        ends = [end.strip() for end in value.split(":")]
        if not (name.strip() and equals and all(ends) and len(ends) <= 2):
            raise ConfigError(f"--property: expected NAME=VALUE or NAME=LOW:HIGH, got {word!r}")
        if name.strip() in found:
            raise ConfigError(f"--property: {name.strip()} is given twice")
        found[name.strip()] = ends[0] if len(ends) == 1 else tuple(ends)
    return found


def _check_files(output: Path, rejected: Path | None, may_exist: bool) -> None:
    if rejected is not None and rejected.resolve() == output.resolve():
        raise ConfigError("--rejected and --output name the same file: expected two")
    for path in (output, rejected):
        if path is not None and path.exists() and not may_exist:
            raise OutputError(
                f"{path} exists: expected --force to overwrite or --resume to continue"
            )
    if rejected is not None and not rejected.parent.is_dir():
        raise OutputError(f"cannot write {rejected}: no such folder")


@contextmanager
def _own_words() -> Iterator[None]:
    """Errors name options as the command line does: `n_atoms: ...` becomes `--n-atoms: ...`."""
    try:
        yield
    except (ConfigError, YieldError) as error:
        names = inspect.signature(generate_molecules).parameters
        head, colon, rest = str(error).partition(":")
        text = str(error)
        if head.split(" ")[0] in names:  # `property gap: ...` is about --property, too
            text = f"--{head.replace('_', '-')}{colon}{rest}"
        several = "|".join(name for name in names if "_" in name)
        text = re.sub(rf"\b({several})\b", lambda m: f"--{m[0].replace('_', '-')}", text)
        error.args = (text,)
        raise


@contextmanager
def _progress_kept(writer: Any, number: int) -> Iterator[None]:
    """An interrupted or hopeless run says what its file holds."""
    try:
        yield
    except KeyboardInterrupt:
        if not writer.count:
            raise
        made = f"{writer.path} holds {writer.count} of {number} molecules"
        raise KeyboardInterrupt(f"interrupted: {made}; --resume continues") from None
    except YieldError as error:
        if writer.count:
            error.args = (f"{writer.path} holds {error}",)
        raise
