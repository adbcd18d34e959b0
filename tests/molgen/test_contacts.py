"""Contact potentials: classes by hand, closed forms, invariance, learning, redrawn torsions."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import rdMolTransforms

from diffcore import random
from diffcore.checkpoint import save_weights
from diffcore.errors import DataError, ModelFileError
from molgen.contacts.features import axes, ligand_classes, surroundings, target_classes
from molgen.contacts.network import LIGAND, TARGET, ContactConfig, ContactPotential
from molgen.contacts.redraw import redrawn
from molgen.contacts.task import (
    ContactDenoiser,
    ContactTask,
    bond_moves,
    random_moves,
    results,
    stream,
)
from molgen.contacts.term import Contacts
from molgen.datasets.contact_table import ContactTable, arrays_of, flat
from molgen.docking.structure import parse_pdb
from molgen.embedding import positions_of, with_conformers
from molgen.tasks.conformers import ConformerTask
from molgen.torsions import dihedral, torsion_graph
from tests.molgen.docking_examples import ligand, peptide_block
from tests.molgen.test_docking_structure import atom
from tests.molgen.test_torsion_cost import embedded

KAPPA, MIDDLE = 1.5, 0.4


def even(kappa: float = 0.0) -> SimpleNamespace:
    """A torsional model in which every torsion is von Mises distributed about `MIDDLE`."""

    def network(encoded, angles, sigma, grid):
        return (kappa * torch.cos(grid - MIDDLE)).expand(*angles.shape, -1)

    network.encode = lambda batch: None
    return SimpleNamespace(
        denoiser=SimpleNamespace(network=network, process=ConformerTask().process())
    )


def named(smiles: str) -> list[str]:
    return [LIGAND[k] for k in ligand_classes(Chem.MolFromSmiles(smiles))]


def test_kinds_of_ligand_atoms() -> None:
    assert named("CC(=O)O") == ["C sp3", "C other", "O acid", "O acid"]
    assert named("CC(=O)[O-]")[2:] == ["O acid", "O acid"]
    assert named("CC(=O)NC") == ["C sp3", "C other", "O carbonyl", "N with H", "C sp3"]
    assert (
        named("NC(=N)NC")[0::2] == ["N cation", "N cation", "C sp3"][:1] + named("NC(=N)NC")[2::2]
    )
    assert named("CCN")[2] == named("C[NH3+]")[1] == named("CN(C)C")[1] == "N cation"
    assert named("Nc1ccncc1")[:2] == ["N with H", "C aromatic"]
    assert named("Nc1ccncc1")[4] == "N without H"
    assert named("COCCO") == ["C sp3", "O ether", "C sp3", "C sp3", "O hydroxyl"]
    assert named("FC(Cl)(Br)S") == ["F", "C sp3", "Cl, Br, I", "Cl, Br, I", "S, P"]
    assert named("COP(=O)(O)O")[2:] == ["S, P", "O acid", "O acid", "O acid"]
    assert named("CB(O)O")[1] == "other"
    explicit = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    assert [LIGAND[k] for k in ligand_classes(explicit)] == ["C sp3", "C sp3", "O hydroxyl"]


def test_kinds_of_target_atoms() -> None:
    wanted = {
        ("ALA", "CA", "C"): "C alpha",
        ("ALA", "C", "C"): "C carbonyl",
        ("ALA", "O", "O"): "O backbone",
        ("PRO", "N", "N"): "N backbone",
        ("LEU", "CD1", "C"): "C aliphatic",
        ("PHE", "CZ", "C"): "C aromatic",
        ("PHE", "CB", "C"): "C aliphatic",
        ("ARG", "CZ", "C"): "C polar",
        ("ARG", "NH1", "N"): "N cation",
        ("HIS", "ND1", "N"): "N amide, aromatic",
        ("ASP", "OD2", "O"): "O acid",
        ("GLN", "OE1", "O"): "O amide",
        ("TYR", "OH", "O"): "O hydroxyl",
        ("MSE", "SE", "SE"): "S",
        ("ZN", "ZN", "ZN"): "metal",
        ("HEM", "FE", "FE"): "metal",
        ("NAD", "O2", "O"): "O of another residue",
        ("NAD", "P", "P"): "other",
    }
    lines = [
        atom(name, residue, k + 1, (3.0 * k, 0, 0), element=element)
        for k, (residue, name, element) in enumerate(wanted)
    ]
    found = target_classes(parse_pdb("\n".join(lines)))
    assert [TARGET[k] for k in found] == list(wanted.values())


def test_surroundings_are_what_is_near() -> None:
    structure = parse_pdb("\n".join(atom("CA", "ALA", k + 1, (4.0 * k, 0, 0)) for k in range(6)))
    found = surroundings(structure, np.zeros((1, 3)), 9.0)
    assert found["target_pos"][:, 0].tolist() == [0, 4, 8] and len(found["target"]) == 3
    with pytest.raises(DataError, match="found none within 10 A"):
        surroundings(structure, np.array([[0, 50.0, 0]]))


# ------------------------------------------------------------------------------------- potential


def filled(seed: int = 0) -> ContactPotential:
    rng = random.generator(seed)
    made = ContactPotential()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=rng))
    return made.requires_grad_(False)


@pytest.mark.parametrize("cos", [1.0, 0.3, -0.8, None])
def test_an_energy_by_hand(cos: float | None) -> None:
    """One pair at 4 A, and one beyond the cutoff, from the formula of the module."""
    potential = filled()
    c = potential.config
    pos = torch.tensor([[[[0.0, 0, 0], [30, 0, 0]]]])
    where, kinds = torch.tensor([[[4.0, 0, 0]]]), torch.tensor([[2, 5]])
    axis = [0.0, 0, 0] if cos is None else [-cos, math.sqrt(1 - cos**2), 0]
    found = potential(pos, kinds, where, torch.tensor([[7]]), torch.tensor([[axis]])).item()
    centres = np.linspace(c.nearest, c.farthest, c.radial)
    width = centres[1] - centres[0]
    parts = potential.common[:, 0, 0] + potential.ligand[:, 2, 0] + potential.target[:, 0, 7]
    radial = np.exp(-0.5 * ((4.0 - centres) / width) ** 2)
    series = (parts + potential.pair[:, 2, 7]).numpy() @ radial
    wanted = sum(x * (cos or 0.0) ** power for power, x in enumerate(series))
    assert found == pytest.approx((1 - (4 / c.cutoff) ** 2) ** 2 * wanted, abs=1e-4)


def test_a_fresh_potential_is_a_wall() -> None:
    potential = ContactPotential(ContactConfig(wall=3.0, wall_reach=3.0))
    r = torch.tensor([1.0, 2.0, 2.99, 3.01, 5.0])
    plain, *more = potential.functions(r)[:, 4, 4]
    assert plain.tolist() == pytest.approx([12.0, 3.0, 3e-4, 0, 0], abs=1e-5)
    assert len(more) == 2 and not any(x.any() for x in more)


def test_energies_add_up_do_not_turn_and_padding_is_nothing() -> None:
    potential, rng = filled(), random.generator(3)
    pos, where = (4 * torch.randn(1, n, 3, generator=rng) for n in (5, 9))
    axis = torch.nn.functional.normalize(torch.randn(1, 9, 3, generator=rng), dim=-1)
    kinds, target = torch.arange(5).unsqueeze(0), torch.arange(9).unsqueeze(0)
    whole = potential(pos.unsqueeze(1), kinds, where, target, axis)
    parts = [
        potential(pos[:, [k]].unsqueeze(1), kinds[:, [k]], where, target, axis).item()
        for k in range(5)
    ]
    assert whole.item() == pytest.approx(sum(parts), abs=1e-3)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=rng))[0]
    moved = potential((pos @ turn + 7).unsqueeze(1), kinds, where @ turn + 7, target, axis @ turn)
    assert moved.item() == pytest.approx(whole.item(), abs=1e-2)
    other = potential(pos.unsqueeze(1), kinds, where, target, axis @ turn)
    assert abs(other.item() - whole.item()) > 0.1
    more = torch.nn.functional.pad(pos, (0, 0, 0, 3)).unsqueeze(1)
    wide = potential(
        more.repeat(1, 2, 1, 1),
        torch.nn.functional.pad(kinds, (0, 3), value=-1),
        torch.nn.functional.pad(where, (0, 0, 0, 2)),
        torch.nn.functional.pad(target, (0, 2), value=-1),
        torch.nn.functional.pad(axis, (0, 0, 0, 2)),
    )
    assert wide[0].tolist() == pytest.approx([whole.item()] * 2, abs=1e-4)


def test_atoms_point_away_from_what_they_are_bonded_to() -> None:
    around = np.array([[0, 0, 0], [1.2, 0, 0], [-0.75, 1.3, 0], [-0.75, -1.3, 0], [20, 0, 0]])
    found = axes(around, around)
    assert found[1] == pytest.approx([1, 0, 0]), "an oxygen points along its double bond"
    assert found[0] == pytest.approx([0, 0, 0]), "a planar carbon points nowhere"
    assert found[2] == pytest.approx(around[2] / np.linalg.norm(around[2]))
    assert found[4].tolist() == [0, 0, 0], "nor does an ion"


# ----------------------------------------------------------------------------------------- moves


def row(smiles: str = "CCCOCc1ccccc1", apart: float = 4.0):
    """A ligand with a target atom above each of its atoms."""
    mol = embedded(smiles)
    heavy = Chem.RemoveHs(mol)
    pos = positions_of(heavy)[0]
    lines = [
        atom("CA", "ALA", k + 1, tuple(x + np.array([0, 0, apart]))) for k, x in enumerate(pos)
    ]
    return heavy, arrays_of(even(KAPPA), heavy, parse_pdb("\n".join(lines)))


def test_a_row_knows_its_bonds_and_their_densities() -> None:
    mol, made = row()
    graph = torsion_graph(mol)
    angles = dihedral(made["pos"], graph.quad)
    assert made["axis"].shape == (len(graph.quad), 2) and made["density"].shape[1] == 72
    wanted = KAPPA * np.cos(angles - MIDDLE) - math.log(np.i0(KAPPA))
    assert made["density"][:, 0] == pytest.approx(wanted, abs=0.02)
    assert np.exp(made["density"]).mean(1) == pytest.approx(1, abs=0.02)
    for turn, (stays, goes) in enumerate(made["axis"]):
        carried = made["moved"][made["moved"][:, 0] == turn, 1]
        assert 0 < len(carried) <= len(graph.heavy) / 2
        assert not {int(stays), int(goes)} & set(carried.tolist())


@pytest.mark.parametrize("bonds", [0.0, 1.0])
def test_moves_begin_with_the_pose_and_are_what_they_say(bonds: float) -> None:
    _, made = row()
    table = flat([made] * 40, [0] * 40, {})
    batch = table.batch(range(40))
    task = ContactTask(bonds=bonds, others=6)
    moves = random_moves(task, batch, random.generator(1))
    pos, kinds, prior = results(moves, batch)
    assert pos.shape[:2] == prior.shape == (40, 7)
    centred = batch["pos"][0]
    for k in range(40):
        real = kinds[k] >= 0
        shown = pos[k][:, real]
        distance = torch.cdist(shown, shown)
        assert torch.allclose(distance, distance[:1], atol=1e-3), "what moves is rigid"
        nearest = torch.cdist(shown[0], centred).amin(1)
        assert nearest.max() < 1e-4, "the crystal's pose comes first"
        if bonds == 0:
            assert int(real.sum()) == len(centred) and not prior[k].any()
    if bonds:
        assert prior[:, 0].numpy() == pytest.approx(made["density"][moves.bond, 0], abs=0.01)
        assert len(set(moves.bond.tolist())) > 1


def test_a_turn_changes_its_torsion_and_no_other() -> None:
    mol, made = row()
    graph = torsion_graph(mol)
    batch = flat([made], [0], {}).batch([0])
    for bond in range(len(graph.quad)):
        moves = bond_moves(batch, torch.tensor([bond]), torch.tensor([[0.7, math.pi / 36 * 10]]))
        pos, _, prior = results(moves, batch)
        after = batch["pos"].repeat(2, 1, 1)
        after[:, batch["moved"][0, bond]] = pos[0]
        change = dihedral(after.numpy(), graph.quad) - dihedral(batch["pos"].numpy(), graph.quad)
        change = np.remainder(change + np.pi, 2 * np.pi) - np.pi
        assert change[:, bond] == pytest.approx([0.7, math.pi / 36 * 10], abs=1e-3)
        assert np.abs(np.delete(change, bond, 1)).max() < 1e-3
        assert prior[0, 1].item() == pytest.approx(made["density"][bond, 10], abs=0.01)


def test_the_table_is_what_was_stored(tmp_path) -> None:
    _, made = row()
    _, other = row("CCO")
    table = flat([made, other], [0, 1], {"names": ["a"]})
    again = ContactTable.load(table.save(tmp_path / "t.safetensors"))
    assert len(again) == 2 and again.card["names"] == ["a"] and again.piece.tolist() == [0, 1]
    one, two = table.batch([1, 0]), again.batch([1, 0])
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert one["n_turns"].tolist() == [0, len(made["axis"])]
    assert (one["atom"][0, 3:] == -1).all() and one["mask"].sum(1).tolist() == [3, len(made["pos"])]
    with pytest.raises(DataError):
        ContactTable.load(tmp_path / "none.safetensors")


def test_a_potential_finds_the_distance_that_was_planted() -> None:
    """Every atom has a target atom 4 A above it: to be told from random moves by that alone."""
    rows = [row(smiles)[1] for smiles in ("CCCC", "CCCCC", "CC(C)CC", "CCCCCC")]
    task = ContactTask()
    table = flat(rows, [0, 0, 1, 1], {})
    potential = task.build()
    optimiser = torch.optim.Adam(potential.parameters(), lr=0.05)
    denoiser, process = ContactDenoiser(potential), task.processes()["share"]

    def loss_of(state):
        scores = denoiser(state, {}, {})["share"]
        return process.loss(scores, state["share"], state.mask).mean()

    def tested() -> float:
        batches = stream(table, task, 1, size=8)
        with torch.no_grad():
            return float(np.mean([loss_of(next(batches)) for _ in range(30)]))

    before, batches = tested(), stream(table, task, 0, size=8)
    for _ in range(60):
        loss = loss_of(next(batches))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert before > 2, "of 21 candidates: ln 21 = 3.0 where nothing is known"
    assert tested() < 0.8 * before
    r = torch.arange(2.6, 6.0, 0.1)
    with torch.no_grad():
        learned = potential.functions(r)[0, LIGAND.index("C sp3"), TARGET.index("C alpha")]
    assert r[learned.argmin()].item() == pytest.approx(4.0, abs=0.4)


# ------------------------------------------------------------------------------------------- use


def written(tmp_path, potential: ContactPotential, **changes) -> Contacts:
    card = {"kind": "contacts", "name": "c", "task": ContactTask().to_json()} | changes
    path = save_weights(tmp_path / "c.safetensors", potential.state_dict(), card)
    return Contacts.read(path)


def test_nats_of_poses_are_the_energies_of_their_heavy_atoms(tmp_path) -> None:
    contacts = written(tmp_path, filled())
    mol, structure = ligand(), parse_pdb(peptide_block())
    pos = positions_of(mol)
    poses = np.concatenate([pos + shift for shift in np.linspace(0, 1, 20)[:, None, None]])
    found = contacts.nats(mol, poses, structure)
    assert found.shape == (20,) and np.isfinite(found).all() and np.ptp(found) > 0.1
    alone = np.concatenate([contacts.nats(mol, one[None], structure) for one in poses])
    assert found == pytest.approx(alone, abs=1e-2)
    with pytest.raises(DataError, match="found none"):
        contacts.nats(mol, pos + 100, structure)


def test_other_files_are_refused(tmp_path) -> None:
    with pytest.raises(ModelFileError, match="expected contacts, got 'ranking'"):
        written(tmp_path, filled(), kind="ranking")
    with pytest.raises(ModelFileError, match="contact task"):
        written(tmp_path, filled(), task={"network": {}, "nothing": 1})


def far_structure(*places: tuple[float, float, float]):
    return parse_pdb("\n".join(atom("CA", "ALA", k + 1, place) for k, place in enumerate(places)))


def test_torsions_follow_the_model_where_the_target_says_nothing() -> None:
    """von Mises to the power of 1 / temperature: mean direction A(kappa / temperature)."""
    mol = with_conformers(embedded("CCCC"), np.repeat(positions_of(embedded("CCCC")), 1500, 0))
    pos = positions_of(mol)
    structure = far_structure(tuple(pos[0].mean(0) + [11.0, 0, 0]))
    potential = ContactPotential().requires_grad_(False)
    made = redrawn(
        even(KAPPA).denoiser, potential, mol, pos, structure, random.generator(0), temperature=0.5
    )
    graph = torsion_graph(mol)
    angles = dihedral(made[:, graph.heavy], graph.quad)[:, 0]
    mean = np.exp(1j * (angles - MIDDLE)).mean()
    k = KAPPA / 0.5
    grid = np.linspace(0, 2 * np.pi, 2000)
    ratio = (np.cos(grid) * np.exp(k * np.cos(grid))).sum() / np.exp(k * np.cos(grid)).sum()
    assert mean.real == pytest.approx(ratio, abs=0.03) and abs(mean.imag) < 0.05
    bonds = [rdMolTransforms.GetBondLength(mol.GetConformer(0), 0, 1)]
    assert np.linalg.norm(made[:, 0] - made[:, 1], axis=-1) == pytest.approx(bonds[0], abs=1e-4)
    assert not np.shares_memory(made, pos)


def test_torsions_keep_off_the_target_and_off_themselves() -> None:
    mol = embedded("CCCC")
    pos = np.repeat(positions_of(mol), 200, 0)
    graph = torsion_graph(mol)
    potential = ContactPotential(ContactConfig(wall=20.0)).requires_grad_(False)
    last = int(torsion_graph(mol).heavy[graph.quad[0, 3]])
    free, told = (
        redrawn(even().denoiser, potential, mol, pos, far_structure(place), random.generator(1))
        for place in ((0, 0, 11.0), tuple(pos[0, last]))
    )
    near = [
        np.linalg.norm(made[:, graph.heavy] - pos[0, last], axis=-1).min(1) for made in (free, told)
    ]
    assert (near[0] < 1).mean() > 0.1, "without the target atom some come where it would be"
    assert (near[1] < 1).mean() < 0.02
    rigid = embedded("c1ccccc1")
    same = redrawn(
        even().denoiser,
        potential,
        rigid,
        positions_of(rigid),
        far_structure((0, 0, 5.0)),
        random.generator(0),
    )
    assert np.array_equal(same, positions_of(rigid))


def test_a_seed_decides_what_is_drawn() -> None:
    mol = embedded("CCCCOC")
    pos = np.repeat(positions_of(mol), 3, 0)
    structure, potential = far_structure((0, 0, 6.0)), filled()
    one, two, three = (
        redrawn(even(1.0).denoiser, potential, mol, pos, structure, random.generator(seed))
        for seed in (0, 0, 1)
    )
    assert np.array_equal(one, two) and np.abs(one - three).max() > 0.1
