"""Proposals of eutectic solvents: acceptor, donor and ratio for a target.

Components come from a library of common substances and from the project's generator of molecules;
what becomes of them is judged by the liquidus model, which knows nothing of the generator.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from diffcore.errors import ConfigError, DesignloomError
from molgen.solvents.choice import alerts, fitting, is_acceptor, is_donor, passes, written
from molgen.solvents.components import Component, component
from molgen.solvents.diagram import PhaseDiagram, phase_diagram
from molgen.solvents.liquid import QUANTITIES, LiquidModel
from molgen.solvents.liquidus import ideal_temperature
from molgen.solvents.model import LiquidusModel
from molgen.solvents.targets import PROPERTIES, Range, Target, ranges

if TYPE_CHECKING:
    import pandas as pd

_Z90, _MEAN_TO_SIGMA = 1.6449, 1.2533
_COARSE, _FINE = 19, 49
_END, _COLDEST = 0.06, 150.0


@dataclass(frozen=True)
class Proposal:
    """A mixture, scored.

    Attributes:
        diagram: acceptor first.
        row: what the table says of it.
    """

    diagram: PhaseDiagram
    row: dict[str, Any]


@dataclass(frozen=True)
class SolventDesigner:
    """Proposes binary eutectic solvents.

    Attributes:
        model: judges the liquidus.
        generator: of molecules, as graphs or as tokens: a shipped model by name, or a weights file;
            for components that are in no library.
    """

    model: LiquidusModel
    generator: str = "qm9"

    @classmethod
    def from_pretrained(cls, generator: str = "qm9") -> SolventDesigner:
        """With the shipped liquidus model.

        Args:
            generator: of molecules, as ``qm9`` (graphs) or ``qm9-causal-selfies`` (tokens).

        Raises:
            ModelFileError: the shipped files are broken.
        """
        return cls(LiquidusModel.from_pretrained(), generator)

    def propose(
        self,
        n: int = 50,
        target: Target | None = None,
        seed: int = 0,
        generated: int = 12,
        scored: int | None = None,
        novel: bool = True,
        each: int | None = None,
        solid: bool = True,
    ) -> pd.DataFrame:
        """Propose mixtures, most probable to meet the target first, then most like a known one.

        Left out: diagrams whose lowest point lies at a pure end or below 150 K, where mixtures are
        glasses and the models guess.

        Args:
            n: how many at most.
            target: bounds, see `molgen.solvents.targets.PROPERTIES`; by default a eutectic
                temperature below 300 K.
            seed: of everything random.
            generated: molecules to draw from the generator, next to the library.
            scored: pairs to score; by default 10 for each proposal, at least 200.
            novel: leave out known systems.
            each: proposals a component may be part of; by default a fifth of n, at least 3.
            solid: only components that are solid where the mixture shall be liquid: at the highest
                eutectic temperature asked for, or at 298 K.

        Returns:
            One row a proposal; ``.attrs["diagrams"]`` holds their phase diagrams.

        Raises:
            ConfigError: a number outside what is allowed, a target that contradicts itself, or a
                missing package.
        """
        for name, value in (("n", n), ("scored", scored), ("each", each)):
            if value is not None and value < 1:
                raise ConfigError(f"{name}: expected at least 1, got {value}")
        for name, value in (("generated", generated), ("seed", seed)):
            if value < 0:
                raise ConfigError(f"{name}: expected 0 or more, got {value}")
        wanted = ranges(target or {"eutectic_temperature": ("<", 300.0)})
        limit = wanted.get("eutectic_temperature", Range()).high if solid else 0.0
        limit = limit if math.isfinite(limit) else 298.15
        pool = [c for c in self.components(generated, seed) if c.melting.value > limit]
        tries = scored or max(10 * n, 200)
        made = list(self.score(pairs(pool, np.random.default_rng(seed), novel), wanted, tries))
        made = [p for p in made if p.row["meets"] and is_plausible(p)]
        made.sort(key=lambda p: (-round(p.row["probability"], 2), -p.row["similarity"]))
        kept = spread_out(made, n, each or max(n // 5, 3))
        return table([refined(p, wanted) for p in kept])

    def components(self, generated: int = 0, seed: int = 0) -> list[Component]:
        """Substances to combine: the library, then molecules of the generator that pass.

        Args:
            generated: molecules to draw.
            seed: of the drawing.
        """
        from molgen.solvents.novelty import library

        found = [_made(name) for name in library()]
        if generated:
            made = fitting(written(self.generator, generated, seed))
            found += [_made(smiles) for smiles in made]
        unique = {c.smiles: c for c in found if c is not None and passes(c.smiles)}
        return list(unique.values())

    def score(
        self,
        mixtures: Iterator[tuple[Component, Component]],
        wanted: dict[str, Range],
        number: int,
    ) -> Iterator[Proposal]:
        """Score mixtures on a coarse grid; one that cannot be scored costs only itself.

        Args:
            mixtures: acceptor and donor.
            wanted: ranges of the target.
            number: of mixtures to take.
        """
        from itertools import islice

        from tqdm import tqdm

        bar = tqdm(islice(mixtures, number), total=number, desc="mixtures", delay=2, leave=False)
        for pair in bar:
            try:
                yield judged(phase_diagram(*pair, points=_COARSE), wanted)
            except (DesignloomError, ArithmeticError):
                continue


def _made(identifier: str) -> Component | None:
    try:
        return component(identifier)
    except ConfigError:
        raise  # a missing package: no component would do
    except DesignloomError:
        return None


def pairs(
    pool: Sequence[Component], rng: np.random.Generator, novel: bool
) -> Iterator[tuple[Component, Component]]:
    """Acceptor and donor, each pair once, in random order."""
    from molgen.solvents.novelty import is_novel

    donors = [c for c in pool if is_donor(c.smiles)]
    acceptors = [c for c in pool if is_acceptor(c.smiles)]
    seen = set()
    for place in rng.permutation(len(donors) * len(acceptors)):
        first, second = acceptors[place // len(donors)], donors[place % len(donors)]
        pair = frozenset((first.smiles, second.smiles))
        if len(pair) == 2 and pair not in seen:
            seen.add(pair)
            if not novel or is_novel(first.smiles, second.smiles):
                yield first, second


def judged(diagram: PhaseDiagram, wanted: dict[str, Range]) -> Proposal:
    """What a phase diagram is worth for a target.

    The interval takes in what predicted melting points are unsure of, in shares of the mixture.
    """
    from rdkit import Chem
    from rdkit.Chem import rdMolDescriptors

    from molgen.solvents.novelty import is_novel, nearest

    acceptor, donor = diagram.components
    at = int(diagram.liquidus.temperature.argmin())
    x, temperature = diagram.x[at], float(diagram.liquidus.temperature[at])
    half = temperature - float(diagram.liquidus.lower[at])
    unsure = [c.melting.error * _Z90 * _MEAN_TO_SIGMA for c in diagram.components]
    half = math.hypot(half, *(share * error for share, error in zip(x, unsure, strict=True)))
    ideal = np.max(
        [ideal_temperature(c, diagram.x[:, i]) for i, c in enumerate((acceptor, donor))], 0
    )
    masses = [rdMolDescriptors._CalcMolWt(Chem.MolFromSmiles(c.smiles)) for c in diagram.components]
    near = nearest(acceptor.smiles, donor.smiles)
    warned = [*alerts(acceptor.smiles), *alerts(donor.smiles)]
    row: dict[str, Any] = {
        "acceptor": acceptor.name,
        "donor": donor.name,
        "x_acceptor": float(x[0]),
        "ratio": f"1 : {x[1] / x[0]:.2f}" if x[0] <= x[1] else f"{x[0] / x[1]:.2f} : 1",
        "eutectic_temperature": temperature,
        "lower": temperature - half,
        "upper": temperature + half,
        "depression": float(ideal.min()) - temperature,
        "molar_mass": float(np.dot(x, masses)),
        "alerts": len(warned),
        "alert_names": "; ".join(warned),
        "method": diagram.liquidus.method.partition(" ")[0],
        "predicted": "; ".join(c.name for c in diagram.components if c.is_predicted),
        "novel": is_novel(acceptor.smiles, donor.smiles),
        "nearest": near.name,
        "nearest_reference": near.reference,
        "similarity": near.similarity,
        "acceptor_smiles": acceptor.smiles,
        "donor_smiles": donor.smiles,
    }
    sigma = {"eutectic_temperature": half / _Z90, "depression": half / _Z90}
    likely = [
        r.probability(row[name], sigma.get(name, 0.0))
        for name, r in wanted.items()
        if name not in QUANTITIES
    ]
    for quantity in QUANTITIES:
        liquid = LiquidModel.from_pretrained().predict(quantity, diagram.components, [x])
        row[quantity], high = float(liquid.value[0]), float(liquid.upper[0])
        row |= {f"{quantity}_lower": float(liquid.lower[0]), f"{quantity}_upper": high}
        if quantity in wanted:
            logs = wanted[quantity].logarithms, math.log(row[quantity])
            likely.append(logs[0].probability(logs[1], math.log(high / row[quantity]) / _Z90))
    row["probability"] = math.prod(likely)
    row["meets"] = all(r.holds(row[name]) for name, r in wanted.items())
    return Proposal(diagram, row)


def is_plausible(one: Proposal) -> bool:
    """Whether the lowest point lies inside the diagram and above 150 K."""
    x, temperature = one.diagram.eutectic
    return bool(_END <= x[0] <= 1 - _END and temperature >= _COLDEST)


def spread_out(made: Sequence[Proposal], n: int, each: int) -> list[Proposal]:
    """The first n of which no component has part in more than ``each``."""
    used: dict[str, int] = {}
    kept: list[Proposal] = []
    for one in made:
        names = [c.smiles for c in one.diagram.components]
        if len(kept) < n and all(used.get(name, 0) < each for name in names):
            kept.append(one)
            used |= {name: used.get(name, 0) + 1 for name in names}
    return kept


def refined(one: Proposal, wanted: dict[str, Range]) -> Proposal:
    """The same on a fine grid."""
    return judged(phase_diagram(*one.diagram.components, points=_FINE), wanted)


def table(proposals: Sequence[Proposal]) -> pd.DataFrame:
    """A row a proposal; their diagrams are in ``.attrs``."""
    import pandas as pd

    columns = [] if proposals else ["acceptor", "donor", *PROPERTIES, "probability", "meets"]
    found = pd.DataFrame([p.row for p in proposals], columns=columns or None)
    found.attrs["diagrams"] = Diagrams(p.diagram for p in proposals)
    return found


class Diagrams(tuple[PhaseDiagram, ...]):
    """Phase diagrams that a table carries without copying them."""

    def __deepcopy__(self, memo: object) -> Diagrams:
        return self


def drawings(proposals: pd.DataFrame, number: int = 12) -> Any:
    """Structures of the first proposals as a PIL image, three mixtures a row.

    Args:
        proposals: of `SolventDesigner.propose`.
        number: of mixtures at most.

    Raises:
        ConfigError: there are none.
    """
    from rdkit import Chem
    from rdkit.Chem import Draw

    if proposals.empty or number < 1:
        raise ConfigError("drawings: expected at least one proposal, got none")
    mols, legends = [], []
    for row in proposals.head(number).itertuples():
        mols.append(Chem.MolFromSmiles(f"{row.acceptor_smiles}.{row.donor_smiles}"))
        said = f"{row.acceptor} + {row.donor}, {row.ratio}, {row.eutectic_temperature:.0f} K"
        legends.append(said)
    return Draw.MolsToGridImage(
        mols, molsPerRow=3, subImgSize=(330, 230), legends=legends, returnPNG=False
    )
