"""Rotatable bonds, their geometry, and the symmetries of the network on them."""

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import AllChem
from rdkit.Chem import rdMolTransforms as transforms

from diffcore import random
from diffcore.errors import ConfigError
from diffcore.state import State
from molgen.datasets.torsions import COUNTS, FIELDS, TorsionTable, _graphs, _plain, network_input
from molgen.embedding import keeps_stereo, overlap, prepared
from molgen.models.torsion import TorsionConfig
from molgen.tasks.conformers import ConformerDenoiser, ConformerTask, TorsionBatches
from molgen.torsions import dihedral, moving_atoms, offsets, set_torsions, torsion_graph

DRUG = "C[C@H](N)C(=O)N[C@@H](Cc1ccc(O)cc1)C(=O)OC/C=C/c1ncccc1F"
TASK = ConformerTask(TorsionConfig(width=16, layers=2, pair_width=16, harmonics=6))


def embedded(smiles, seed=1):
    mol = prepared(smiles)
    assert AllChem.EmbedMolecule(mol, randomSeed=seed) == 0
    return mol


def positions(mol):
    return np.asarray(mol.GetConformer().GetPositions())


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("CC", 0),
        ("CCC", 0),
        ("CCCC", 1),
        ("CCCCC", 2),
        ("C1CCCCC1", 0),
        ("c1ccccc1-c1ccccc1", 1),
        ("CC(=O)NC", 1),
        ("CC=CC", 0),
        ("CC#CCC", 0),
        ("CCC(F)(F)F", 0),
        ("CCC(C)(C)C", 0),
        ("C1CC1CC1CC1", 2),
    ],
)
def test_rotatable_bonds(smiles, expected):
    assert len(torsion_graph(prepared(smiles)).quad) == expected


def test_dihedrals_are_rdkits():
    mol = embedded(DRUG)
    graph = torsion_graph(mol)
    quad = graph.heavy[graph.quad]
    expected = [transforms.GetDihedralRad(mol.GetConformer(), *q) for q in quad.tolist()]
    found = dihedral(positions(mol), quad)
    assert np.exp(1j * found) == pytest.approx(np.exp(1j * np.array(expected)), abs=1e-6)


def test_setting_torsions_changes_nothing_else():
    mol = embedded(DRUG)
    graph, pos = torsion_graph(mol), positions(mol)
    wanted = np.random.default_rng(0).uniform(-np.pi, np.pi, (4, len(graph.quad)))
    given = np.repeat(pos[None], 4, 0)
    made = set_torsions(given, wanted, graph, moving_atoms(mol, graph))
    assert np.array_equal(given[2], pos)
    found = dihedral(made, graph.heavy[graph.quad])
    assert np.exp(1j * found) == pytest.approx(np.exp(1j * wanted), abs=1e-6)
    near = np.array(Chem.GetDistanceMatrix(mol))
    i, j = np.nonzero((near == 1) | (near == 2))  # bond lengths and angles
    before = np.linalg.norm(pos[i] - pos[j], axis=-1)
    for one in made:
        assert np.linalg.norm(one[i] - one[j], axis=-1) == pytest.approx(before, abs=1e-6)
        assert keeps_stereo(mol, one)
    assert np.exp(1j * offsets(graph, made[:, graph.heavy])) == pytest.approx(
        np.exp(1j * np.repeat(offsets(graph, pos[graph.heavy])[None], 4, 0)), abs=1e-5
    )


def test_a_mirror_image_does_not_keep_the_stereo():
    mol = embedded(DRUG)
    assert keeps_stereo(mol, positions(mol))
    assert not keeps_stereo(mol, positions(mol) * [-1, 1, 1])


def test_a_wrong_double_bond_is_noticed():
    trans, cis = embedded("C/C=C/CO"), embedded("C/C=C\\CO")
    assert not keeps_stereo(trans, positions(cis))


def test_atoms_on_top_of_each_other_overlap():
    mol = embedded("CCCCCCO")
    pos = positions(mol)
    crushed = pos * 0.3
    clean, bad = overlap(mol, np.stack([pos, crushed]))
    assert clean < 0.5 < 5 < bad


# ------------------------------------------------------------------------------- the network


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(random.generator(0).get_state())
        built = TASK.build().eval().requires_grad_(False)
        for parameter in built.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    return built.double()


def density(network, mol, pos, angles):
    """Log-probabilities [R, K] for given torsions, with the molecule's own local structure."""
    graph = torsion_graph(mol)
    batch = network_input(graph, pos[graph.heavy][None])
    batch["offset"] = torch.from_numpy(offsets(graph, pos[graph.heavy][None]))
    grid = TASK.process().grid(torch.zeros(1, dtype=torch.float64))
    sigma = torch.tensor([0.4], dtype=torch.float64)
    x = torch.from_numpy(angles)[None]
    return network(network.encode(batch), x, sigma, grid)[0].log_softmax(-1)


def test_reflection_turns_the_densities_over(network):
    mol = embedded(DRUG)
    pos = positions(mol)
    angles = dihedral(pos, torsion_graph(mol).heavy[torsion_graph(mol).quad])
    a = density(network, mol, pos, angles)
    b = density(network, mol, pos * [1, -1, 1], -angles)
    # the grid runs from -pi on: theta_k and -theta_k are entries k and K - k
    assert torch.allclose(a, b.flip(-1).roll(1, -1), atol=1e-8)
    assert not torch.allclose(a, b, atol=1e-3)


def test_rotation_changes_nothing(network):
    mol = embedded(DRUG)
    pos = positions(mol)
    graph = torsion_graph(mol)
    angles = dihedral(pos, graph.heavy[graph.quad])
    turned = pos @ np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    if np.linalg.det(np.linalg.lstsq(pos, turned, rcond=None)[0]) < 0:
        turned = -turned
    a, b = density(network, mol, pos, angles), density(network, mol, turned, angles)
    assert torch.allclose(a, b, atol=1e-8)


def test_the_choice_of_reference_neighbours_does_not_matter(network):
    """Renumbering atoms changes references and order of torsions; the density follows."""
    mol = embedded(DRUG)
    order = np.random.default_rng(1).permutation(mol.GetNumAtoms()).tolist()
    other = Chem.RenumberAtoms(mol, order)
    found = []
    for one in (mol, other):
        graph, pos = torsion_graph(one), positions(one)
        angles = dihedral(pos, graph.heavy[graph.quad])
        logs = density(network, one, pos, angles)
        # entropy, and log-density 40 degrees on from the present torsion (8 grid steps)
        grid = TASK.process().grid(torch.zeros(1, dtype=torch.float64))
        k = torch.arange(1, 7, dtype=torch.float64)[:, None]
        c, s = logs @ (grid * k).cos().T / 36, logs @ (grid * k).sin().T / 36
        at = torch.from_numpy(angles)[:, None] + 0.7
        value = (c * (at * k.T).cos() + s * (at * k.T).sin()).sum(-1)
        original = [tuple(sorted(order[i] for i in q[1:3])) for q in graph.heavy[graph.quad]]
        if one is mol:
            original = [tuple(sorted(q[1:3])) for q in graph.heavy[graph.quad].tolist()]
        found.append(dict(zip(original, value.tolist(), strict=True)))
    assert found[0].keys() == found[1].keys()
    for bond, value in found[0].items():
        assert value == pytest.approx(found[1][bond], abs=1e-6)


def molecule_table(*smiles):
    """A molecule table without the detour through files; conformers are RDKit's."""
    from molgen.chem import arrays_from_mol
    from molgen.datasets.table import MoleculeTable

    rows = [arrays_from_mol(embedded(s)) for s in smiles]
    ends = [np.argwhere(np.triu(r["bond_order"], 1)) for r in rows]
    flat = {n: np.concatenate([r[n] for r in rows]) for n in ("pos", "atomic_number", "charge")}
    n_atoms = [len(r["pos"]) for r in rows]
    none = torch.zeros(sum(n_atoms), dtype=torch.uint8)
    return MoleculeTable(
        n_atoms=torch.tensor(n_atoms, dtype=torch.int16),
        n_bonds=torch.tensor([len(e) for e in ends], dtype=torch.int16),
        pos=torch.from_numpy(flat["pos"]).float(),
        atomic_number=torch.from_numpy(flat["atomic_number"]).to(torch.uint8),
        charge=torch.from_numpy(flat["charge"]).to(torch.int8),
        hybridisation=none,
        ring=none,
        aromatic=none,
        bond_atoms=torch.from_numpy(np.concatenate(ends)).to(torch.uint8),
        bond_order=torch.cat(
            [
                torch.from_numpy(r["bond_order"][tuple(e.T)]).to(torch.uint8)
                for r, e in zip(rows, ends, strict=True)
            ]
        ),
        properties=torch.zeros(len(rows), 1, dtype=torch.float64),
        split=torch.zeros(len(rows), dtype=torch.uint8),
        source_id=torch.arange(len(rows), dtype=torch.int32),
        smiles_bytes=torch.zeros(0, dtype=torch.uint8),
        smiles_length=torch.zeros(len(rows), dtype=torch.int16),
        card={"properties": {"date": "YYYYMMDD"}},
    )


def table_of(*smiles):
    """A torsion table of these molecules."""
    arrays = _graphs(_plain(molecule_table(*smiles)))
    arrays = {n: torch.from_numpy(a) for n, a in arrays.items()}
    return TorsionTable(
        {n: arrays[n] for n in FIELDS},
        {n: arrays[f"n_{n}"] for n in COUNTS},
        arrays["split"],
        arrays["source"],
        {},
    )


def test_padding_does_not_change_a_molecules_prediction(network):
    table = table_of("CCCC", DRUG, "CC(C)CO", "C1CCCCC1")
    assert table.source.tolist() == [0, 1, 2]  # the ring has no torsion
    process = TASK.process()
    denoiser = ConformerDenoiser(network.float(), process)

    def predict(rows):
        state = TASK.encode(table.batch(rows))
        return denoiser(state, {"torsion": torch.full((len(rows),), 0.7)}, {})["torsion"]

    both, alone = predict([0, 1, 2]), predict([0])
    network.double()
    assert torch.allclose(both[0, :1], alone[0], atol=1e-5)
    assert both.sum(-1) == pytest.approx(torch.ones(both.shape[:2]), abs=1e-4)


def test_near_t_0_the_prediction_is_the_given_torsion(network):
    table = table_of(DRUG)
    process = TASK.process()
    state = TASK.encode(table.batch([0]))
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(random.generator(0).get_state())
        denoiser = ConformerDenoiser(TASK.build(), process)
    with torch.no_grad():
        clean = denoiser(state, {"torsion": torch.zeros(1)}, {})
    found = process.decode(clean["torsion"], state.mask)
    # two grid points may be left at the resolution of the grid
    assert (torch.cos(found - state["torsion"]) > np.cos(0.09)).all()


def test_batches_are_repeatable_and_survive_a_file(tmp_path):
    table = table_of("CCCC", DRUG, "CC(C)CO", "CCCCO")
    table.save(tmp_path / "t.safetensors")
    again = TorsionTable.load(tmp_path / "t.safetensors")
    first, second = (
        next(iter(TorsionBatches(t, torch.arange(4), TASK, 2))) for t in (table, again)
    )
    assert isinstance(first, State)
    for name in first:
        assert torch.equal(first[name], second[name])


def test_the_task_goes_through_its_card():
    assert ConformerTask.from_json(TASK.to_json()) == TASK
    with pytest.raises(ConfigError, match="conformer task"):
        ConformerTask.from_json({"network": {"depth": 3}})
