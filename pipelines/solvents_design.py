"""Proposals of eutectic solvents from the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from diffcore.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from molgen.solvents.targets import Target

_TARGET = re.compile(r"([a-z_]+)\s*([<>])\s*([-+.\deE]+)")


def generate_solvents(
    output: Path = Path("solvents.csv"),
    number: int = 50,
    target: list[str] | None = None,
    generated: int = 12,
    generator: str = "qm9",
    scored: int | None = None,
    seed: int = 0,
    known: bool = False,
    liquids: bool = False,
    picture: Path | None = None,
    force: bool = False,
) -> str:
    """Propose binary eutectic solvents: acceptor, donor and ratio, with intervals.

    Args:
        output: .csv file to write, a row a proposal.
        number: Proposals at most.
        target: Such as "eutectic_temperature<300", "molar_mass<200", "alerts<1"; can be repeated.
        generated: Molecules to draw from the generator, next to the library of components.
        generator: Of those: qm9 draws graphs, qm9-causal-selfies writes tokens; or a weights file.
        scored: Pairs to score; 10 for each proposal, at least 200, if left out.
        seed: Seed of everything random.
        known: Keep systems that are known already.
        liquids: Keep components that are liquid by themselves.
        picture: .png file to draw the first 12 proposals to.
        force: Overwrite files that exist.

    Returns:
        One line that says what was written.

    Raises:
        ConfigError: An option is outside what is allowed, or a target contradicts itself.
        OutputError: A file exists without `force`, or cannot be written.
    """
    for path in (output, picture):
        if path is not None and path.exists() and not force:
            raise OutputError(f"{path} exists: expected --force to overwrite it")
    if picture is not None and picture.suffix != ".png":
        raise ConfigError(f"--picture: expected a .png file, got {picture}")
    wanted = parsed(target or ["eutectic_temperature<300"])
    from molgen.solvents.designer import SolventDesigner, drawings
    from pipelines.conformers import write_rows

    found = SolventDesigner.from_pretrained(generator).propose(
        number, wanted, seed, generated, scored, novel=not known, solid=not liquids
    )
    rounded = found.round({name: 4 for name in found.select_dtypes("number").columns})
    write_rows(
        output,
        [{str(k): v for k, v in row.items()} for row in rounded.to_dict("records")],
        tuple(map(str, found.columns)),
    )
    if picture is not None and len(found):
        try:
            drawings(found).save(picture)
        except OSError as error:
            raise OutputError(f"cannot write {picture}: {error.strerror or error}") from error
    few = "" if len(found) == number else f" of {number} asked for; --scored tries more pairs"
    return f"{output}: {len(found)} proposals{few}"


def parsed(texts: list[str]) -> Target:
    """Targets as the designer takes them.

    Raises:
        ConfigError: a text is no bound.
    """
    found: dict[str, list[tuple[str, float]]] = {}
    for text in texts:
        match = _TARGET.fullmatch(text.strip())
        try:
            if match is None:
                raise ValueError
            found.setdefault(match[1], []).append((match[2], float(match[3])))
        except ValueError:
            raise ConfigError(
                f'--target: expected a bound such as "eutectic_temperature<300", got {text!r}'
            ) from None
    return found
