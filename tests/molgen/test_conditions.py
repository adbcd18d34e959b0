"""Conditioning on properties: labels, drop-out, the network's condition, the predictor."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from rdkit import Chem
from rdkit.Chem import AllChem

from diffcore import random
from diffcore.errors import ConfigError, ModelFileError
from diffcore.objective import Objective, denoising_loss, drop_conditions
from diffcore.state import State
from molgen.models.eqgat import EqgatConfig
from molgen.properties import PropertyPredictor
from molgen.recipes import Recipe, parts_of, recipe, task_for, training_rows, with_labels
from molgen.tasks.molecules import MoleculeDenoiser, MoleculeTask
from molgen.tasks.properties import PropertyDenoiser, build_property_network
from molgen.weights.files import write_model
from tests.molgen.test_table import table_of
from tests.molgen.test_tasks import batch, task

TINY = EqgatConfig(layers=2, scalars=16, vectors=4, pairs=8, hidden=8, heads=4, residual=True)
CONDITIONS = {"gap": (7.0, 1.5), "mu": (2.0, 1.0)}


def conditional() -> MoleculeTask:
    return dataclasses.replace(task(network=TINY), conditions=CONDITIONS)


def test_a_share_sees_nothing_and_the_others_any_number_of_columns_as_often() -> None:
    x = torch.zeros(30_000, 3)
    state = State({"property": x}, torch.ones(30_000, 1, dtype=torch.bool))
    hidden = drop_conditions(state, ["property"], 0.2, random.generator(0))["property"]
    kept = (~hidden.isnan()).sum(-1)
    shares = torch.bincount(kept, minlength=4) / len(x)
    expected = torch.tensor([0.2, 0.8 / 3, 0.8 / 3, 0.8 / 3])
    assert float((shares - expected).abs().max()) < 0.015  # 5 standard deviations
    each = (~hidden.isnan()).float().mean(0)
    assert float((each - each.mean()).abs().max()) < 0.015


def test_a_value_that_was_not_known_is_never_made_known() -> None:
    state = State({"property": torch.full((50, 2), math.nan)}, torch.ones(50, 1, dtype=torch.bool))
    assert bool(
        drop_conditions(state, ["property"], 0.0, random.generator(0))["property"].isnan().all()
    )


def test_the_denoiser_sees_the_condition_in_training() -> None:
    one = conditional()
    given = batch() | {"gap": torch.tensor([7.0, 8.5, 5.5]), "mu": torch.tensor([2.0, 3.0, 1.0])}
    clean = one.encode(given)
    seen: list[torch.Tensor] = []
    inner = MoleculeDenoiser(one.build(), one.processes())

    def spy(state: State, times: object, context: object) -> State:
        seen.append(state["property"])
        return inner(state, times, context)  # type: ignore[arg-type]

    objective = Objective(self_condition=0.0)
    denoising_loss(spy, one.processes(), clean, objective, random.generator(0))
    torch.testing.assert_close(seen[-1], torch.tensor([[0.0, 0.0], [1.0, 1.0], [-1.0, -1.0]]))
    everything = dataclasses.replace(objective, condition_drop=1.0)
    denoising_loss(spy, one.processes(), clean, everything, random.generator(0))
    assert bool(seen[-1].isnan().all())


@pytest.mark.parametrize("trained", [False, True])
def test_no_condition_is_exactly_the_unconditional_network(trained: bool) -> None:
    one = conditional()
    network = one.build().requires_grad_(False)
    assert network.embed_condition is not None
    if trained:  # pretend: the last layer is zero at the start
        last = network.embed_condition[-1]
        last.weight.copy_(torch.linspace(-1, 1, last.weight.numel()).reshape(last.weight.shape))
    denoiser = MoleculeDenoiser(network, one.processes())
    state = one.encode(batch() | {"gap": torch.full((3,), 9.0)})
    times = {name: torch.full((3,), 0.5) for name in one.processes()}
    told = denoiser(state, times, {})
    hidden = denoiser(state.replace(property=torch.full((3, 2), math.nan)), times, {})
    without = denoiser(
        State({n: x for n, x in state.items() if n != "property"}, state.mask), times, {}
    )
    for name in without:
        assert torch.equal(hidden[name], without[name])
        assert torch.isfinite(told[name]).all()
    assert torch.equal(told["pos"], without["pos"]) is not trained


def test_the_task_survives_its_card() -> None:
    one = conditional()
    assert MoleculeTask.from_json(json.loads(json.dumps(one.to_json()))) == one
    old = {k: v for k, v in task().to_json().items() if k != "conditions"}
    assert MoleculeTask.from_json(old) == task()


def test_odd_and_even_labels_share_no_molecule() -> None:
    table = table_of(["C", "O", "CO", "C=O", "N", "CC"])
    odd, even = (with_labels(table, half) for half in ("odd", "even"))
    known = [~t.properties[:, 0].isnan() for t in (odd, even)]
    assert not bool((known[0] & known[1]).any()) and bool((known[0] | known[1]).all())
    assert bool((odd.source_id[known[0]] % 2 == 1).all())
    assert with_labels(table, "all") is table
    judge = recipe("qm9-judge")
    rows = training_rows(judge, even)
    assert len(rows) and bool((even.source_id[rows] % 2 == 0).all())
    moments = task_for(judge, even).conditions["gap"]
    column = even.properties[rows, even.property_names.index("gap")]
    assert moments[0] == pytest.approx(float(column.mean()), abs=1e-5)


def test_wrong_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown labels 'third'; known: all, odd, even"):
        Recipe("qm9", TINY, labels="third")
    with pytest.raises(ConfigError, match="unknown kind 'images'; known: molecules, properties"):
        Recipe("qm9", TINY, kind="images")


# ------------------------------------------------------------------------------- the predictor


def molecule(smiles: str) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    return mol


def predictor() -> PropertyPredictor:
    one = conditional()
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(random.generator(3).get_state())
        network = build_property_network(one).requires_grad_(False)
    return PropertyPredictor(one, PropertyDenoiser(network))


def test_predictions_do_not_depend_on_pose_atom_order_or_company() -> None:
    mols = [molecule(s) for s in ("CO", "C=O", "CCO", "CO")]
    moved = Chem.Mol(mols[2])
    moved = Chem.RenumberAtoms(moved, list(reversed(range(moved.GetNumAtoms()))))
    turn = torch.linalg.qr(torch.randn(3, 3, generator=random.generator(0), dtype=torch.float64))[0]
    xyz = torch.tensor(moved.GetConformer().GetPositions()) @ turn + 7.0
    moved.GetConformer().SetPositions(xyz.numpy())
    together = predictor().predict([*mols, moved])
    alone = predictor().predict([mols[2]])
    assert list(together.columns) == ["gap", "mu"]
    for column in together:
        assert together[column][4] == pytest.approx(together[column][2], abs=1e-4)
        assert alone[column][0] == pytest.approx(together[column][2], abs=1e-4)
        assert together[column][0] == pytest.approx(together[column][3], abs=1e-4)
    assert together["gap"].nunique() > 2


def test_what_cannot_be_read_is_nan_and_costs_one_row() -> None:
    flat = Chem.AddHs(Chem.MolFromSmiles("CO"))
    table = predictor().predict([molecule("CO"), flat, molecule("CN"), molecule("C=O")])
    assert table["gap"].isna().tolist() == [False, True, True, False]


def test_the_regression_learns_a_number_of_the_molecule() -> None:
    """A property that is the number of oxygens must be learned: loss far below its variance."""
    one = dataclasses.replace(recipe("qm9-properties"), network=TINY)
    known = dataclasses.replace(conditional(), conditions={"gap": (1.0, 1.0)})
    parts = parts_of(one, known)
    network = parts.build()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    given = batch()
    given["gap"] = (given["atomic_number"] == 1).sum(1).float()
    clean = known.encode(given)
    losses = []
    for step in range(150):
        rng = random.generator(0, step)
        denoiser = parts.denoiser(network)
        loss, _ = denoising_loss(denoiser, parts.processes, clean, one.objective, rng)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 * losses[0]


def test_a_predictor_comes_back_from_its_file(tmp_path: Path) -> None:
    made = predictor()
    card = {"kind": "properties", "name": "tiny", "task": made.task.to_json()}
    path = write_model(tmp_path / "tiny.safetensors", made.denoiser.network.state_dict(), card)
    back = PropertyPredictor.from_pretrained(path)
    mols = [molecule("CO"), molecule("CC=O")]
    for column in back.names:
        assert back.predict(mols)[column].tolist() == pytest.approx(
            made.predict(mols)[column].tolist(), rel=2e-2
        )
    with pytest.raises(ModelFileError, match="expected a model of properties, got 'molecules'"):
        PropertyPredictor.from_pretrained("qm9")
