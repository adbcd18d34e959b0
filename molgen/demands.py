"""What a delivered molecule has to meet, and the judge who says whether it does."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rdkit import Chem, rdBase

from diffcore.errors import ConfigError
from molgen.evaluate import poses
from molgen.evaluate.prepared import Prepared
from molgen.evaluate.table import METRICS, Metric
from molgen.evaluate.validity import reason as strict_reason
from molgen.evaluate.validity import smiles as graph_smiles
from molgen.repair import METHODS, repair

if TYPE_CHECKING:
    from molgen.datasets.reference import Reference

ALIASES = {"posebusters": "pb_valid"}
"""Other names of checks."""

OF_THE_GRAPH = frozenset(
    {
        "strict_valid",
        "molecule_stability",
        "connected",
        "midi_molecule_stability",
        "midi_validity",
        "connected_validity",
    }
)
"""Checks that coordinates do not change: they come before a repair, the others after it."""

DUPLICATE = "duplicate"
NOT_NOVEL = "in the training data"


WHY: Mapping[str, Callable[[Prepared], str]] = {
    "strict_valid": strict_reason,
    "pb_valid": poses.pb_failed,
    "pb_valid_no_energy": poses.pb_failed,
}
"""What a check that was not passed has to say, beyond its name."""


def checks() -> dict[str, Metric]:
    """The metrics that can be required: those that say yes or no of one molecule."""
    return {name: metric for name, metric in METRICS.items() if _says_yes_or_no(metric)}


def _says_yes_or_no(metric: Metric) -> bool:
    hints = getattr(metric.row, "__annotations__", {})
    return hints.get("return") in (bool, "bool", "bool | None")


@dataclass(frozen=True)
class Demands:
    """What every molecule has to meet.

    Attributes:
        require: names of yes-or-no metrics of `molgen.evaluate.METRICS` (``posebusters`` stands for
            ``pb_valid``), or one text with commas between them.
        unique: no two molecules of one canonical SMILES (hydrogens implicit, no stereo).
        novel: not among the training molecules of the reference, by the same SMILES.
        repair: relax the geometry with ``mmff`` or ``xtb`` before it is checked; see
            `molgen.repair`.
        reference: name of a shipped reference, for ``novel`` and for the valencies of
            ``strict_valid``; None takes RDKit's valencies.

    Raises:
        ConfigError: a name is unknown, or ``novel`` comes without a reference.
    """

    require: Sequence[str] = ()
    unique: bool = False
    novel: bool = False
    repair: str | None = None
    reference: str | None = "qm9"

    def __post_init__(self) -> None:
        """Check the names; ``require`` becomes a tuple."""
        given = self.require.split(",") if isinstance(self.require, str) else self.require
        names = dict.fromkeys(_checked(one.strip()) for one in given if one.strip())
        object.__setattr__(self, "require", tuple(names))
        if self.repair is not None and self.repair not in METHODS:
            known = ", ".join(METHODS)
            raise ConfigError(f"repair: expected one of {known}, got {self.repair!r}")
        if self.novel and self.reference is None:
            raise ConfigError("novel: there is no list of the molecules this model was trained on")

    def __bool__(self) -> bool:
        """Whether anything is demanded."""
        return bool(self.require or self.unique or self.novel or self.repair)

    def __str__(self) -> str:
        words = [*self.require, *(name for name in ("unique", "novel") if getattr(self, name))]
        return " ".join([*words, f"repair={self.repair}"] if self.repair else words)


def _checked(name: str) -> str:
    """The metric's own name.

    Raises:
        ConfigError: there is no such check.
    """
    name = ALIASES.get(name, name)
    known = checks()
    if name in known:
        return name
    if name in ("unique", "novel"):
        raise ConfigError(f"require: {name!r} is no check of one molecule but a demand of its own")
    listed = ", ".join(one for one, metric in known.items() if metric.family == "strict")
    expected = f"expected one of {listed}, or a legacy check of a paper"
    if name in METRICS:
        raise ConfigError(f"require: {name!r} does not say yes or no: {expected}")
    near = difflib.get_close_matches(name, [*known, *ALIASES], n=1, cutoff=0.5)
    guess = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(f"require: unknown check {name!r}: {guess}{expected}")


class Verdict(NamedTuple):
    """What the judge says of a molecule.

    Attributes:
        mol: The molecule, repaired if that was asked for; None if it is rejected.
        kind: Why it is rejected, as a class to be counted; empty otherwise.
        reason: The same with its particulars.
        smiles: Canonical SMILES without hydrogens and stereo; as it stands if RDKit refuses it.
    """

    mol: Chem.Mol | None
    kind: str
    reason: str
    smiles: str


class Judge:
    """Judges molecules one after the other; remembers the graphs that it let pass.

    Args:
        demands: what to meet.

    Raises:
        ConfigError: a demand needs a package that is not installed.
        DataError: there is no such reference.
    """

    def __init__(self, demands: Demands) -> None:
        """See the class."""
        self.demands = demands
        self.seen: set[str] = set()
        self._reference = _load(demands.reference) if demands else None
        self._valencies = None if self._reference is None else self._reference.valency
        known = checks()
        order = sorted(demands.require, key=lambda name: known[name].cost != "cheap")
        self._first = [name for name in order if not demands.repair or name in OF_THE_GRAPH]
        self._last = [name for name in order if name not in self._first]
        self._try_out(order)

    def __call__(self, mol: Chem.Mol | None) -> Verdict:
        """Judge one molecule, which is not changed; whatever goes wrong rejects it."""
        if mol is None:
            return Verdict(None, "no molecule", "no molecule", "")
        smiles = ""
        with rdBase.BlockLogs():
            try:
                prepared = Prepared(mol, self._valencies)
                smiles = graph_smiles(prepared)
                good, reason = self._judge(mol, prepared, smiles)
            except ConfigError:
                raise
            except Exception as error:  # a hostile molecule must cost itself, not the batch
                good, reason = None, f"could not be judged: {type(error).__name__}: {error}"
        if good is None:
            return Verdict(None, kind_of(reason), " ".join(reason.split()), smiles)
        self.seen.add(smiles)
        return Verdict(good, "", "", smiles)

    def _judge(self, mol: Chem.Mol, prepared: Prepared, smiles: str) -> tuple[Chem.Mol | None, str]:
        reason = self._failed(self._first, prepared) or self._known(smiles)
        if reason:
            return None, reason
        if self.demands.repair is None:
            return mol, ""
        done = repair(mol, self.demands.repair)
        if done.mol is None:
            return None, done.reason
        reason = self._failed(self._last, Prepared(done.mol, self._valencies))
        return (None, reason) if reason else (done.mol, "")

    def _known(self, smiles: str) -> str:
        if self.demands.unique and smiles in self.seen:
            return DUPLICATE
        if self.demands.novel and self._reference is not None:
            return NOT_NOVEL if self._reference.contains([smiles])[0] else ""
        return ""

    def _failed(self, names: Sequence[str], prepared: Prepared) -> str:
        """The first check that is not passed, and why; empty if there is none."""
        for name in names:
            row = METRICS[name].row
            assert row is not None
            value = row(prepared)
            if value is None:
                return f"{name}: could not be measured"
            if not value:
                why = WHY[name](prepared) if name in WHY else ""
                return f"{name}: {why}" if why else name
        return ""

    def _try_out(self, names: Sequence[str]) -> None:
        """Measure methane, so that a missing package is said before any work."""
        methane = Chem.MolFromMolBlock(METHANE, removeHs=False)
        for name in names:
            row = METRICS[name].row
            assert row is not None
            try:
                value = row(Prepared(methane, self._valencies))
            except ConfigError:
                raise
            except Exception as error:
                raise ConfigError(f"require: {name} cannot be measured: {error}") from error
            if value is None:
                raise ConfigError(f"require: {name} cannot be measured here: is its package there?")
        if self.demands.repair:
            METHODS[self.demands.repair](methane)


def kind_of(reason: str) -> str:
    """A reason without its particulars: of ``strict_valid: fragments: 2`` the first two parts.

    What was read of one molecule (a message of RDKit, an atom) comes after a colon.
    """
    parts = [part.strip() for part in reason.split(":")]
    return ": ".join(parts[: 2 if parts[0] in METRICS else 1])


def _load(name: str | None) -> Reference | None:
    if name is None:
        return None
    from molgen.datasets.reference import load_reference

    return load_reference(name)


METHANE = """methane
     RDKit          3D

  5  4  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 C   0  0
    0.6287    0.6287    0.6287 H   0  0
   -0.6287   -0.6287    0.6287 H   0  0
   -0.6287    0.6287   -0.6287 H   0  0
    0.6287   -0.6287   -0.6287 H   0  0
  1  2  1  0
  1  3  1  0
  1  4  1  0
  1  5  1  0
M  END
"""
