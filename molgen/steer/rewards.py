"""Rewards of molecules: named ones, and any function of a molecule as a reward of states.

A reward need not be differentiable. Larger is better. It is asked for finished molecules and, by
`feynman_kac`, for what the model predicts on the way, as far as that is a whole molecule.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffcore.errors import ConfigError
from diffcore.state import State
from molgen.sampling import named_molecule
from molgen.steer.check import placed, unmet

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.steer.request import Request
    from molgen.tasks.molecules import MoleculeTask

MoleculeReward = Callable[["Chem.Mol"], float]
"""A sanitised molecule with hydrogens and a conformer -> a number; larger is better."""


@dataclass(frozen=True)
class NamedReward:
    """A reward that can be asked for by name.

    Attributes:
        make: text after the colon -> the reward.
        summary: what it is, with its unit.
        argument: what stands after the colon; empty if nothing does.
    """

    make: Callable[[str], MoleculeReward]
    summary: str
    argument: str = ""


def _qed(_: str) -> MoleculeReward:
    from molgen.evaluate.prepared import Prepared
    from molgen.evaluate.properties import qed

    return lambda mol: _number(qed(Prepared(mol)))


def _sa(_: str) -> MoleculeReward:
    from molgen.evaluate.prepared import Prepared
    from molgen.evaluate.properties import sa_score

    return lambda mol: -_number(sa_score(Prepared(mol)))


def _logp(_: str) -> MoleculeReward:
    from molgen.evaluate.prepared import Prepared
    from molgen.evaluate.properties import logp

    return lambda mol: _number(logp(Prepared(mol)))


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _similarity(smiles: str) -> MoleculeReward:
    from rdkit import Chem, DataStructs, rdBase
    from rdkit.Chem import rdFingerprintGenerator

    with rdBase.BlockLogs():
        wanted = Chem.MolFromSmiles(smiles)
    if wanted is None or not wanted.GetNumAtoms():
        raise ConfigError(f"reward: expected similarity:SMILES, got 'similarity:{smiles}'")
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2)
    target = generator.GetCountFingerprint(Chem.RemoveHs(wanted))

    def similarity(mol: Chem.Mol) -> float:
        found = generator.GetCountFingerprint(Chem.RemoveHs(mol))
        return float(DataStructs.TanimotoSimilarity(found, target))

    return similarity


def _gap(_: str) -> MoleculeReward:
    try:
        from tblite import interface
    except ImportError as error:
        raise ConfigError(
            f'reward gap needs the package {error.name}: pip install "designloom[energy]"'
        ) from None
    from molgen.relax import BOHR, HARTREE_EV

    def gap(mol: Chem.Mol) -> float:
        from rdkit import Chem

        numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
        charge = Chem.GetFormalCharge(mol)
        place = mol.GetConformer().GetPositions() / BOHR
        unpaired = (sum(numbers) - charge) % 2
        method = interface.Calculator(
            "GFN2-xTB", torch.tensor(numbers).numpy(), place, charge, unpaired
        )
        method.set("verbosity", 0)
        found = method.singlepoint()
        energies, filled = found["orbital-energies"], found["orbital-occupations"]
        occupied = filled > 0.5
        return float(energies[~occupied].min() - energies[occupied].max()) * HARTREE_EV

    return gap


REWARDS: Mapping[str, NamedReward] = {
    "qed": NamedReward(_qed, "drug-likeness, 0 to 1 (Bickerton et al. 2012)"),
    "sa": NamedReward(
        _sa, "minus the synthetic accessibility score, -10 (hard) to -1 (easy) (Ertl et al. 2009)"
    ),
    "logp": NamedReward(_logp, "octanol-water partition, log10 (Wildman and Crippen 1999)"),
    "similarity": NamedReward(
        _similarity, "Tanimoto similarity of Morgan counts of radius 2, 0 to 1", "SMILES"
    ),
    "gap": NamedReward(_gap, "HOMO-LUMO gap by GFN2-xTB as the molecule stands, eV"),
}
"""Every named reward. Larger is better in all of them."""


def reward_of(given: str | MoleculeReward) -> MoleculeReward:
    """A reward by name (``qed``, ``similarity:CCO``), or a function as it is.

    Raises:
        ConfigError: an unknown name, a missing or superfluous argument, or no function.
    """
    if callable(given):
        return given
    names = ", ".join(n + (f":{r.argument}" if r.argument else "") for n, r in REWARDS.items())
    if not isinstance(given, str):
        raise ConfigError(f"reward: expected a function or one of {names}, got {given!r}")
    name, _, argument = given.strip().partition(":")
    if name not in REWARDS:
        raise ConfigError(f"reward: expected a function or one of {names}, got {given!r}")
    one = REWARDS[name]
    if bool(argument) != bool(one.argument):
        expected = f"{name}:{one.argument}" if one.argument else name
        raise ConfigError(f"reward: expected {expected}, got {given!r}")
    return one.make(argument)


@dataclass
class StateReward:
    """A reward of molecules as a reward of the model's clean states, for `diffcore.search`.

    Whatever has no reward is NaN: what is no valid molecule or not what was asked for (the reward
    is not called), what the reward raises at, and what it returns NaN or infinity for.

    Attributes:
        task: of the model.
        request: what every molecule has to be.
        reward: the reward.
        calls: calls of the reward.
        failed: why states had no reward, counted.
        error: what the reward said when it raised first.
    """

    task: MoleculeTask
    request: Request
    reward: MoleculeReward
    calls: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    error: str = ""

    def __call__(self, state: State) -> Tensor:
        """Rewards [B]."""
        values = [self._one(arrays) for arrays in self.task.decode(state)]
        return torch.tensor(values, dtype=torch.float64)

    def molecule(self, arrays: Mapping[str, Any], name: str, seed: int, index: int) -> Chem.Mol:
        """The molecule of decoded arrays, in the frame of the fragment if there is one."""
        found = {key: x.numpy() for key, x in arrays.items()}
        return named_molecule(placed(self.request, found), name, seed, index)

    def _one(self, arrays: Mapping[str, Tensor]) -> float:
        from rdkit import rdBase

        from molgen.evaluate.prepared import Prepared
        from molgen.evaluate.validity import strict_valid

        if unmet(self.request, {key: x.numpy() for key, x in arrays.items()}):
            return self._none("not what was asked for")
        with rdBase.BlockLogs():
            mol = self.molecule(arrays, "", 0, 0)
            if not strict_valid(Prepared(mol)):
                return self._none("not a valid molecule")
        self.calls += 1
        try:
            value = float(self.reward(mol))
        except Exception as error:
            text = " ".join(str(error).split())
            self.error = self.error or f"{type(error).__name__}: {text}"
            return self._none(f"the reward raised {type(error).__name__}")
        return value if math.isfinite(value) else self._none(f"the reward was {value}")

    def _none(self, why: str) -> float:
        self.failed[why] += 1
        return math.nan
