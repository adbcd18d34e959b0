"""What is asked of every molecule, checked as a whole before anything is sampled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffcore.errors import ConfigError
from molgen.steer.formula import Formula, check_formula, parse_formula, write_formula
from molgen.steer.fragments import Fragment, fragment_from_mol, fragment_from_smiles
from molgen.targets import Given, Target, parse_targets

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.tasks.molecules import MoleculeTask


@dataclass(frozen=True)
class Request:
    """What every molecule has to be. Use `Request.parse`.

    Attributes:
        sizes: allowed numbers of atoms, with their weights in the draw.
        formula: atoms of every element; None for any.
        charge: total charge in e; None for any. A formula without a charge is neutral.
        fragment: atoms, bonds and places that are kept.
        targets: properties.
        strength: pull of the predictor's gradient towards them; 0 is the network's own condition.
        candidates: molecules made for each one handed out, chosen by the predictor.
    """

    sizes: Mapping[int, int]
    formula: Formula | None = None
    charge: int | None = None
    fragment: Fragment | None = None
    targets: tuple[Target, ...] = ()
    strength: float = 1.0
    candidates: int = 1

    @classmethod
    def parse(
        cls,
        task: MoleculeTask,
        *,
        n_atoms: int | None = None,
        formula: str | None = None,
        charge: int | None = None,
        property: Mapping[str, Given] | None = None,
        strength: float = 1.0,
        candidates: int = 1,
        scaffold: str | None = None,
        keep: Chem.Mol | None = None,
    ) -> Request:
        """Read and check a request.

        Args:
            task: of the model that shall fulfil it.
            n_atoms: atoms, hydrogens included.
            formula: such as ``C7H10O2``.
            charge: total charge in e.
            property: see `molgen.targets.parse_targets`.
            strength: pull towards the properties, 0 or more.
            candidates: molecules made for each one handed out, 1 or more.
            scaffold: SMILES or SMARTS of a part without coordinates.
            keep: a part with coordinates.

        Raises:
            ConfigError: it cannot be read, the model cannot fulfil it, or it contradicts itself.
        """
        if scaffold is not None and keep is not None:
            raise ConfigError("expected a scaffold or a fragment to keep, got both")
        part = None if scaffold is None else fragment_from_smiles(scaffold)
        part = part if keep is None else fragment_from_mol(keep)
        counts = None if formula is None else parse_formula(formula)
        charge = _checked_charge(charge, task, counts)
        _check_size(task, n_atoms)
        if counts is not None:
            check_formula(counts, charge or 0, task.elements)
            _check_formula_size(task, counts, n_atoms)
        if part is not None:
            _check_fragment(task, part, counts)
        size = n_atoms if counts is None else sum(counts.values())
        return cls(
            sizes=_sizes(task, size, part),
            formula=counts,
            charge=charge,
            fragment=part,
            targets=parse_targets(property or {}, task),
            strength=_checked_strength(strength),
            candidates=_checked_candidates(candidates),
        )

    @property
    def steers(self) -> bool:
        """Whether it is more than a size and properties, so that a draw can fail it."""
        return not (self.formula is None and self.charge is None and self.fragment is None)

    def __str__(self) -> str:
        """In words."""
        parts = [] if self.formula is None else [write_formula(self.formula)]
        parts += [] if self.charge is None else [f"charge {self.charge:+d}"]
        parts += [] if self.fragment is None else [f"the {self.fragment.what}"]
        return ", ".join(parts) or "any molecule"


def check_reward(reward: object, budget: object, search: object, demanded: bool) -> None:
    """Refuse options that do not go together.

    Raises:
        ConfigError: a budget or a search without a reward, or demands beside one.
    """
    if reward is None:
        for name, value in (("budget", budget), ("search", search)):
            if value is not None:
                raise ConfigError(f"{name}: expected a reward beside it, got {value!r} alone")
    elif demanded:
        raise ConfigError(
            "reward: molecules of a reward are valid and unique; expected no require, unique, "
            "novel or repair beside it"
        )


def _checked_strength(strength: float) -> float:
    if not 0 <= strength < math.inf:
        raise ConfigError(f"strength: expected a number of 0 or more, got {strength}")
    return strength


def _checked_candidates(candidates: int) -> int:
    if candidates < 1:
        raise ConfigError(f"candidates: expected at least 1, got {candidates}")
    return candidates


def _checked_charge(charge: int | None, task: MoleculeTask, counts: Formula | None) -> int | None:
    if charge is None:
        return None if counts is None else 0
    if isinstance(charge, bool) or not isinstance(charge, int):
        raise ConfigError(f"charge: expected a whole number, got {charge!r}")
    low, high = min(task.charges), max(task.charges)
    most = max(task.sizes) if counts is None else sum(counts.values())
    if not low * most <= charge <= high * most:
        raise ConfigError(
            f"charge: the model's atoms have charges from {low:+d} to {high:+d}, got {charge:+d}"
        )
    return charge


def _check_size(task: MoleculeTask, n_atoms: int | None) -> None:
    low, high = min(task.sizes), max(task.sizes)
    if n_atoms is not None and not low <= n_atoms <= high:
        raise ConfigError(
            f"n_atoms: the model makes molecules of {low} to {high} atoms, got {n_atoms}"
        )


def _check_formula_size(task: MoleculeTask, counts: Formula, n_atoms: int | None) -> None:
    low, high = min(task.sizes), max(task.sizes)
    size, name = sum(counts.values()), write_formula(counts)
    if not low <= size <= high:
        raise ConfigError(
            f"formula: the model makes molecules of {low} to {high} atoms, {name} has {size}"
        )
    if n_atoms is not None and n_atoms != size:
        raise ConfigError(f"n_atoms: {name} has {size} atoms, got n_atoms={n_atoms}")


def _check_fragment(task: MoleculeTask, part: Fragment, counts: Formula | None) -> None:
    what = part.what
    for kind, values, known in (
        ("element", part.atomic_number, task.elements),
        ("charge", part.charge, task.charges),
    ):
        unknown = [v for v in values.tolist() if v not in known]
        if unknown:
            named = [write_formula({v: 1}) if kind == "element" else f"{v:+d}" for v in known]
            got = write_formula({unknown[0]: 1}) if kind == "element" else f"{unknown[0]:+d}"
            raise ConfigError(f"{what}: the model knows {kind}s {', '.join(named)}, got {got}")
    if not part.open.any():
        raise ConfigError(f"{what}: no atom has a hydrogen or a '*' where the rest could go")
    if counts is not None:
        short = {z: k for z, k in part.formula.items() if counts.get(z, 0) < k}
        if short:
            raise ConfigError(
                f"{what}: {write_formula(part.formula)} is not contained in the formula "
                f"{write_formula(counts)}"
            )


def _sizes(task: MoleculeTask, size: int | None, part: Fragment | None) -> dict[int, int]:
    """Allowed sizes and their weights: the model's, but larger than the fragment by itself."""
    if size is not None:
        if part is not None and size < part.least:
            raise ConfigError(
                f"{part.what}: needs at least {part.least} atoms in the molecule, got {size}"
            )
        return {size: 1}
    if part is None:
        return dict(task.sizes)
    larger = {n: k for n, k in task.sizes.items() if n > part.saturated}
    larger = larger or {n: k for n, k in task.sizes.items() if n == part.saturated}
    if not larger:
        high = max(task.sizes)
        raise ConfigError(
            f"{part.what}: with its hydrogens it has {part.saturated} atoms, the model makes "
            f"molecules of up to {high}"
        )
    return larger
