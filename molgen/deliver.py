"""Exactly as many good molecules as were asked for: reject, refill, repair.

Works over any endless sequence of molecules. The first ``n`` that meet the demands are taken in the
order of the sequence, however they are made: asking for more continues the same list.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, field, fields
from itertools import islice
from typing import TYPE_CHECKING

from rdkit import Chem

from diffcore.errors import ConfigError, YieldError
from molgen.demands import Demands, Judge
from molgen.progress import YieldBar

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Delivery", "Demands", "Ledger", "Rejected", "Source", "deliver", "good_molecules"]

Source = Callable[[int, int, Callable[[float], object] | None], "Iterable[Chem.Mol | None]"]
"""``source(start, count, done)``: molecules ``start`` to ``start + count`` of an endless sequence;
``done`` is told the work done since its last call, in molecules."""

MIN_TRIES = 200
"""Nothing is called hopeless before."""

CHECK_EVERY = 50
"""Tries between two looks at the yield."""

TRIES_EACH = 100
"""Molecules made at most for each one asked for, unless told: a yield of one per cent."""

LARGEST_REQUEST = 256
"""Molecules asked of a source at a time."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rejected:
    """A molecule that was made and not delivered: its place in the sequence, and why."""

    index: int
    reason: str
    smiles: str


@dataclass
class Ledger:
    """What was made so far.

    Attributes:
        made: molecules tried; the next one has this index.
        good: indices of those that met the demands, ascending.
        log: those that did not, in order.
        kinds: reasons without their particulars, counted.
        repaired: good ones whose geometry was repaired.
        seconds: wall time of making and judging.
    """

    made: int = 0
    good: list[int] = field(default_factory=list)
    log: list[Rejected] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    repaired: int = 0
    seconds: float = 0.0

    def summary(self) -> str:
        """Made, delivered, rejected and why, repaired, in one line."""
        rejected = self.made - len(self.good)
        share = f" ({100 * len(self.good) / self.made:.1f} %)" if self.made else ""
        text = f"{len(self.good)} good of {self.made} made{share}"
        text += f", {self.repaired} repaired" if self.repaired else ""
        if rejected:
            text += f"; rejected {rejected}: {_counts(self.kinds)}"
        return text


@dataclass(frozen=True)
class Delivery:
    """The molecules that meet the demands, and what became of the others.

    Attributes:
        mols: exactly as many as were asked for (fewer only in a `YieldError`), each with the
            properties `index` (its place in the sequence) and `demands`.
        made: molecules that were tried.
        rejected: why molecules were rejected, and how many for each reason; most frequent first.
        repaired: delivered molecules whose geometry was repaired.
        log: every rejected molecule: index, reason, SMILES.
        seconds: wall time.
        demands: what was demanded.
    """

    mols: list[Chem.Mol] = field(repr=False)
    made: int
    rejected: dict[str, int]
    repaired: int
    log: list[Rejected] = field(repr=False)
    seconds: float
    demands: Demands

    @property
    def table(self) -> pd.DataFrame:
        """The log as a table: index, reason, smiles."""
        import pandas as pd

        columns = [one.name for one in fields(Rejected)]
        return pd.DataFrame([astuple(row) for row in self.log], columns=columns)

    def __str__(self) -> str:
        """One line."""
        good, bad = len(self.mols), sum(self.rejected.values())
        share = f" ({100 * good / self.made:.1f} %)" if self.made else ""
        text = f"{good} good of {self.made} made{share} in {self.seconds:.0f} s"
        text += f", {self.repaired} repaired" if self.repaired else ""
        return f"{text}; rejected {bad}: {_counts(self.rejected)}" if bad else text

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><td style='text-align:left'>{escape(kind)}</td><td>{count}</td></tr>"
            for kind, count in self.rejected.items()
        )
        title = escape(str(self).split(";")[0])
        demands = escape(str(self.demands) or "nothing demanded")
        head = "<tr><th style='text-align:left'>rejected because</th><th>molecules</th></tr>"
        table = f"<table>{head}{rows}</table>" if rows else ""
        return f"<p><b>{title}</b> ({demands})</p>{table}"


def deliver(
    candidates: Source | Iterable[Chem.Mol | None],
    n: int,
    demands: Demands,
    *,
    max_tries: int | None = None,
    progress: bool | None = None,
) -> Delivery:
    """Take molecules until ``n`` meet the demands.

    Args:
        candidates: an endless sequence of molecules: anything to iterate over, or a `Source`, which
            is asked for no more molecules than it probably takes.
        n: how many.
        demands: what every one has to meet.
        max_tries: molecules to take at most; 100 for each one asked for (at least 1000) if left
            out. The run stops before, as soon as this bound is out of reach: see
            `good_molecules`.
        progress: show a bar; by default where the output is a terminal or a notebook.

    Returns:
        The molecules, in the order of the sequence, and the account of the others.

    Raises:
        ConfigError: an option is outside what is allowed, or a package is missing.
        YieldError: the yield is hopeless; its ``delivery`` holds what there is.
    """
    ledger = Ledger()
    mols: list[Chem.Mol] = []

    def delivery() -> Delivery:
        kinds = dict(ledger.kinds.most_common())
        return Delivery(
            mols, ledger.made, kinds, ledger.repaired, ledger.log, ledger.seconds, demands
        )

    try:
        for mol in good_molecules(
            candidates, n, demands, ledger, max_tries=max_tries, progress=progress
        ):
            mols.append(mol)
    except YieldError as error:
        error.delivery = delivery()
        raise
    return delivery()


def good_molecules(
    candidates: Source | Iterable[Chem.Mol | None],
    n: int,
    demands: Demands,
    ledger: Ledger,
    *,
    seen: Iterable[str] = (),
    max_tries: int | None = None,
    progress: bool | None = None,
) -> Iterator[Chem.Mol]:
    """The molecules of `deliver` one by one, with the account kept in ``ledger``.

    An interrupted delivery goes on with a ledger that holds ``made`` and ``good`` and the graphs
    that it delivered (``seen``, canonical SMILES), and a `Source`; it ends with the same molecules.

    Every 50 tries from the 200th on, the yield of the latest half of the tries (200 at least) is
    looked at: where even its upper 95 % bound (Clopper and Pearson 1934) would not bring the
    missing molecules within ``max_tries``, the run stops. So does one whose new graphs run out.

    Raises:
        ConfigError: an option is outside what is allowed, or a package is missing.
        YieldError: the yield is hopeless.
    """
    if n < 1:
        raise ConfigError(f"n: expected at least 1 molecule, got {n}")
    limit = max(1000, TRIES_EACH * n) if max_tries is None else max_tries
    if limit < n:
        raise ConfigError(f"max_tries: expected at least the {n} molecules asked for, got {limit}")
    source = candidates if callable(candidates) else _taken_from(candidates)
    judge = Judge(demands)
    judge.seen.update(seen)
    return _good(source, n, judge, ledger, limit, progress)


def _good(
    source: Source, n: int, judge: Judge, ledger: Ledger, limit: int, progress: bool | None
) -> Iterator[Chem.Mol]:
    with YieldBar(n, good=len(ledger.good), show=progress) as bar:
        while len(ledger.good) < n:
            if ledger.made >= limit:
                raise YieldError(f"{_state(n, ledger)}; max_tries is {limit}")
            count = _request(n, ledger, limit)
            began, before = time.monotonic(), ledger.made
            for mol in source(ledger.made, count, bar.worked):
                found = _enter(mol, judge, ledger)
                bar.judged(found is not None)
                if found is not None:
                    ledger.seconds += time.monotonic() - began
                    yield found
                    began = time.monotonic()
                if len(ledger.good) == n:
                    break
                _check_yield(n, ledger, limit)
            ledger.seconds += time.monotonic() - began
            if ledger.made == before:
                raise YieldError(
                    f"the source ended after {ledger.made} molecules: {_state(n, ledger)}"
                )


def _enter(mol: Chem.Mol | None, judge: Judge, ledger: Ledger) -> Chem.Mol | None:
    """Judge the next molecule and enter it: a copy with its properties if it is good."""
    index = ledger.made
    verdict = judge(mol)
    ledger.made += 1
    if verdict.mol is None:
        ledger.log.append(Rejected(index, verdict.reason, verdict.smiles))
        ledger.kinds[verdict.kind] += 1
        return None
    ledger.good.append(index)
    ledger.repaired += judge.demands.repair is not None
    good = Chem.Mol(verdict.mol)
    good.SetProp("index", str(index))
    good.SetProp("demands", str(judge.demands))
    return good


def _request(n: int, ledger: Ledger, limit: int) -> int:
    """How many to ask for: what it probably takes, with a margin; small batches are dear."""
    missing = n - len(ledger.good)
    rate = (len(ledger.good) + 8) / (ledger.made + 10)
    likely = math.ceil((missing + math.sqrt(missing)) / rate)
    return max(1, min(likely, LARGEST_REQUEST, limit - ledger.made))


def _check_yield(n: int, ledger: Ledger, limit: int) -> None:
    """Raise YieldError if the missing molecules are out of reach."""
    made, missing = ledger.made, n - len(ledger.good)
    if made < MIN_TRIES or made % CHECK_EVERY:
        return
    window = max(MIN_TRIES, made // 2)
    hits = len(ledger.good) - bisect_left(ledger.good, made - window)
    best = upper_bound(hits, window)
    if best * (limit - made) < missing:
        share = f"{100 * best:.2g} %"
        raise YieldError(
            f"{_state(n, ledger)}; {hits} of the last {window} were good, so probably less than "
            f"{share} will be: the missing {missing} are out of reach of max_tries, {limit}"
        )


def upper_bound(hits: int, tries: int) -> float:
    """Upper 95 % bound of a share after ``hits`` of ``tries`` (Clopper and Pearson 1934)."""
    if hits >= tries:
        return 1.0
    from scipy.special import betaincinv

    return float(betaincinv(hits + 1, tries - hits, CONFIDENCE))


def _state(n: int, ledger: Ledger) -> str:
    good = len(ledger.good)
    return f"{good} of {n} molecules after {ledger.made} tries (rejected: {_counts(ledger.kinds)})"


def _counts(kinds: Counter[str] | dict[str, int]) -> str:
    ordered = sorted(kinds.items(), key=lambda item: -item[1])
    return ", ".join(f"{kind} {count}" for kind, count in ordered) or "none"


def _taken_from(candidates: Iterable[Chem.Mol | None]) -> Source:
    """A source that takes whatever comes next."""
    rest = iter(candidates)

    def source(
        start: int, count: int, done: Callable[[float], object] | None
    ) -> Iterator[Chem.Mol | None]:
        for mol in islice(rest, count):
            if done is not None:
                done(1.0)
            yield mol

    return source
