"""Rewards: named ones against RDKit and tblite, and searches through the shipped model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from rdkit import Chem
from rdkit.Chem import QED, AllChem, Crippen, rdMolDescriptors

from diffcore.errors import ConfigError, YieldError
from molgen.evaluate import evaluate
from molgen.generate import MoleculeGenerator
from molgen.steer.optimise import Optimised
from molgen.steer.rewards import REWARDS, reward_of
from molgen.weights.files import shipped

STEPS = 15


def embedded(smiles: str) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=7) == 0
    return mol


@pytest.fixture(scope="module")
def generator() -> Iterator[MoleculeGenerator]:
    if "qm9" not in shipped():
        pytest.skip("the weights qm9 are not in this checkout")
    yield MoleculeGenerator.from_pretrained("qm9")


def climb(generator: MoleculeGenerator, n: int, reward: Any, **options: Any) -> Optimised:
    options = {"budget": 12 * STEPS, "seed": 1, **options}
    return generator.optimise(n, reward, steps=STEPS, progress=False, **options)


def carbons(mol: Chem.Mol) -> float:
    return float(sum(atom.GetAtomicNum() == 6 for atom in mol.GetAtoms()))


# ---------------------------------------------------------------------------------- named rewards


def test_named_rewards_are_rdkits_own() -> None:
    mol = embedded("CC(=O)Nc1ccccc1")
    assert reward_of("qed")(mol) == pytest.approx(QED.qed(mol))
    assert reward_of("logp")(mol) == pytest.approx(Crippen.MolLogP(mol))
    assert reward_of("similarity:CC(=O)Nc1ccccc1")(mol) == 1
    assert 0 < reward_of("similarity:CC(=O)N")(mol) < 1


def test_easier_molecules_have_the_larger_sa_reward() -> None:
    easy, hard = embedded("CC(=O)Nc1ccccc1"), embedded("C1C2C3C1C1C2C13")
    assert -10 <= reward_of("sa")(hard) < reward_of("sa")(easy) <= -1


def test_the_gap_is_that_of_the_orbitals() -> None:
    pytest.importorskip("tblite")
    gap = reward_of("gap")
    ethylene, butadiene = gap(embedded("C=C")), gap(embedded("C=CC=C"))
    methane = gap(embedded("C"))
    assert methane > ethylene > butadiene > 0  # conjugation closes the gap
    assert 10 < methane < 25  # eV


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("druglike", "expected a function or one of qed, sa, logp, similarity:SMILES, gap"),
        (3.0, "expected a function or one of"),
        ("qed:CCO", "reward: expected qed, got 'qed:CCO'"),
        ("similarity", "reward: expected similarity:SMILES, got 'similarity'"),
        ("similarity:c1ccc", "reward: expected similarity:SMILES, got 'similarity:c1ccc'"),
    ],
)
def test_rewards_that_are_none_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        reward_of(given)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert all(one.summary for one in REWARDS.values())


# --------------------------------------------------------------------------------------- searches


@pytest.mark.parametrize(
    "search", ["best_of_n", "feynman_kac", "tree_sampling", "tree_search", "evolution"]
)
def test_what_comes_back_is_valid_different_and_counted(
    generator: MoleculeGenerator, search: str
) -> None:
    called: list[float] = []

    def reward(mol: Chem.Mol) -> float:
        assert not mol.NeedsUpdatePropertyCache() and mol.GetConformer().Is3D()
        called.append(carbons(mol))
        return called[-1]

    before = generator.evaluations
    found = climb(generator, 3, reward, search=search)
    assert generator.evaluations - before == found.evaluations <= 12 * STEPS
    assert found.evaluations > 11 * STEPS and found.calls < found.evaluations
    assert found.reward_calls == len(called) <= found.scored
    assert found.scored - found.reward_calls == sum(found.failed.values())
    assert found.rewards == [carbons(m) for m in found.mols]
    assert found.rewards == sorted(found.rewards, reverse=True)
    assert found.history[-1] == (found.evaluations, found.rewards[0])
    graphs = {Chem.MolToSmiles(Chem.RemoveHs(m)) for m in found.mols}
    assert len(graphs) == len(found.mols) > 0
    assert evaluate(found.mols, progress=False).value("strict_valid") == 100
    assert [float(m.GetProp("reward")) for m in found.mols] == found.rewards


def test_the_same_seed_gives_the_same_molecules(generator: MoleculeGenerator) -> None:
    def drawn(seed: int) -> list[str]:
        found = climb(generator, 3, "qed", seed=seed)
        return [Chem.MolToMolBlock(m) for m in found.mols]

    assert drawn(1) == drawn(1) != drawn(2)


@pytest.mark.parametrize("fault", ["raises", "nan", "text"])
def test_a_reward_that_fails_costs_its_molecule_alone(
    generator: MoleculeGenerator, fault: str
) -> None:
    def reward(mol: Chem.Mol) -> Any:
        if rdMolDescriptors.CalcNumRings(mol):
            if fault == "raises":
                raise ZeroDivisionError("a ring\nof zeros")
            return math.nan if fault == "nan" else "no number"
        return carbons(mol)

    found = climb(generator, 2, reward, search="best_of_n")
    why = {
        "raises": "the reward raised ZeroDivisionError",
        "nan": "the reward was nan",
        "text": "the reward raised ValueError",
    }[fault]
    assert found.failed[why] > 0 and found.dropped == sum(found.failed.values())
    assert found.finished == 12 and all(not m.GetRingInfo().NumRings() for m in found.mols)
    assert found.error == ("ZeroDivisionError: a ring of zeros" if fault == "raises" else "") or (
        fault == "text" and found.error.startswith("ValueError: could not convert")
    )


def test_a_reward_that_always_fails_is_an_error_that_says_why(
    generator: MoleculeGenerator,
) -> None:
    def reward(mol: Chem.Mol) -> float:
        raise KeyError("no docking box")

    with pytest.raises(YieldError, match="0 of 1 molecules with a reward.*no docking box") as error:
        generator.sample(1, reward=reward, budget=60, steps=STEPS, progress=False)
    assert isinstance(error.value.delivery, Optimised) and "\n" not in str(error.value)


def test_it_can_be_left_at_any_time_with_the_best_so_far(generator: MoleculeGenerator) -> None:
    whole = climb(generator, 1, "qed", budget=20 * STEPS)
    part = climb(generator, 1, "qed", budget=20 * STEPS, stop=lambda: True)
    assert part.interrupted and not whole.interrupted
    assert part.evaluations < whole.evaluations and part.rewards[0] <= whole.rewards[0]
    assert part.history == whole.history[: len(part.history)]

    judged: list[int] = []

    def counted(mol: Chem.Mol) -> float:
        judged.append(1)
        return carbons(mol)

    def interrupt() -> bool:
        """Ctrl-C between two batches, once a molecule has been scored."""
        if judged:
            raise KeyboardInterrupt
        return False

    kept = climb(generator, 1, counted, budget=20 * STEPS, stop=interrupt)
    assert kept.interrupted and len(kept.mols) == 1

    def at_once(mol: Chem.Mol) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        climb(generator, 1, at_once, budget=20 * STEPS)


def test_requests_hold_under_a_reward(generator: MoleculeGenerator) -> None:
    for mol in climb(generator, 2, carbons, n_atoms=12).mols:
        assert mol.GetNumAtoms() == 12
    found = climb(generator, 1, "qed", formula="C4H8O", search="feynman_kac")
    for mol in found.mols:
        assert rdMolDescriptors.CalcMolFormula(mol) == "C4H8O"
    part = embedded("CC(=O)N")
    placed = part.GetConformer().GetPositions()[:4]
    found = climb(generator, 1, "qed", keep=part, n_atoms=14, search="best_of_n")
    for mol in found.mols:
        assert (mol.GetConformer().GetPositions()[:4] == placed).all()


def test_sizes_are_drawn_as_without_a_reward(generator: MoleculeGenerator) -> None:
    from molgen.steer.optimise import TEMPLATES, _templates
    from molgen.steer.request import Request

    sizes = generator.task.sizes
    state = _templates(generator, Request(sizes), torch.Generator())
    drawn = state.mask.sum(1).double()
    mean = sum(n * k for n, k in sizes.items()) / sum(sizes.values())
    assert state.rows == TEMPLATES and abs(float(drawn.mean()) - mean) < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reward": "druglike"}, "reward: expected a function or one of"),
        ({"reward": "qed", "budget": 10}, "budget: expected at least 45 network evaluations"),
        ({"reward": "qed", "budget": math.nan}, "budget: expected at least 45"),
        ({"reward": "qed", "budget": "much"}, "budget: expected a number of network evaluations"),
        ({"reward": "qed", "search": "beam"}, "unknown search 'beam'; known: best_of_n"),
        ({"budget": 100}, "budget: expected a reward beside it, got 100 alone"),
        ({"search": "evolution"}, "search: expected a reward beside it"),
        ({"reward": "qed", "novel": True}, "expected no require, unique, novel or repair"),
        ({"reward": "qed", "formula": "C2H5"}, "odd number of electrons"),
        ({"reward": "qed", "steps": 0}, "steps: expected at least 1, got 0"),
    ],
)
def test_bad_options_are_refused_before_any_evaluation(
    generator: MoleculeGenerator, options: dict[str, Any], message: str
) -> None:
    before = generator.evaluations
    with pytest.raises(ConfigError) as error:
        generator.sample(1, **options)
    assert message in str(error.value) and generator.evaluations == before
    with pytest.raises(ConfigError, match="search evolution: .*unexpected keyword argument 'til'"):
        generator.optimise(1, "qed", options={"til": 1.0})
