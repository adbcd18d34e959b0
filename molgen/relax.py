"""Relaxation of one molecule: MMFF94s by RDKit, GFN2-xTB by tblite. Arguments are never changed.

Positions in Angstrom, energies in kcal/mol, forces in eV/Angstrom.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdForceFieldHelpers

from diffcore.errors import ConfigError, DataError
from molgen.chem import sanitised

HARTREE_KCAL = 627.5094740631
"""kcal/mol of one Hartree (CODATA 2018)."""

HARTREE_EV = 27.211386245988
BOHR = 0.529177210903
"""Angstrom."""

Coordinates = NDArray[np.float64]


@dataclass(frozen=True)
class Relaxed:
    """A molecule at a minimum of its energy, or on the way to it.

    Attributes:
        mol: sanitised copy with the relaxed conformer, superposed on the one it came from; bonds
            and stereo marks are those it came with, whatever the geometry says now.
        energy_before: kcal/mol.
        energy_after: kcal/mol.
        rmsd: root mean square displacement of all atoms after superposition, Angstrom.
        converged: whether the forces fell below the bound.
        steps: energy and gradient evaluations made, where known, else 0.
    """

    mol: Chem.Mol
    energy_before: float
    energy_after: float
    rmsd: float
    converged: bool
    steps: int = 0

    @property
    def energy(self) -> float:
        """Relaxation energy in kcal/mol: before minus after."""
        return self.energy_before - self.energy_after


def relax_mmff(mol: Chem.Mol, max_steps: int = 1000) -> Relaxed:
    """Minimise the MMFF94s energy in vacuo (Halgren 1999, J. Comput. Chem. 20, 720).

    Raises:
        DataError: no 3D conformer, RDKit refuses the molecule, or MMFF94s lacks parameters for it.
    """
    copy, positions = _start(mol)
    with rdBase.BlockLogs():
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(copy, mmffVariant="MMFF94s")
        if properties is None:
            raise DataError("MMFF94s has no parameters for an atom of the molecule")
        field = rdForceFieldHelpers.MMFFGetMoleculeForceField(copy, properties)
        field.Initialize()
        before = float(field.CalcEnergy())
        left = field.Minimize(maxIts=max_steps)
        after = float(field.CalcEnergy())
    found = np.array(field.Positions(), dtype=np.float64).reshape(-1, 3)
    return _relaxed(copy, positions, found, (before, after), left == 0)


def relax_xtb(
    mol: Chem.Mol, solvent: str | None = None, fmax: float = 0.05, max_steps: int = 500
) -> Relaxed:
    """Minimise the GFN2-xTB energy (Bannwarth et al. 2019, JCTC 15, 1652) by L-BFGS.

    The total charge is the sum of the formal charges; an odd number of electrons means a doublet.

    Args:
        mol: molecule with explicit hydrogens and a 3D conformer.
        solvent: name of an ALPB solvent such as ``water``; None for the vacuum.
        fmax: largest force on an atom at convergence, eV/Angstrom.
        max_steps: gradient evaluations at most.

    Raises:
        ConfigError: tblite is not installed, or the solvent is unknown.
        DataError: no 3D conformer, RDKit refuses the molecule, or xTB does not converge for it.
    """
    from scipy.optimize import minimize

    interface, threadpool_limits = _packages()
    copy, positions = _start(mol)
    # More threads make a small molecule several times slower: they wait for each other.
    with threadpool_limits(limits=1):
        surface = _Surface(_gfn2(interface, copy, positions, solvent), fmax, max_steps)
        start = positions.ravel() * _STIFFNESS
        before = surface(start)[0]
        minimize(
            surface,
            start,
            jac=True,
            method="L-BFGS-B",
            callback=surface.stop,
            options={"maxfun": max_steps, "maxiter": max_steps, "gtol": 0.0, "ftol": 0.0},
        )
    energies = before * HARTREE_KCAL / HARTREE_EV, surface.energy * HARTREE_KCAL / HARTREE_EV
    return _relaxed(
        copy, positions, surface.positions, energies, surface.force <= fmax, surface.calls
    )


_STIFFNESS = 8.0
"""Square root of a bond's typical force constant, 70 eV/Angstrom^2: the minimiser sees coordinates
in which the first Hessian is near one."""


class _Surface:
    """Energy and gradient of scaled coordinates; remembers the lowest point that was seen."""

    def __init__(self, compute: Compute, fmax: float, max_steps: int) -> None:
        self.compute, self.fmax, self.max_steps = compute, fmax, max_steps
        self.calls = 0
        self.energy = self.force = np.inf
        self.positions: Coordinates = np.empty((0, 3))

    def __call__(self, scaled: Coordinates) -> tuple[float, Coordinates]:
        positions = scaled.reshape(-1, 3) / _STIFFNESS
        energy, gradient = self.compute(positions)
        self.calls += 1
        if not (np.isfinite(energy) and np.isfinite(gradient).all()):
            raise DataError("GFN2-xTB: the energy is not finite")
        if energy < self.energy:
            self.energy, self.positions = energy, positions
            self.force = float(np.linalg.norm(gradient, axis=1).max())
        return energy, gradient.ravel() / _STIFFNESS

    def stop(self, intermediate_result: Any) -> None:
        """Called by the minimiser after every step."""
        if self.force <= self.fmax or self.calls >= self.max_steps:
            raise StopIteration


Compute = Callable[[Coordinates], tuple[float, Coordinates]]
"""Positions [N, 3] -> energy in eV and its gradient [N, 3] in eV/Angstrom."""


def _gfn2(interface: Any, mol: Chem.Mol, positions: Coordinates, solvent: str | None) -> Compute:
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    charge = Chem.GetFormalCharge(mol)
    unpaired = int(numbers.sum() - charge) % 2
    try:
        method = interface.Calculator("GFN2-xTB", numbers, positions / BOHR, charge, unpaired)
        method.set("verbosity", 0)
    except RuntimeError as error:
        raise DataError(f"GFN2-xTB: {_line(error)}") from None
    if solvent is not None:
        try:
            method.add("alpb-solvation", solvent)
        except RuntimeError as error:
            raise ConfigError(f"solvent {solvent!r} is not known to xTB: {_line(error)}") from None
    last: list[Any] = [None]

    def compute(positions: Coordinates) -> tuple[float, Coordinates]:
        try:
            method.update(positions=positions / BOHR)
            last[0] = method.singlepoint(last[0])  # goes on from the last wave function
        except RuntimeError as error:
            raise DataError(f"GFN2-xTB: {_line(error)}") from None
        gradient = np.asarray(last[0]["gradient"]) * (HARTREE_EV / BOHR)
        return float(last[0]["energy"]) * HARTREE_EV, gradient

    return compute


def _packages() -> tuple[Any, Any]:
    """The interface of tblite, and the context manager that bounds threads."""
    try:
        from tblite import interface
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise ConfigError(
            f'GFN2-xTB needs the package {error.name}: pip install "designloom[energy]"'
        ) from None
    return interface, threadpool_limits


def _start(mol: Chem.Mol) -> tuple[Chem.Mol, Coordinates]:
    """A sanitised copy with one conformer, and its positions [N, 3]."""
    if mol.GetNumConformers() == 0 or not mol.GetConformer().Is3D():
        raise DataError("expected a molecule with a 3D conformer, got none")
    copy = sanitised(mol)
    if copy is None:
        raise DataError("RDKit refuses the molecule")
    positions = np.array(copy.GetConformer().GetPositions(), dtype=np.float64).reshape(-1, 3)
    if not np.isfinite(positions).all():
        raise DataError("expected finite positions, got inf or nan")
    return copy, positions


def _relaxed(
    copy: Chem.Mol,
    before: Coordinates,
    after: Coordinates,
    energies: tuple[float, float],
    converged: bool,
    steps: int = 0,
) -> Relaxed:
    if not (np.isfinite(after).all() and np.isfinite(energies).all()):
        raise DataError("the relaxation left finite numbers")
    placed = superpose(after, before)
    copy.GetConformer().SetPositions(placed)
    rmsd = float(np.sqrt(((placed - before) ** 2).sum(1).mean())) if len(before) else 0.0
    return Relaxed(copy, energies[0], energies[1], rmsd, converged, steps)


def superpose(moved: Coordinates, fixed: Coordinates) -> Coordinates:
    """`moved` [N, 3] rotated and shifted onto `fixed` [N, 3], atom by atom (Kabsch 1976)."""
    if not len(moved):
        return moved
    a, b = moved - moved.mean(0), fixed - fixed.mean(0)
    left, _, right = np.linalg.svd(a.T @ b)
    left[:, -1] *= np.sign(np.linalg.det(left) * np.linalg.det(right))
    return np.ascontiguousarray(a @ left @ right + fixed.mean(0))


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
