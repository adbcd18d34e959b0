"""Ranking of conformers: closed forms, symmetries, a planted rule, and use by the generator."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rdkit import Chem

from diffcore import random
from diffcore.checkpoint import load_card, save_weights
from diffcore.errors import DataError, ModelFileError
from diffcore.objective import Objective, denoising_loss
from diffcore.teaching import Ranked
from molgen.conformers import ConformerGenerator
from molgen.datasets import pools
from molgen.datasets.complex_table import arrays_of_row
from molgen.datasets.table import MoleculeTable
from molgen.embedding import prepared
from molgen.models.ranking import PairRanking, RankingConfig
from molgen.models.torsion import TorsionConfig
from molgen.ranking import RankingDenoiser, RankingTask, distances, stream
from molgen.tasks.conformers import ConformerTask
from molgen.torsions import torsion_graph
from tests.molgen.test_torsions import molecule_table

CONFORMERS = ConformerTask(TorsionConfig(width=16, layers=1, pair_width=16, harmonics=4))
TASK = RankingTask(RankingConfig(features=16, width=8, radial=6), shown=24)
SMILES = ("CCCCC(=O)NCc1ccccc1", "OCCCCO", "CCOC(=O)CCCN", "c1ccccc1CCCO")


def seeded(build: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(random.generator(0).get_state())
        return build()


def shaken(ranking: PairRanking) -> PairRanking:
    rng = torch.Generator().manual_seed(0)
    for p in ranking.parameters():
        p.data += 0.3 * torch.randn(p.shape, generator=rng)
    return ranking.requires_grad_(False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A torsional model that names a ranking, and the ranking."""
    folder = tmp_path_factory.mktemp("model")
    card: dict[str, Any] = {
        "kind": "conformers",
        "name": "tiny",
        "task": CONFORMERS.to_json(),
        "sampling": {"steps": 3, "pool": 24, "least": 3},
    }
    path = save_weights(folder / "plain.safetensors", seeded(CONFORMERS.build).state_dict(), card)
    card["ranking"] = "tiny-ranking"
    path = save_weights(folder / "tiny.safetensors", seeded(CONFORMERS.build).state_dict(), card)
    note = {"kind": "ranking", "of": load_card(path)["sha256"], "task": TASK.to_json()}
    weights = shaken(seeded(TASK.build)).state_dict()
    save_weights(folder / "tiny-ranking.safetensors", weights, note)
    return folder


@pytest.fixture(scope="module")
def ligands() -> MoleculeTable:
    return molecule_table(*SMILES, "c1ccccc1", "CCCCCCCC=O")


@pytest.fixture(scope="module")
def table(folder: Path, ligands: MoleculeTable, tmp_path_factory: Any) -> pools.PoolTable:
    parts = tmp_path_factory.mktemp("pools")
    return pools.build(ligands, str(folder / "plain.safetensors"), parts, 4, part=3)


def test_a_pair_scores_its_radial_functions() -> None:
    config = RankingConfig(features=4, width=4, radial=3, nearest=2.0, farthest=4.0)
    ranking = PairRanking(config)
    coefficients = torch.tensor([[[1.0, 2.0, 3.0], [0.0, 0.0, 5.0]]])
    found = ranking(coefficients, torch.tensor([[[3.0, 9.0], [2.5, 4.0]]]))
    wide, half = np.exp(-0.5), np.exp(-0.125)
    assert found[0, 0].item() == pytest.approx(1 * wide + 2 + 3 * wide, rel=1e-5)
    third = np.exp(-0.5 * 1.5**2)
    assert found[0, 1].item() == pytest.approx(half + 2 * half + 3 * third + 5, rel=1e-5)


def test_scores_do_not_change_with_turns_mirrors_and_the_order_of_atoms(folder: Path) -> None:
    model = ConformerGenerator.from_pretrained(folder / "tiny.safetensors")
    assert model.ranker is not None
    mol = prepared(SMILES[0])
    pos = model.pool(mol, 3, 0)
    weights = model.weights(mol, pos)
    assert weights is not None and weights.sum() == pytest.approx(1)
    assert weights.max() > 1.2 * weights.min(), "it does prefer some"
    sharper = replace(model, ranker=replace(model.ranker, power=2.0)).weights(mol, pos)
    np.testing.assert_allclose(sharper, weights**2 / (weights**2).sum(), rtol=1e-4)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    np.testing.assert_allclose(model.weights(mol, pos @ turn + 3), weights, rtol=1e-3)
    np.testing.assert_allclose(model.weights(mol, -pos), weights, rtol=1e-3)
    order = np.random.default_rng(1).permutation(mol.GetNumAtoms())
    other = Chem.RenumberAtoms(mol, order.tolist())
    np.testing.assert_allclose(model.weights(other, pos[:, order]), weights, rtol=1e-3)


def test_padding_changes_no_score(table: pools.PoolTable) -> None:
    network, ranking = seeded(CONFORMERS.build), shaken(seeded(TASK.build))
    denoiser = RankingDenoiser(ranking, network)
    every = TASK.encode(table.batch(range(4)))
    times = {"share": torch.ones(4)}
    together = denoiser(every, times, {})["share"]
    for k in range(4):
        alone = denoiser(TASK.encode(table.batch([k])), {"share": torch.ones(1)}, {})["share"]
        torch.testing.assert_close(together[k], alone[0], atol=1e-5, rtol=1e-4)


def test_pairs_are_counted_in_bonds() -> None:
    graph = torsion_graph(prepared("CCCCCC"))
    near, bonds = pools.pairs_of(graph)
    found = {(*sorted(p), b) for p, b in zip(near.tolist(), bonds.tolist(), strict=True)}
    assert found == {(0, 4, 4), (1, 5, 4), (0, 5, 5)}
    _, bonds = pools.pairs_of(torsion_graph(prepared("CCC.CCCO")))
    assert sorted(set(bonds.tolist())) == [255], "another fragment is far"


def test_pools_hold_what_was_drawn_and_how_far_it_is_from_the_crystal(
    table: pools.PoolTable, folder: Path, ligands: MoleculeTable, tmp_path: Path
) -> None:
    assert len(table) == 4 and table.card["left_out"] == 0
    assert table.rmsd.shape == (4, pools.SAMPLES) and (table.rmsd > 0.05).all()
    batch = table.batch([1])
    assert batch["pos"].shape == (1, pools.SAMPLES, 6, 3)
    bonded = batch["edge"][0][batch["edge_mask"][0]]
    length = (batch["pos"][0][:, bonded[:, 0]] - batch["pos"][0][:, bonded[:, 1]]).norm(dim=-1)
    assert 1.2 < length.min() and length.max() < 1.7
    near = distances(batch["pos"], batch["near"])[0, 3]
    i, j = batch["near"][0].T
    torch.testing.assert_close(near, (batch["pos"][0, 3, i] - batch["pos"][0, 3, j]).norm(dim=-1))
    table.save(tmp_path / "pools.safetensors")
    again = pools.PoolTable.load(tmp_path / "pools.safetensors")
    assert torch.equal(again.rmsd, table.rmsd) and again.card == table.card
    # a crystal conformer that is one of those drawn is at no distance
    generator = ConformerGenerator.from_pretrained(folder / "plain.safetensors")
    one = arrays_of_row(ligands, 1)
    drawn = pools.pool_of(generator, one)["pos"].reshape(6, -1, 3).transpose(1, 0, 2)
    heavy = one["atomic_number"] > 1
    one["pos"] = one["pos"].copy()
    one["pos"][heavy] = drawn[7]
    assert pools.pool_of(generator, one)["rmsd"].min() < 1e-3


def test_pools_go_on_where_they_stopped(
    folder: Path, ligands: MoleculeTable, tmp_path: Path
) -> None:
    """Three ligands, then five: as five at once; benzene is left out and counted."""
    model = str(folder / "plain.safetensors")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    pools.build(ligands, model, tmp_path / "a", 3, part=2)
    more = pools.build(ligands, model, tmp_path / "a", 5, part=2)
    once = pools.build(ligands, model, tmp_path / "b", 5, part=2)
    assert torch.equal(more.rmsd, once.rmsd)
    assert more.card["left_out"] == once.card["left_out"] == 1
    with pytest.raises(
        DataError, match="pools-0.safetensors: expected conformers of these ligands"
    ):
        pools.build(ligands.select([1, 0, 2]), model, tmp_path / "a", 3)
    with pytest.raises(DataError, match="none has a pool"):
        (tmp_path / "c").mkdir()
        pools.build(molecule_table("c1ccccc1"), model, tmp_path / "c", 2)


def test_a_planted_rule_is_learned(table: pools.PoolTable) -> None:
    """The rmsd is set to grow with the mean distance of far atoms: compact ones have to win."""
    batch = table.batch(range(4))
    near = distances(batch["pos"], batch["near"]) * batch["near_mask"].unsqueeze(1)
    mean = near.sum(-1) / batch["near_mask"].sum(-1, keepdim=True)
    planted = replace(table, rmsd=(mean - mean.min(1, keepdim=True).values))
    network, ranking = seeded(CONFORMERS.build), seeded(TASK.build)
    denoiser = RankingDenoiser(ranking, network)
    objective = Objective(weighting="uniform", self_condition=0.0, independent=0.0, align=False)
    optimiser = torch.optim.Adam(ranking.parameters(), 1e-2)
    losses = []
    batches = stream(planted, TASK, seed=0, size=2)
    for k in range(60):
        rng = torch.Generator().manual_seed(k)
        loss, _ = denoising_loss(denoiser, TASK.processes(), next(batches), objective, rng)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < 0.4 * np.mean(losses[:10])
    scores = denoiser(TASK.encode(planted.batch(range(4))), {}, {})["share"].squeeze(-1)
    for k in range(4):
        order = np.corrcoef(scores[k].detach().numpy(), planted.rmsd[k].numpy())[0, 1]
        assert order < -0.8


def test_the_loss_is_the_divergence_of_the_shares() -> None:
    process = TASK.processes()["share"]
    assert isinstance(process, Ranked)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    share = torch.tensor([[0.2, 0.3, 0.5], [0.5, 0.5, 0.0]]).unsqueeze(-1)
    scores = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 9.0]]).unsqueeze(-1)
    found = process.loss(scores, share, mask)
    entropy = -(0.2 * np.log(0.2) + 0.3 * np.log(0.3) + 0.5 * np.log(0.5))
    np.testing.assert_allclose(found, [np.log(3) - entropy, 0.0], atol=1e-6)
    shown = process.forward(share, torch.ones(2), mask, torch.Generator())
    assert not shown.any(), "nothing is shown"


def test_the_first_conformer_follows_the_ranking(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All the weight on one sample: it comes first, and has all the confidence."""
    model = ConformerGenerator.from_pretrained(folder / "tiny.safetensors")
    mol = prepared(SMILES[0])
    pool = model.pool(mol, 2, 0)
    favourite = len(pool) - 1
    only = np.eye(len(pool))[favourite]
    monkeypatch.setattr(ConformerGenerator, "weights", lambda *_: only)
    made = model.sample(mol, 2, seed=0)
    np.testing.assert_allclose(made.GetConformer(0).GetPositions(), pool[favourite], atol=1e-6)
    assert made.GetConformer(0).GetDoubleProp("confidence") == pytest.approx(1)
    monkeypatch.undo()
    plain = ConformerGenerator.from_pretrained(folder / "plain.safetensors")
    assert plain.ranker is None and plain.weights(mol, pool) is None
    assert model.weights(prepared("c1ccccc1"), pool[:, :12]) is None, "nothing turns"


def test_a_ranking_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    card = json.loads((tmp_path / "tiny-ranking.json").read_text())
    for changed, reason in (
        ({"of": "0" * 64}, "of the model beside it"),
        ({"kind": "conformers"}, "expected a ranking"),
        ({"task": {"network": {"nothing": 1}}}, "not a ranking task"),
    ):
        (tmp_path / "tiny-ranking.json").write_text(json.dumps(card | changed))
        with pytest.raises(ModelFileError, match=reason):
            ConformerGenerator.from_pretrained(tmp_path / "tiny.safetensors")
    (tmp_path / "tiny-ranking.safetensors").unlink()
    with pytest.raises(ModelFileError):
        ConformerGenerator.from_pretrained(tmp_path / "tiny.safetensors")
