"""Properties of the graph that medicinal chemists look at; of molecules that sanitise."""

from __future__ import annotations

import os
from functools import cache, lru_cache
from threading import Lock
from types import ModuleType
from typing import Any

from rdkit import RDConfig
from rdkit.Chem import QED, FilterCatalog, rdMolDescriptors

from molgen.evaluate.prepared import Prepared

_qed: Any = QED.qed  # has no annotations
_loading = Lock()


def logp(prepared: Prepared) -> float | None:
    """Octanol-water partition coefficient (log10) after Wildman and Crippen (1999)."""
    clean = prepared.sanitised
    return None if clean is None else float(rdMolDescriptors.CalcCrippenDescriptors(clean)[0])


def qed(prepared: Prepared) -> float | None:
    """Quantitative estimate of drug-likeness, 0 to 1 (Bickerton et al. 2012)."""
    return None if prepared.sanitised is None else float(_qed(prepared.sanitised))


def sa_score(prepared: Prepared) -> float | None:
    """Synthetic accessibility, 1 (easy) to 10 (hard) (Ertl and Schuffenhauer 2009)."""
    if prepared.heavy is None or prepared.heavy.GetNumAtoms() == 0:
        return None
    return float(_sascorer().calculateScore(prepared.heavy))


def lipinski_violations(prepared: Prepared) -> int | None:
    """How many of Lipinski's four rules a molecule breaks.

    Weight above 500 g/mol, log P above 5, more than 5 hydrogen-bond donors, more than 10 acceptors,
    donors and acceptors counted as N-H and O-H, and as N and O (Lipinski et al. 1997).
    """
    clean = prepared.sanitised
    if clean is None:
        return None
    broken: tuple[bool, ...] = (
        rdMolDescriptors._CalcMolWt(clean) > 500,
        rdMolDescriptors.CalcCrippenDescriptors(clean)[0] > 5,
        rdMolDescriptors.CalcNumLipinskiHBD(clean) > 5,
        rdMolDescriptors.CalcNumLipinskiHBA(clean) > 10,
    )
    return sum(broken)


def pains_alerts(prepared: Prepared) -> str | None:
    """Names of the PAINS patterns found, joined by `; ` (Baell and Holloway 2010)."""
    return _alerts(prepared, "PAINS")


def brenk_alerts(prepared: Prepared) -> str | None:
    """Names of the unwanted groups found, joined by `; ` (Brenk et al. 2008)."""
    return _alerts(prepared, "BRENK")


def _alerts(prepared: Prepared, name: str) -> str | None:
    if prepared.heavy is None:
        return None
    matches = _catalogue(name).GetMatches(prepared.heavy)
    return "; ".join(sorted(match.GetDescription() for match in matches))


@cache
def _catalogue(name: str) -> FilterCatalog.FilterCatalog:
    params = FilterCatalog.FilterCatalogParams()
    params.AddCatalog(getattr(FilterCatalog.FilterCatalogParams.FilterCatalogs, name))
    return FilterCatalog.FilterCatalog(params)


def _sascorer() -> ModuleType:
    """RDKit's contributed scorer, loaded from its file: `sys.path` stays as it is."""
    with _loading:
        return _loaded_sascorer()


@lru_cache(maxsize=1)
def _loaded_sascorer() -> ModuleType:
    from importlib.util import module_from_spec, spec_from_file_location

    path = os.path.join(RDConfig.RDContribDir, "SA_Score", "sascorer.py")
    spec = spec_from_file_location("molgen._rdkit_sascorer", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"RDKit came without {path}")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.readFragmentScores()
    return module
