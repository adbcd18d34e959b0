"""Generation: reproducibility to the last bit, refusals in one line, model files that protect
themselves."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diffcore.errors import ConfigError, ModelFileError
from molgen.generate import MoleculeGenerator, Sampling
from molgen.models.eqgat import EqgatConfig
from molgen.tasks.molecules import MoleculeTask
from molgen.weights.files import write_model

SIZES = {4: 1, 5: 3, 7: 2}


def task(**options: object) -> MoleculeTask:
    return MoleculeTask(
        elements=(1, 6, 8),
        charges=(-1, 0, 1),
        marginals={
            "atom": (0.5, 0.4, 0.1),
            "charge": (0.1, 0.8, 0.1),
            "bond": (0.6, 0.3, 0.07, 0.03),
        },
        sizes=SIZES,
        scale=1.3,
        network=EqgatConfig(
            layers=2,
            scalars=256,
            vectors=32,
            pairs=32,
            hidden=64,
            heads=16,
            radial=16,
            residual=True,
        ),
        **options,  # type: ignore[arg-type]
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    one = task()
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(torch.Generator().manual_seed(3).get_state())
        network = one.build()
    card = {"kind": "molecules", "name": "tiny", "task": one.to_json(), "sampling": {"steps": 5}}
    return write_model(tmp_path / "tiny.safetensors", network.state_dict(), card)


def coordinates(mol: object) -> np.ndarray:
    return mol.GetConformer().GetPositions()  # type: ignore[attr-defined,no-any-return]


def test_a_molecule_depends_on_seed_and_index_alone(model: Path) -> None:
    generator = MoleculeGenerator.from_pretrained(model)
    whole = generator.sample(20, seed=5, progress=False)
    alone = generator.sample(20, seed=5, batch_size=3, progress=False)
    tail = list(generator.stream(4, seed=5, start=16))
    for one, other in [*zip(whole, alone, strict=True), *zip(whole[16:], tail, strict=True)]:
        assert np.array_equal(coordinates(one), coordinates(other))
        assert [a.GetAtomicNum() for a in one.GetAtoms()] == [
            a.GetAtomicNum() for a in other.GetAtoms()
        ]
    other_seed = generator.sample(20, seed=6, progress=False)
    assert not all(
        a.GetNumAtoms() == b.GetNumAtoms() and np.array_equal(coordinates(a), coordinates(b))
        for a, b in zip(whole, other_seed, strict=True)
    )


def test_sizes_follow_the_model_and_n_atoms_is_exact(model: Path) -> None:
    generator = MoleculeGenerator.from_pretrained(model)
    drawn = [m.GetNumAtoms() for m in generator.stream(300, steps=1, seed=1)]
    counts = np.array([drawn.count(n) for n in SIZES])
    expected = 300 * np.array([1, 3, 2]) / 6
    assert set(drawn) == set(SIZES)
    assert float(((counts - expected) ** 2 / expected).sum()) < 13.8  # chi-square, 2 dof, p = 0.001
    assert {m.GetNumAtoms() for m in generator.stream(3, n_atoms=6, steps=1)} == {6}


def test_molecules_are_centred_named_and_counted(model: Path) -> None:
    generator = MoleculeGenerator.from_pretrained(model)
    mols = generator.sample(9, seed=2, n_atoms=5, steps=7, progress=False)
    assert generator.evaluations == 9 * 7
    for index, mol in enumerate(mols):
        assert np.abs(coordinates(mol).mean(0)).max() < 1e-5
        assert mol.GetProp("_Name") == f"tiny-2-{index}"
        assert int(mol.GetProp("index")) == index
        assert all(atom.GetNoImplicit() for atom in mol.GetAtoms())


@pytest.mark.parametrize(
    "sampler", ["ancestral", "ddim", "dpmpp_2m", "heun", "flow_euler", "tau_leaping"]
)
def test_every_sampler_makes_finite_molecules(model: Path, sampler: str) -> None:
    generator = MoleculeGenerator.from_pretrained(model)
    for mol in generator.sample(3, sampler=sampler, steps=4, temperature=0.5, progress=False):
        assert np.isfinite(coordinates(mol)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "expected at least 1 molecule, got 0"),
        ({"n": 2, "n_atoms": 99}, "4 to 7 atoms, got 99"),
        ({"n": 2, "steps": 0}, "steps: expected at least 1, got 0"),
        ({"n": 2, "temperature": 0.0}, "above 0, got 0.0"),
        ({"n": 2, "temperature": float("nan")}, "above 0"),
        ({"n": 2, "sampler": "magic"}, "unknown sampler 'magic'; known: ancestral"),
        ({"n": 2, "batch_size": 0}, "batch_size: expected at least 1"),
    ],
)
def test_options_outside_their_range_are_refused_before_any_work(
    model: Path, options: dict[str, object], message: str
) -> None:
    generator = MoleculeGenerator.from_pretrained(model)
    with pytest.raises(ConfigError, match=message):
        generator.stream(**options)  # type: ignore[arg-type]
    assert generator.evaluations == 0


def test_unknown_model_names_the_known_ones() -> None:
    with pytest.raises(ModelFileError, match="unknown model 'qm99': expected one of"):
        MoleculeGenerator.from_pretrained("qm99")


def test_a_changed_or_torn_weights_file_is_refused(model: Path) -> None:
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(bytes(content))
    with pytest.raises(ModelFileError, match="damaged or was changed"):
        MoleculeGenerator.from_pretrained(model)
    model.write_bytes(bytes(content[: len(content) // 2]))
    with pytest.raises(ModelFileError, match="damaged or was changed"):
        MoleculeGenerator.from_pretrained(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "webs"}, "expected a model of molecules, got 'webs'"),
        ({"task": {}}, "not a molecule task"),
        ({"sampling": {"step": 3}}, "unexpected keyword argument 'step'"),
        ({"format": 99}, "expected a card of format 1, got 99"),
    ],
)
def test_a_card_of_another_kind_is_refused(
    model: Path, change: dict[str, object], message: str
) -> None:
    path = model.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelFileError, match=message):
        MoleculeGenerator.from_pretrained(model)


def test_weights_of_another_size_do_not_fit(model: Path) -> None:
    path = model.with_suffix(".json")
    card = json.loads(path.read_text())
    card["task"]["network"]["scalars"] = 128
    path.write_text(json.dumps(card))
    with pytest.raises(ModelFileError, match="does not fit the network of its card"):
        MoleculeGenerator.from_pretrained(model)


def test_sampling_settings_are_checked_on_their_own() -> None:
    with pytest.raises(ConfigError, match="power: expected a number above 0"):
        Sampling(power=-1)
