"""What contacts tell of bonds and places, on complexes that they were not fitted to."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from diffcore.errors import ConfigError, DataError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from molgen.contacts.term import Contacts
    from molgen.datasets.contact_table import ContactTable

OTHERS = 100
"""Random moves of the whole ligand, beside the crystal's pose."""

NEAR = 30.0
"""A bond's likeliest angle so near to the crystal's counts as found, degrees."""


class Bonds(NamedTuple):
    """Every bond of a set of ligands, [R] each, alone and told of the target.

    Attributes:
        nats: log-density of the crystal's angle given the other bonds, above an even one.
        apart: from the likeliest angle to the crystal's, degrees.
    """

    nats: dict[str, Tensor]
    apart: dict[str, Tensor]


def bench_contacts(
    complexes: Path,
    model: str = "bound",
    number: int | None = None,
    seed: int = 0,
    threads: int = 1,
) -> str:
    """Ask what a target tells a torsional model of bonds in crystals, and of the ligand's place.

    Args:
        complexes: Folder of PDB and SDF files, or a .csv of name, protein, ligand.
        model: Name or file of a torsional model that has contacts.
        number: Only so many complexes, evenly spread.
        seed: Of the moves of whole ligands.
        threads: Threads of the tensor library.

    Returns:
        For all bonds, their angle's log-density with the other bonds as in the crystal, and how
        often the likeliest angle is the crystal's, by the model alone and told of the target; and
        how often the crystal's place is likelier than all of a hundred random shifts or turns.

    Raises:
        ConfigError: An option is outside what is allowed, or the model has no contacts.
        DataError: There is no complex, or none can be read.
        ModelFileError: The model is unknown, or its files are broken.
    """
    import torch

    from diffcore import random
    from molgen.conformers import ConformerGenerator
    from molgen.datasets.complexes import find_complexes
    from molgen.datasets.contact_table import of_complexes
    from pipelines.bench_redocking import spread

    if number is not None and number < 1:
        raise ConfigError(f"--number: expected at least 1, got {number}")
    torch.set_num_threads(threads)
    generator = ConformerGenerator.from_pretrained(model)
    if generator.contacts is None:
        raise ConfigError(f"--model: expected a model that has contacts, {model} has none")
    table = of_complexes(generator, spread(find_complexes(complexes), number))
    bonds = of_bonds(generator.contacts, table)
    if not len(bonds.nats["told"]):
        raise DataError(f"{complexes}: no ligand has a bond that turns")
    found = of_places(generator.contacts, table, random.generator(seed))
    lines = [f"{len(table)} complexes, {len(bonds.nats['told'])} bonds"]
    lines += ["| bonds | nats above an even density, mean | likeliest angle within 30 degrees |"]
    lines += ["| --- | --- | --- |"]
    for name, nats in bonds.nats.items():
        hit = 100 * (bonds.apart[name] <= NEAR).float().mean().item()
        lines.append(f"| {_NAMES[name]} | {nats.mean().item():.2f} | {hit:.1f} % |")
    share = 100 * (found == 0).float().mean().item()
    lines.append(
        f"the crystal's place is likelier than all of {OTHERS} random shifts or turns of the whole "
        f"ligand for {share:.0f} % ({100 / (OTHERS + 1):.0f} % by chance)"
    )
    return "\n".join([*lines, *(f"{n}: {why}" for n, why in table.card["left_out"].items())])


_NAMES = {"alone": "the model alone", "told": "told of the target"}


def of_bonds(contacts: Contacts, table: ContactTable) -> Bonds:
    """Every bond of a table's ligands, the others as they are."""
    import torch

    from molgen.contacts.task import bond_moves, results

    nats: dict[str, list[Tensor]] = {name: [] for name in _NAMES}
    apart: dict[str, list[Tensor]] = {name: [] for name in _NAMES}
    for k in range(len(table)):
        count = int(table.counts["turns"][k])
        if not count:
            continue
        batch = table.batch([k] * count)
        bins = batch["density"].shape[-1]
        angle = (torch.arange(bins) * (2 * math.pi / bins)).expand(count, -1)
        pos, kinds, prior = results(bond_moves(batch, torch.arange(count), angle), batch)
        with torch.inference_mode():
            energy = contacts.potential(pos, kinds, *_target(batch))
        for name, scores in (("alone", prior), ("told", prior - energy)):
            nats[name].append(scores.log_softmax(-1)[:, 0] + math.log(bins))
            turn = scores.argmax(-1) * (360 / bins)
            apart[name].append(torch.minimum(turn, 360 - turn))
    empty = [torch.zeros(0)]
    return Bonds(
        {name: torch.cat(x or empty) for name, x in nats.items()},
        {name: torch.cat(x or empty) for name, x in apart.items()},
    )


def _target(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    return batch["target_pos"], batch["target"], batch["target_axis"]


def of_places(contacts: Contacts, table: ContactTable, rng: torch.Generator) -> Tensor:
    """How many random moves of every whole ligand are likelier than none, [M]."""
    import torch

    from molgen.contacts.task import ContactTask, results, whole_moves

    task, better = ContactTask(), []
    for k in range(len(table)):
        batch = table.batch([k])
        size = torch.rand(1, OTHERS, generator=rng) * 2 - 1
        size = torch.cat([torch.zeros(1, 1), size], 1)
        pos, kinds, _ = results(whole_moves(task, batch, size, rng), batch)
        with torch.inference_mode():
            energy = contacts.potential(pos, kinds, *_target(batch))[0]
        better.append((energy[1:] < energy[0]).sum())
    return torch.stack(better)
