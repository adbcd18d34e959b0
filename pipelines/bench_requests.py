"""What each kind of request costs: the command `designloom bench requests`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.generate import MoleculeGenerator


def acetamide() -> Chem.Mol:
    """A fragment with coordinates: CC(=O)N as ETKDG places it."""
    return _embedded("CC(=O)N")


def two_ends() -> Chem.Mol:
    """Two fragments with coordinates, C-C=O and C-C#N, as far apart as in O=CCCCC#N."""
    from rdkit import Chem

    mol = Chem.RWMol(Chem.RemoveHs(_embedded("O=CCCCC#N")))
    mol.RemoveAtom(3)
    return mol.GetMol()


def _embedded(smiles: str) -> Chem.Mol:
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(mol, randomSeed=7)
    return mol


REQUESTS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "nothing": dict,
    "size": lambda: {"n_atoms": 18},
    "formula": lambda: {"formula": "C7H10O2"},
    "charge": lambda: {"charge": 1},
    "scaffold": lambda: {"scaffold": "c1ccccc1"},
    "marked scaffold": lambda: {"scaffold": "*c1ccc(*)cc1"},
    "fragment": lambda: {"keep": acetamide()},
    "linker": lambda: {"keep": two_ends()},
    "property": lambda: {"property": {"gap": 0.25}},
}
"""Name -> options of `MoleculeGenerator.sample`."""


@dataclass(frozen=True)
class Answer:
    """Molecules of one request.

    Attributes:
        name: of the request.
        met: share of the draws that were what was asked for.
        valid: share of strictly valid ones among these.
        unique: different graphs among the valid ones.
        diversity: of up to ten of them, see `pipelines.bench_rewards.diversity`.
        seconds: CPU time for each valid molecule.
    """

    name: str
    met: float
    valid: float
    unique: float
    diversity: float
    seconds: float


def bench_requests(
    number: int = 64,
    requests: Sequence[str] = tuple(REQUESTS),
    model: str = "qm9",
    seed: int = 0,
    threads: int = 1,
) -> str:
    """Ask for molecules in every way, and count what it costs in validity, diversity and time.

    Args:
        number: Molecules for each request, without a demand for validity.
        requests: Which requests; all of them by default.
        model: Name of a shipped model, or path of a model file.
        seed: Seed of the random numbers.
        threads: Threads of the tensor library.

    Returns:
        A table, one row a request.

    Raises:
        ConfigError: An unknown request, or a number below 1.
    """
    for name, value in (("number", number), ("threads", threads)):
        if value < 1:
            raise ConfigError(f"--{name}: expected at least 1, got {value}")
    for name in requests:
        if name not in REQUESTS:
            known = ", ".join(REQUESTS)
            raise ConfigError(f"--requests: expected some of {known}, got {name!r}")

    import torch
    from tqdm import tqdm

    from molgen.generate import MoleculeGenerator

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        generator = MoleculeGenerator.from_pretrained(model)
        with tqdm(requests, desc="ask", delay=1) as bar:
            found = [answer(generator, name, REQUESTS[name](), number, seed) for name in bar]
    finally:
        torch.set_num_threads(before)
    return "\n".join(table(found))


def answer(
    generator: MoleculeGenerator, name: str, request: dict[str, Any], number: int, seed: int
) -> Answer:
    """Draw molecules of a request and score them."""
    from rdkit import Chem

    from diffcore.errors import YieldError
    from molgen.evaluate.prepared import Prepared
    from molgen.evaluate.validity import strict_valid
    from pipelines.bench_rewards import diversity

    spent, began = generator.evaluations, time.process_time()
    try:
        mols = generator.sample(number, seed=seed, progress=False, candidates=1, **request)
    except YieldError:
        mols = []
    seconds = time.process_time() - began
    draws = (generator.evaluations - spent) / request.get("steps", generator.sampling.steps)
    good = [mol for mol in mols if strict_valid(Prepared(mol))]
    graphs = {Chem.MolToSmiles(Chem.RemoveHs(mol)) for mol in good}
    return Answer(
        name,
        len(mols) / draws,
        len(good) / max(1, len(mols)),
        len(graphs) / max(1, len(good)),
        diversity(good),
        seconds / max(1, len(good)),
    )


def table(found: Sequence[Answer]) -> Iterator[str]:
    """The answers in Markdown."""
    yield (
        "| request | draws that are what was asked for | strictly valid of these | unique of "
        "these | diversity | CPU s a valid molecule |"
    )
    yield "| --- | --- | --- | --- | --- | --- |"
    for one in found:
        shares = " | ".join(f"{100 * x:.0f} %" for x in (one.met, one.valid, one.unique))
        yield f"| {one.name} | {shares} | {one.diversity:.2f} | {one.seconds:.2f} |"
