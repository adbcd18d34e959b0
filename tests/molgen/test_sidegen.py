"""Cartesian conformers with side information: symmetry, whitening, what is seen of a target."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from diffcore import random
from diffcore.errors import ConfigError, DataError, ModelFileError
from diffcore.state import State
from molgen.datasets.complex_table import ComplexTable, flat, of_complexes
from molgen.datasets.complexes import deposited, find_complexes, read_complex, same_protein
from molgen.datasets.peptides import CONTACT, pieces
from molgen.docking.pocket import read_pocket
from molgen.docking.structure import Structure, parse_pdb
from molgen.embedding import keeps_stereo, prepared
from molgen.sidegen import batches
from molgen.sidegen.features import NO_TARGET, TARGET_ATOMS, ligand_arrays, target_arrays
from molgen.sidegen.generator import CartesianGenerator
from molgen.sidegen.network import ALONE, MESSAGES, POOLED, SideConfig
from molgen.sidegen.task import FIELD, SideDenoiser, SideTask, paths
from tests.molgen.docking_examples import ligand, peptide_block, write

SMALL = SideConfig(width=16, layers=2, radial=6, neighbours=4)


def arrays(smiles: str, seed: int = 1) -> dict[str, np.ndarray]:
    mol = prepared(smiles)
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=seed) == 0
    return ligand_arrays(mol, np.asarray(mol.GetConformer().GetPositions()))


def table() -> ComplexTable:
    """Lactic acid alone, and the probe in the peptide."""
    mol = Chem.Mol(ligand())
    pos = np.asarray(mol.GetConformer().GetPositions())
    bound = ligand_arrays(mol, pos)
    target = target_arrays(parse_pdb(peptide_block()), bound["pos"].mean(0))
    return flat([arrays("C[C@H](O)C(=O)O") | NO_TARGET, bound | target], [0, 0], {})


def state_of(task: SideTask, info: int) -> tuple[torch.Tensor, object]:
    one = table().batch([1])
    state = task.encode({**one, "info": torch.tensor([info])})
    noisy = task.process().forward(
        state[FIELD], torch.tensor([0.6]), state.mask, random.generator(3)
    )
    return noisy, state.replace(**{FIELD: noisy})


def network(task: SideTask) -> SideDenoiser:
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(random.generator(0).get_state())
        net = task.build()
    for edges in net.rounds:  # the first weights of a step are tiny: a test would see nothing
        for kind in (edges.intra, edges.inter):
            torch.nn.init.constant_(kind.move.weight, 0.5)
    return SideDenoiser(net.eval(), task)


def rotation(seed: int) -> torch.Tensor:
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=random.generator(seed)))
    return q * torch.sign(torch.linalg.det(q))


@pytest.mark.parametrize("prior", ["isotropic", "harmonic"])
def test_turning_ligand_and_target_turns_the_prediction(prior: str) -> None:
    task = SideTask(SMALL, prior, 1.5)
    denoiser, q = network(task), rotation(5)
    _, state = state_of(task, MESSAGES)
    times = {FIELD: torch.tensor([0.6])}
    with torch.no_grad():
        plain = denoiser(state, times, {})[FIELD]
        moved = state.replace(
            **{FIELD: state[FIELD] @ q.T, "target_pos": state["target_pos"] @ q.T}
        )
        turned = denoiser(moved, times, {})[FIELD]
        alone = denoiser(state.replace(target_pos=state["target_pos"] @ q.T), times, {})[FIELD]
    torch.testing.assert_close(turned, plain @ q.T, atol=2e-4, rtol=1e-3)
    assert (alone - plain).abs().max() > 1e-3, "the target's place must matter"


def test_a_mirror_image_is_told_apart_where_a_centre_is_marked() -> None:
    task = SideTask(SMALL)
    denoiser = network(task)
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
    one = table().batch([0])
    state = task.encode(batches.alone(one))
    assert one["chiral"].shape[1] == 1 and int(one["hand"].abs().sum()) == 1
    times = {FIELD: torch.tensor([0.3])}
    with torch.no_grad():
        plain = denoiser(state, times, {})[FIELD]
        other = denoiser(state.replace(**{FIELD: state[FIELD] @ mirror}), times, {})[FIELD]
        unmarked = state.replace(hand=torch.zeros_like(state["hand"]))
        a = denoiser(unmarked, times, {})[FIELD]
        b = denoiser(unmarked.replace(**{FIELD: state[FIELD] @ mirror}), times, {})[FIELD]
    assert (other - plain @ mirror).abs().max() > 1e-3
    torch.testing.assert_close(b, a @ mirror, atol=2e-4, rtol=1e-3)


def test_what_is_not_shown_cannot_matter() -> None:
    task = SideTask(SMALL)
    denoiser = network(task)
    times = {FIELD: torch.tensor([0.6])}

    def predicted(info: int, shift: float, kinds: int = 0) -> torch.Tensor:
        _, state = state_of(task, info)
        changed = state.replace(
            target_pos=state["target_pos"] + shift, target=state["target"] * (1 - kinds)
        )
        with torch.no_grad():
            return denoiser(changed, times, {})[FIELD]

    assert torch.equal(predicted(ALONE, 0), predicted(ALONE, 3.0, 1))
    # pooled: what the atoms are matters, where the target lies does not
    torch.testing.assert_close(predicted(POOLED, 0), predicted(POOLED, 3.0), atol=1e-4, rtol=1e-3)
    assert (predicted(POOLED, 0) - predicted(POOLED, 0, 1)).abs().max() > 1e-5
    assert (predicted(MESSAGES, 0) - predicted(MESSAGES, 3.0)).abs().max() > 1e-3


def test_padding_changes_nothing() -> None:
    task = SideTask(SMALL)
    denoiser = network(task)
    both = table().batch([0, 1])
    single = table().batch([0])
    info = torch.tensor([ALONE, MESSAGES])
    times = torch.tensor([0.4, 0.4])
    with torch.no_grad():
        padded = denoiser(task.encode({**both, "info": info}), {FIELD: times}, {})[FIELD][0]
        plain = denoiser(task.encode(batches.alone(single)), {FIELD: times[:1]}, {})[FIELD][0]
    torch.testing.assert_close(padded[: len(plain)], plain, atol=1e-4, rtol=1e-3)
    assert not padded[len(plain) :].any()


def test_white_noise_in_whitened_coordinates_is_springs_along_bonds() -> None:
    """Covariance of x = L^(-1/2) y against the pseudo-inverse of the Laplacian, by hand."""
    task = SideTask(SMALL, "harmonic", 1.0)
    one = batches.alone(flat([arrays("CCCCCCCC") | NO_TARGET], [0], {}).batch([0]))
    state = task.encode(one)
    many = state.take(torch.zeros(4000, dtype=torch.long))
    drawn = task.process().prior(many.mask, random.generator(1))
    x = task.to_angstrom(drawn, many).double()
    near = (one["bond"][0] > 0).double() + 1e-3 * (1 - torch.eye(8))  # fragments hang together
    laplacian = torch.diag(near.sum(1)) - near
    expected = torch.linalg.pinv(laplacian)
    found = torch.einsum("sid,sjd->ij", x, x) / (3 * len(x))
    assert (found - expected).abs().max() < 0.1
    ends = (x[:, 0] - x[:, 7]).square().sum(-1).mean()
    bonded = (x[:, 0] - x[:, 1]).square().sum(-1).mean()
    assert float(ends / bonded) == pytest.approx(7, rel=0.15)  # a random walk of seven bonds
    back = task.to_angstrom(state[FIELD], state)
    torch.testing.assert_close(back, one["pos"], atol=1e-3, rtol=1e-3)


def test_paths_count_bonds() -> None:
    one = flat([arrays("CC(C)CCCCCCC") | NO_TARGET], [0], {}).batch([0])
    mol = Chem.MolFromSmiles("CC(C)CCCCCCC")
    expected = np.minimum(Chem.GetDistanceMatrix(mol), 7)
    assert np.array_equal(paths(one["bond"])[0].numpy(), expected)


# ------------------------------------------------------------------------------------ data


def test_a_folder_of_complexes_is_converted_and_test_sets_are_left_out(tmp_path: Path) -> None:
    for name, date in (("old", "12-MAR-98"), ("new", "01-JUN-21"), ("none", "")):
        (tmp_path / name).mkdir()
        protein, _ = write(tmp_path / name)
        if date:
            header = f"HEADER    TRANSFERASE                             {date}   1ABC\n"
            protein.write_text(header + peptide_block(), encoding="utf-8")
            assert deposited(protein) == {"old": 19980312, "new": 20210601}[name]
        else:
            assert deposited(protein) == 0
    (tmp_path / "bad").mkdir()
    _, broken = write(tmp_path / "bad")
    broken.write_text("nothing\n", encoding="utf-8")
    found = find_complexes(tmp_path)
    made = of_complexes(found, validation_from=20200101, progress=False)
    assert made.card["names"] == ["new", "none", "old"] and list(made.card["left_out"]) == ["bad"]
    assert made.split.tolist() == [1, 0, 0]
    made.save(tmp_path / "t.safetensors")
    again = ComplexTable.load(tmp_path / "t.safetensors")
    assert all(torch.equal(again.fields[n], x) for n, x in made.fields.items())
    assert again.card == made.card
    one = read_complex(next(c for c in found if c.name == "old"))
    with pytest.raises(DataError, match="its ligand is in a test set"):
        of_complexes(found, exclude=frozenset({one.skeleton}), progress=False)
    assert not same_protein(one.target, one.target), "seven residues are too few to tell"
    with pytest.raises(DataError, match="no table of complexes"):
        ComplexTable.load(tmp_path / "nothing.safetensors")


def test_another_structure_of_a_protein_is_recognised() -> None:
    def chain(sequence: str, first: int = 1, letter: str = "A") -> Structure:
        mol = Chem.MolFromSequence(sequence)
        mol = Chem.AddHs(mol)
        rdDistGeom.EmbedMolecule(mol, randomSeed=1, useRandomCoords=True)
        lines = Chem.MolToPDBBlock(Chem.RemoveHs(mol), flavor=4).splitlines()
        return parse_pdb(
            "\n".join(
                f"{x[:21]}{letter}{int(x[22:26]) + first - 1:>4}{x[26:]}"
                for x in lines
                if x.startswith("ATOM")
            )
        )

    sequence = "GASGAVSGAGSAGAVAGASG"
    whole = chain(sequence)
    pocket = whole.select(k for k, r in enumerate(whole.residues) if int(r.number) > 4)
    assert same_protein(whole, pocket) and same_protein(chain(sequence, letter="B"), whole)
    assert not same_protein(chain(sequence[::-1], first=2), whole)
    assert not same_protein(chain(sequence, first=30), whole)


def test_a_batch_is_the_complex(tmp_path: Path) -> None:
    one = table().batch([1])
    mol = ligand()
    own = np.asarray(mol.GetConformer().GetPositions())[:11]
    gap = np.linalg.norm(own[:, None] - parse_pdb(peptide_block()).positions[None], axis=-1).min()
    found = torch.cdist(one["pos"], one["target_pos"])[0][:, one["target_mask"][0]]
    assert float(found.min()) == pytest.approx(float(gap), abs=1e-3)
    bonds = {(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()}
    heavy = {(i, j) for i, j in bonds if max(i, j) < 11}
    where = {(int(i), int(j)) for i, j in torch.nonzero(one["bond"][0].triu()) if i != j}
    assert where == {(min(b), max(b)) for b in heavy}
    assert int(one["target_mask"].sum()) <= TARGET_ATOMS
    with pytest.raises(DataError, match="within 15 Angstrom"):
        target_arrays(parse_pdb(peptide_block()), np.full(3, 500.0))


def test_batches_hide_and_move_targets() -> None:
    data = table()
    task = SideTask(SMALL)
    stream = iter(batches.SideBatches(data, data, task, size=2, share=1.0, seed=4))
    drawn = [next(stream) for _ in range(30)]
    seen = torch.cat([state["info"] for state in drawn])
    assert set(seen.tolist()) == {ALONE, POOLED, MESSAGES}
    again = next(iter(batches.SideBatches(data, data, task, size=2, share=1.0, seed=4)))
    assert torch.equal(again["target_pos"], drawn[0]["target_pos"])
    plain = iter(batches.SideBatches(data, None, task, size=2))
    assert set(next(plain)["info"].tolist()) == {ALONE}


# -------------------------------------------------------------------------------- generator


@pytest.mark.parametrize("prior", ["isotropic", "harmonic"])
def test_conformers_keep_order_hydrogens_and_stereo(prior: str, tmp_path: Path) -> None:
    task = SideTask(SMALL, prior)
    generator = CartesianGenerator(task, network(task), {"name": "probe"})
    pocket = read_pocket(*write(tmp_path))
    whole = prepared("OCC=C")
    made = generator.sample(whole, 4, pocket=pocket, steps=3, seed=2)
    assert [a.GetAtomicNum() for a in made.GetAtoms()] == [
        a.GetAtomicNum() for a in whole.GetAtoms()
    ]
    assert made.GetNumConformers() == 4 and made.GetProp("model") == "probe"
    for conformer in made.GetConformers():
        pos = np.asarray(conformer.GetPositions())
        assert np.isfinite(pos).all() and keeps_stereo(whole, pos)
        heavy = pos[:4]
        assert np.linalg.norm(heavy.mean(0) - np.array(pocket.box.centre)) < 1e-3
        lengths = [
            np.linalg.norm(pos[b.GetBeginAtomIdx()] - pos[b.GetEndAtomIdx()])
            for b in made.GetBonds()
            if b.GetEndAtom().GetAtomicNum() == 1
        ]
        assert 0.85 < min(lengths) and max(lengths) < 1.2
    twice = generator.sample(whole, 4, pocket=pocket, steps=3, seed=2)
    assert np.array_equal(made.GetConformer(1).GetPositions(), twice.GetConformer(1).GetPositions())


def test_a_wrong_centre_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lacks the marked stereo is drawn again; if all does, there is no conformer."""
    task = SideTask(SMALL)
    generator = CartesianGenerator(task, network(task))
    mol = prepared("F[C@](Cl)(Br)C")
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=2) == 0
    good = np.asarray(mol.GetConformer().GetPositions())[:5]
    calls: list[int] = []

    def drawn(hands: tuple[float, ...], graph: State, *_: object) -> np.ndarray:
        calls.append(graph.rows)
        return np.stack([good * [1, 1, hand] for hand in hands[: graph.rows]])

    for hands, sizes in (((1.0, 1.0, 1.0), [3]), ((1.0, -1.0, 1.0), [3, 1])):
        calls.clear()
        monkeypatch.setattr(generator, "_drawn", partial(drawn, hands))
        assert generator.sample("F[C@](Cl)(Br)C", 3).GetNumConformers() == 3
        assert calls == sizes, "only what is lacking is drawn again"
    monkeypatch.setattr(generator, "_drawn", partial(drawn, (-1.0, -1.0, -1.0)))
    with pytest.raises(DataError, match="none of 12 conformers has the marked stereo"):
        generator.sample("F[C@](Cl)(Br)C", 3)


def test_relaxed_conformers_have_less_energy_and_their_stereo() -> None:
    from molgen.embedding import positions_of, with_conformers
    from molgen.relax import relax_mmff
    from molgen.sidegen.poses import relaxed

    mol = prepared("C[C@H](O)CCc1ccccc1")
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=2) == 0
    noise = 0.1 * np.random.default_rng(0).standard_normal((3, mol.GetNumAtoms(), 3))
    rough = with_conformers(mol, positions_of(mol) + noise, [{"confidence": 0.5}] * 3)
    made = relaxed(rough)
    before, after = positions_of(rough), positions_of(made)
    for old, new in zip(before, after, strict=True):
        energies = [relax_mmff(with_conformers(mol, x[None])).energy_before for x in (old, new)]
        assert energies[1] < energies[0] - 20
        assert keeps_stereo(mol, new) and np.sqrt(((old - new) ** 2).sum(1).mean()) < 1.0
    assert made.GetConformer(2).GetDoubleProp("confidence") == 0.5
    boron = prepared("CC[B-](F)(F)F")  # MMFF94s has no parameters: as it was
    assert rdDistGeom.EmbedMolecule(boron, randomSeed=2) == 0
    assert np.array_equal(positions_of(relaxed(boron)), positions_of(boron))


def test_pieces_of_a_protein_are_ligands_of_the_rest() -> None:
    structure = parse_pdb(peptide_block())  # GAVSDKF
    found = list(pieces(structure, 2, contact=0.0))
    # a neighbour on either side: AV, VS, SD, DK
    expected = [
        "CNC(=O)C(NC(=O)C(C)NC(C)=O)C(C)C",
        "CNC(=O)C(CO)NC(=O)C(NC(C)=O)C(C)C",
        "CNC(=O)C(CC(=O)O)NC(=O)C(CO)NC(C)=O",
        "CNC(=O)C(CCCCN)NC(=O)C(CC(=O)O)NC(C)=O",
    ]
    plain = [Chem.MolToSmiles(p.ligand, isomericSmiles=False) for p in found]
    assert plain == [Chem.CanonSmiles(s) for s in expected]
    for first, piece in enumerate(found):
        centres = Chem.FindMolChiralCenters(piece.ligand, useLegacyImplementation=False)
        assert [hand for _, hand in centres] == ["S", "S"]  # L-amino acids
        numbers = {int(residue.number) for residue in piece.target.residues}
        assert numbers == set(range(1, 8)) - set(range(first + 1, first + 5))
        mine = piece.ligand.GetConformer().GetPositions()
        apart = np.linalg.norm(mine[:, None] - piece.target.positions[None], axis=-1).min(1)
        assert piece.contact == pytest.approx((apart <= CONTACT).mean())
        assert apart.min() > 1.9, "no bond is left between a piece and its target"
    assert not list(pieces(structure, 2, contact=1.01))
    assert not list(pieces(structure, 6, contact=0.0)), "an end has no neighbour"
    gap = structure.select(k for k, r in enumerate(structure.residues) if r.number != "4")
    assert [Chem.MolToSmiles(p.ligand, isomericSmiles=False) for p in pieces(gap, 1, 0.0)] == [
        Chem.CanonSmiles("CNC(=O)C(C)NC(C)=O"),
        Chem.CanonSmiles("CNC(=O)C(CCCCN)NC(C)=O"),
    ]


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    generator = CartesianGenerator(SideTask(SMALL), network(SideTask(SMALL)))
    for options, said in (
        ({"n": 0}, "n: expected 1"),
        ({"steps": 0}, "steps: expected 1"),
        ({"sees": "all"}, "sees: expected one of none, pooled, messages"),
    ):
        with pytest.raises(ConfigError, match=said):
            generator.sample("CCO", **options)
    with pytest.raises(ConfigError, match="prior: expected isotropic or harmonic"):
        SideTask(prior="flat")
    with pytest.raises(ModelFileError, match="expected a model of Cartesian conformers"):
        CartesianGenerator.from_pretrained("bound")
