"""Requests as a whole: contradictions are refused before anything is sampled."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import AllChem

from diffcore.errors import ConfigError
from diffcore.state import State
from molgen.chem import arrays_from_mol
from molgen.steer.check import placed, unmet
from molgen.steer.counts import balanced, tilted, with_counts, with_sum
from molgen.steer.draw import assigned
from molgen.steer.request import Request
from molgen.tasks.molecules import MoleculeTask

SIZES = {3: 1, 12: 5, 14: 10, 15: 4, 18: 2}

TASK = MoleculeTask(
    elements=(1, 6, 7, 8),
    charges=(-1, 0, 1),
    marginals={"atom": (0.5, 0.3, 0.1, 0.1), "charge": (0.0, 1.0, 0.0), "bond": (0.9, 0.1, 0, 0)},
    sizes=SIZES,
    scale=1.4,
)


def embedded(smiles: str) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=7) == 0
    return mol


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_atoms": 19}, "n_atoms: the model makes molecules of 3 to 18 atoms, got 19"),
        ({"formula": "C2H5"}, "odd number of electrons"),
        ({"formula": "C9H20"}, "formula: the model makes molecules of 3 to 18 atoms, C9H20 has 29"),
        ({"formula": "C6H5F"}, "the model knows H, C, N, O, got F"),
        ({"formula": "C6H6", "n_atoms": 14}, "n_atoms: C6H6 has 12 atoms, got n_atoms=14"),
        ({"formula": "C6H6", "charge": 1}, "at charge +1 has an odd number of electrons"),
        ({"charge": 1.0}, "charge: expected a whole number, got 1.0"),
        ({"charge": 40}, "charge: the model's atoms have charges from -1 to +1, got +40"),
        ({"scaffold": "c1ccc"}, "scaffold: expected SMILES"),
        ({"scaffold": "C1CC1Cl"}, "scaffold: the model knows elements H, C, N, O, got Cl"),
        ({"scaffold": "O=C=O"}, "scaffold: no atom has a hydrogen or a '*'"),
        ({"scaffold": "C" * 12}, "with its hydrogens it has 38 atoms, the model makes"),
        (
            {"scaffold": "c1ccccc1", "n_atoms": 3},
            "scaffold: needs at least 8 atoms in the molecule",
        ),
        ({"scaffold": "c1ccccc1", "formula": "C5H8O"}, "C6 is not contained in the formula C5H8O"),
        ({"scaffold": "CO", "keep": Chem.MolFromSmiles("CO")}, "expected a scaffold or a fragment"),
        ({"keep": "CO"}, "keep: expected an rdkit.Chem.Mol, got str"),
        ({"property": {"gap": 0.2}}, "the model was not trained with 'gap'"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Request.parse(TASK, **options)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_a_condition_the_model_was_not_trained_for_names_those_it_was() -> None:
    trained = dataclasses.replace(TASK, conditions={"gap": (7.0, 1.3), "mu": (2.7, 1.5)})
    assert len(Request.parse(trained, property={"mu": (0, 1)}).targets) == 1
    with pytest.raises(ConfigError, match="not trained with 'logp'; it knows gap, mu"):
        Request.parse(trained, property={"logp": 1.0})


def test_a_scaffold_with_a_charge_the_model_does_not_know_is_refused() -> None:
    cations = dataclasses.replace(TASK, charges=(0, 1))
    assert Request.parse(cations, scaffold="C[NH3+]").steers
    with pytest.raises(ConfigError, match=r"scaffold: the model knows charges \+0, \+1, got -1"):
        Request.parse(cations, scaffold="CC[O-]")


def test_sizes_are_the_models_own_and_larger_than_the_scaffold() -> None:
    assert Request.parse(TASK).sizes == SIZES
    assert Request.parse(TASK, scaffold="c1ccccc1").sizes == {14: 10, 15: 4, 18: 2}
    assert Request.parse(TASK, scaffold="C" * 5).sizes == {18: 2}
    assert Request.parse(TASK, scaffold="CCCCO").sizes == {18: 2}  # 18 atoms with its hydrogens
    assert Request.parse(TASK, scaffold="c1ccccc1", formula="C6H7N").sizes == {14: 1}
    assert Request.parse(TASK, n_atoms=13).sizes == {13: 1}


def test_a_formula_is_neutral_unless_a_charge_is_given() -> None:
    assert Request.parse(TASK, formula="C6H6").charge == 0
    assert Request.parse(TASK, formula="C6H7", charge=1).charge == 1
    assert Request.parse(TASK, n_atoms=12).charge is None
    assert not Request.parse(TASK, n_atoms=12).steers and Request.parse(TASK, charge=0).steers


def arrays(smiles: str, order: list[int] | None = None) -> dict[str, np.ndarray]:
    mol = embedded(smiles)
    return arrays_from_mol(mol if order is None else Chem.RenumberAtoms(mol, order))


def test_formula_and_charge_are_checked_to_the_atom() -> None:
    request = Request.parse(TASK, formula="C6H7N")
    assert unmet(request, arrays("Nc1ccccc1")) == ""
    assert unmet(request, arrays("Oc1ccccc1")) == "another formula"
    ion = Request.parse(TASK, charge=1)
    assert unmet(ion, arrays("C[NH3+]")) == ""
    assert unmet(ion, arrays("CN")) == "another total charge"


def test_a_kept_scaffold_is_the_one_that_rdkit_finds_there() -> None:
    request = Request.parse(TASK, scaffold="CC(=O)N")
    for smiles, met in (
        ("CC(=O)N", True),
        ("OCC(=O)NC", True),
        ("CC(=O)[NH-]", False),
        ("C=C(O)N", False),
        ("CC(=O)O", False),
    ):
        mol = embedded(smiles)
        pattern = Chem.MolFromSmarts("[CX4]C(=O)[NX3+0]")
        found = mol.GetSubstructMatch(pattern)
        assert bool(found) == met
        if met:  # the kept atoms come first
            others = [i for i in range(mol.GetNumAtoms()) if i not in found]
            assert unmet(request, arrays(smiles, [*found, *others])) == ""
        else:
            assert unmet(request, arrays(smiles)) in ("scaffold changed", "open sites not filled")


@pytest.mark.parametrize(
    ("smiles", "met"), [("CCO", True), ("CC", False), ("CC(O)O", False), ("C=C", False)]
)
def test_a_marked_site_wants_no_hydrogen_and_the_others_nothing_else(
    smiles: str, met: bool
) -> None:
    request = Request.parse(TASK, scaffold="[*]CC")
    part = request.fragment
    assert part is not None and part.formula == {6: 2, 1: 5} and not part.hydrogens.any()
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    own = [
        [a.GetIdx() for a in mol.GetAtomWithIdx(i).GetNeighbors() if a.GetAtomicNum() == 1]
        for i in (1, 0)
    ]
    order = [1, 0, *own[0][:2], *own[1][:3]]
    order += [i for i in range(mol.GetNumAtoms()) if i not in order]
    assert (unmet(request, arrays(smiles, order)) == "") == met


def test_pieces_have_to_be_joined() -> None:
    request = Request.parse(TASK, keep=Chem.MolFromSmiles("C.O"))
    apart = arrays("C.O.N", None)
    assert unmet(request, apart) == "pieces not joined"
    joined = embedded("CNO")
    assert (
        unmet(request, arrays_from_mol(Chem.RenumberAtoms(joined, [0, 2, 1, *range(3, 8)]))) == ""
    )


def test_a_molecule_comes_in_the_frame_of_the_fragment() -> None:
    mol = embedded("CC(=O)N")
    request = Request.parse(TASK, keep=mol)
    made = arrays_from_mol(mol)
    kept = made["pos"][:4].copy()
    made["pos"] = made["pos"] + 1e-4 * np.sin(np.arange(27.0)).reshape(9, 3) + [3.0, -2.0, 7.0]
    whole = placed(request, made)
    assert np.array_equal(whole["pos"][:4], kept)
    assert np.allclose(whole["pos"], mol.GetConformer().GetPositions(), atol=5e-4)
    assert not np.allclose(made["pos"][:4], kept)  # the argument is not changed


def test_balanced_probabilities_have_the_counts_and_keep_what_is_certain() -> None:
    p = torch.rand(3, 7, 4, generator=torch.Generator().manual_seed(0)).softmax(-1)
    counts = torch.tensor([[3.0, 2.0, 2.0, 0.0]]).expand(3, -1)
    q = balanced(p, counts)
    assert torch.allclose(q.sum(1), counts, atol=1e-3)
    assert torch.allclose(q.sum(-1), torch.ones(3, 7), atol=1e-6)
    odds = (q / p)[..., :3]  # a factor of the node times a factor of the class
    cross = odds[:, 1:, 1:] * odds[:, :1, :1] / (odds[:, 1:, :1] * odds[:, :1, 1:])
    assert torch.allclose(cross, torch.ones_like(cross), atol=1e-2)


def test_tilted_probabilities_have_the_sum() -> None:
    p = torch.rand(2, 6, 3, generator=torch.Generator().manual_seed(1)).softmax(-1)
    values = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    real = torch.ones(2, 6, dtype=torch.bool)
    real[1, 4:] = False
    q = tilted(p, values, 2.0, real)
    found = ((q.double() @ values) * real).sum(1)
    assert torch.allclose(found, torch.full((2,), 2.0, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(q.sum(-1), torch.ones(2, 6), atol=1e-6)


def test_a_field_is_steered_and_the_rest_left_alone() -> None:
    mask = torch.ones(2, 6, dtype=torch.bool)
    p = torch.rand(2, 6, 3, generator=torch.Generator().manual_seed(2)).softmax(-1)
    clean = State({"atom": p, "charge": p}, mask)
    free = torch.arange(6) >= 2
    counts = torch.tensor([2, 1, 1])
    times = {"atom": torch.full((2,), 0.1)}
    at = with_counts(lambda *_: clean, "atom", counts, free)(clean, times, {})
    assert torch.allclose(at["atom"][:, 2:].sum(1), counts.float().expand(2, -1), atol=1e-3)
    assert torch.equal(at["atom"][:, :2], p[:, :2]) and torch.equal(at["charge"], p)
    early = with_counts(lambda *_: clean, "atom", counts, free)(
        clean, {"atom": torch.full((2,), 0.9)}, {}
    )
    lack = counts - p[:, 2:].sum(1)  # beyond the mark, by what is lacking
    beyond = early["atom"][:, 2:].sum(1) - counts
    assert (beyond.sign() == lack.sign())[lack.abs() > 0.05].all()
    values = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    charged = with_sum(lambda *_: clean, "charge", values, 1, free)(clean, times, {})
    assert torch.allclose(
        (charged["charge"][:, 2:].double() @ values).sum(1), torch.ones(2).double(), atol=1e-5
    )


def test_assigned_noise_is_the_same_noise_nearer_to_the_places() -> None:
    rng = torch.Generator().manual_seed(3)
    noise = torch.randn(9, 3, generator=rng)
    noise = noise - noise.mean(0)
    places = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1.5, 0]])
    places = places - places.mean(0)
    at = torch.zeros(9, dtype=torch.bool)
    at[torch.tensor([0, 1, 4])] = True
    moved = assigned(noise, places, at)
    ours, theirs = torch.cdist(moved, moved).flatten().sort()[0], torch.cdist(noise, noise)
    assert torch.allclose(ours, theirs.flatten().sort()[0], atol=1e-4)  # a rigid motion, permuted
    assert (moved[at] - places).square().sum() < 0.5 * (noise[at] - places).square().sum()
