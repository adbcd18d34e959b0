"""The conformer generator on molecules easy and nasty, with an untrained network."""

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import AllChem

from diffcore import random
from diffcore.checkpoint import save_weights
from diffcore.errors import ConfigError, DataError, ModelFileError
from molgen import embedding
from molgen.conformers import ConformerGenerator, ConformerSampling
from molgen.embedding import keeps_stereo
from molgen.evaluate.rmsd import aligned_rmsd
from molgen.models.torsion import TorsionConfig
from molgen.tasks.conformers import ConformerTask

TASK = ConformerTask(TorsionConfig(width=16, layers=1, pair_width=16, harmonics=4))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(random.generator(0).get_state())
        network = TASK.build()
    card = {
        "kind": "conformers",
        "name": "tiny",
        "task": TASK.to_json(),
        "sampling": {"steps": 3, "pool": 24, "least": 3},
    }
    return save_weights(path, network.state_dict(), card)


@pytest.fixture(scope="module")
def generator(model):
    return ConformerGenerator.from_pretrained(model)


def test_conformers_differ_are_ranked_and_share_the_samples(generator):
    made = generator.sample("CCCCC(=O)NCc1ccccc1", 5)
    assert made.GetNumConformers() == 5
    assert [c.GetId() for c in made.GetConformers()] == [0, 1, 2, 3, 4]
    shares = [c.GetDoubleProp("confidence") for c in made.GetConformers()]
    assert sum(shares) == pytest.approx(1)
    for k in range(5):
        others = Chem.Mol(made)
        others.RemoveConformer(k)
        assert aligned_rmsd(others, Chem.Mol(made, confId=k)).min() > 0.05
    assert made.GetProp("model") == "tiny"


def test_the_seed_decides(generator):
    a, b, c = (generator.sample("CCCCO", 3, seed=s) for s in (1, 1, 2))
    assert np.array_equal(a.GetConformer(1).GetPositions(), b.GetConformer(1).GetPositions())
    assert not np.allclose(a.GetConformer(1).GetPositions(), c.GetConformer(1).GetPositions())


def test_input_order_hydrogens_name_and_properties_are_kept(generator):
    mol = Chem.AddHs(Chem.MolFromSmiles("OCC[C@@H](N)C(=O)O"))
    order = np.random.default_rng(0).permutation(mol.GetNumAtoms()).tolist()
    mol = Chem.RenumberAtoms(mol, order)
    mol.SetProp("_Name", "a ligand")
    mol.SetProp("source", "somewhere")
    before = mol.ToBinary()
    made = generator.sample(mol, 3)
    assert mol.ToBinary() == before
    assert [a.GetSymbol() for a in made.GetAtoms()] == [a.GetSymbol() for a in mol.GetAtoms()]
    assert made.GetProp("_Name") == "a ligand"
    assert made.GetProp("source") == "somewhere"
    assert Chem.MolToSmiles(made) == Chem.MolToSmiles(mol)


@pytest.mark.parametrize(
    "smiles",
    [
        "C[C@H](O)[C@@H](N)CC(=O)OC",
        "C[C@@H](O)[C@@H](N)CC(=O)OC",
        "OC/C=C\\CCN",
        "OC/C=C/CCN",
        "C[C@H]1CC[C@@H](CO)CC1",
        "OC[C@H]1O[C@@H](O)[C@H](O)[C@@H](O)[C@@H]1O",
    ],
)
def test_stereo_is_kept(generator, smiles):
    made = generator.sample(smiles, 6)
    assert made.GetNumConformers() == 6
    for conformer in made.GetConformers():
        one = Chem.Mol(made, confId=conformer.GetId())
        for atom in one.GetAtoms():
            atom.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
        Chem.AssignStereochemistryFrom3D(one)
        assert Chem.MolToSmiles(Chem.RemoveHs(one)) == Chem.CanonSmiles(smiles)


def test_stereo_comes_from_the_conformer_where_there_are_no_marks(generator):
    mol = Chem.AddHs(Chem.MolFromSmiles("C[C@H](F)CCO"))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    for atom in mol.GetAtoms():
        atom.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
    made = generator.sample(mol, 3)
    assert Chem.MolToSmiles(Chem.RemoveHs(made)) == Chem.CanonSmiles("C[C@H](F)CCO")
    assert all(keeps_stereo(made, c.GetPositions()) for c in made.GetConformers())


@pytest.mark.parametrize(
    "smiles",
    ["O", "C", "c1ccccc1", "C1CCCCCCC1", "C#CC#C", "[Na+].CCCC(=O)[O-]", "CC.CCCC", "[NH4+]"],
)
def test_small_rigid_and_broken_up_molecules_give_conformers(generator, smiles):
    made = generator.sample(smiles, 4)
    assert made.GetNumConformers() == 4
    assert Chem.CanonSmiles(Chem.MolToSmiles(Chem.RemoveHs(made))) == Chem.CanonSmiles(smiles)
    assert np.isfinite([c.GetPositions() for c in made.GetConformers()]).all()


def test_ring_conformers_come_from_the_local_structures(generator):
    made = generator.sample("C1CCCCCCC1", 8)
    spread = aligned_rmsd(made, Chem.Mol(made, confId=0))
    assert spread.max() > 0.1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("not a molecule", "unreadable SMILES"),
        ("C(C)(C)(C)(C)C", "unreadable SMILES"),
        ("", "heavy atoms"),
        ("[H][H]", "heavy atoms"),
        ("*CCC", "open end"),
    ],
)
def test_bad_molecules_are_refused_in_one_line(generator, bad, reason):
    with pytest.raises(DataError, match=reason):
        generator.sample(bad, 2)


def test_wrong_stereo_is_never_returned(generator, monkeypatch):
    """Planted: an embedding that gives the mirror image."""
    right = embedding.embed
    monkeypatch.setattr(embedding, "embed", lambda *args: right(*args) * [-1, 1, 1])
    with pytest.raises(DataError, match="marked stereo"):
        generator.sample("C[C@H](N)C(=O)OCC", 2)


def test_failed_embedding_is_tried_again_from_random_coordinates(generator, monkeypatch):
    tried = []
    right = embedding.rdDistGeom.EmbedMultipleConfs

    def failing(mol, n, parameters):
        tried.append(parameters.useRandomCoords)
        return right(mol, n, parameters) if works and parameters.useRandomCoords else []

    monkeypatch.setattr(embedding.rdDistGeom, "EmbedMultipleConfs", failing)
    works = True
    assert generator.sample("CCCCO", 2).GetNumConformers() == 2
    assert tried == [False, True]
    works = False
    with pytest.raises(DataError, match="random starts"):
        generator.sample("CCCCO", 2)


def test_options_are_checked(generator):
    for options in ({"n": 0}, {"n": 10**6}, {"seed": -1}):
        with pytest.raises(ConfigError, match="expected"):
            generator.sample("CCO", **options)
    for options in ({"steps": 0}, {"temperature": 0.0}, {"pool": 0}):
        with pytest.raises(ConfigError, match="expected"):
            ConformerSampling(**options)


def test_a_model_of_another_kind_is_refused():
    with pytest.raises(ModelFileError, match="conformers"):
        ConformerGenerator.from_pretrained("qm9")
    with pytest.raises(ModelFileError, match="unknown model"):
        ConformerGenerator.from_pretrained("unbound")
