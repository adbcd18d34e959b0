"""Molecules as tokens: notations, tasks, models of seconds, and what goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffcore import random
from diffcore.denoisers import PREVIOUS
from diffcore.errors import ConfigError, DataError, ModelFileError
from diffcore.objective import Objective, denoising_loss
from diffcore.transformer import Size
from molgen.tokens.generator import METHODS, PropertyReader, TokenGenerator, load_tokens
from molgen.tokens.task import LEFT_TO_RIGHT, MULTITASK, READERS, WRITERS, TokenDenoiser, TokenTask
from molgen.tokens.vocabulary import END, Vocabulary, readable, split, vocabulary_of, written
from molgen.weights.files import write_model

SMILES = ["CCO", "c1ccoc1", "CC#N", "O=C(N)C1CC1", "C[N+](C)(C)CC(=O)[O-]"]
MOMENTS = {"gap": (6.0, 1.5), "mu": (2.0, 1.0)}


def vocabulary(notation: str = "smiles") -> Vocabulary:
    if notation == "selfies":
        pytest.importorskip("selfies")
    return vocabulary_of((split(written(s, notation), notation) for s in SMILES), notation)


def task(method: str, notation: str = "smiles") -> TokenTask:
    return TokenTask(vocabulary(notation), MOMENTS, method, Size(width=32, layers=1, heads=2))


CHAINS = Vocabulary("smiles", ("C", "N", "O"), 6)
"""Every text of these symbols is a molecule."""


def saved(method: str, folder: Path, v: Vocabulary | None = None) -> Path:
    one = TokenTask(v or vocabulary(), MOMENTS, method, Size(width=32, layers=1, heads=2))
    with torch.random.fork_rng():
        torch.random.set_rng_state(random.generator(5).get_state())
        network = one.build()
    path = folder / f"{method}.safetensors"
    return write_model(path, network.state_dict(), {"kind": "tokens", "task": one.to_json()})


@pytest.mark.parametrize("notation", ["smiles", "selfies"])
def test_text_there_and_back(notation: str) -> None:
    v = vocabulary(notation)
    tokens = v.encode(SMILES)
    assert v.decode(tokens) == [readable(s, "smiles") for s in SMILES]
    assert (tokens != v.mask_class).all() and (tokens[0, -1] == END)


def test_random_selfies_are_always_molecules() -> None:
    v = vocabulary("selfies")
    rows = torch.randint(1, v.mask_class, (200, v.length), generator=random.generator(1))
    assert sum(one is not None for one in v.decode(rows)) > 195


def test_what_a_vocabulary_refuses() -> None:
    v = vocabulary()
    with pytest.raises(DataError, match="does not know B"):
        v.encode(["CBr"])
    with pytest.raises(DataError, match="symbols or less"):
        v.encode(["C" * 100])
    with pytest.raises(DataError, match="characters of a SMILES"):
        split("C!", "smiles")
    with pytest.raises(ConfigError, match="unknown notation"):
        Vocabulary("inchi", ("C",), 3)
    assert v.decode(torch.zeros(1, v.length, dtype=torch.long)) == [None]


@pytest.mark.parametrize("method", [*WRITERS, *READERS, MULTITASK])
def test_every_method_learns_through_the_shared_objective(method: str) -> None:
    one = task(method)
    network = one.build()
    clean = one.encode(one.vocabulary.encode(SMILES), torch.tensor([[6.0, 2.0]] * len(SMILES)))
    denoiser = TokenDenoiser(network, one, carry=method not in LEFT_TO_RIGHT)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    objective = Objective(weighting="uniform", self_condition=0.0, independent=0.0, align=False)
    losses = []
    for k in range(60):
        rng = random.generator(k % 4)
        loss, _ = denoising_loss(denoiser, one.taught(), clean, objective, rng)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


@pytest.mark.parametrize("method", LEFT_TO_RIGHT)
def test_a_causal_network_sees_nothing_of_what_follows(method: str) -> None:
    one = task(method)
    denoiser = TokenDenoiser(one.build(), one, carry=False)
    tokens = one.vocabulary.encode(SMILES[:1])
    other = tokens.clone()
    other[:, 2:] = 1
    times = {"token": torch.ones(1)}
    told = torch.full((1, 2), torch.nan)
    made = []
    for x in (tokens, other):
        state = one.encode(x, told)
        made.append(denoiser(state, times, {PREVIOUS: None})["token"])
    assert torch.allclose(made[0][:, :3], made[1][:, :3])
    assert not torch.allclose(made[0][:, 3:], made[1][:, 3:])


@pytest.mark.parametrize("method", [*WRITERS, MULTITASK])
def test_written_molecules_depend_on_seed_and_place_alone(method: str, tmp_path: Path) -> None:
    generator = TokenGenerator.from_pretrained(saved(method, tmp_path, CHAINS))
    asked = {"gap": 5.0}
    one = generator.sample(6, seed=3, properties=asked, strength=2.0, steps=6)
    assert one == generator.sample(6, seed=3, properties=asked, strength=2.0, steps=6, batch_size=4)
    assert one != generator.sample(6, seed=4, properties=asked, strength=2.0, steps=6)
    assert set(METHODS) >= set(WRITERS)


@pytest.mark.parametrize("method", [*READERS, MULTITASK])
def test_a_bad_row_costs_a_row(method: str, tmp_path: Path) -> None:
    reader = PropertyReader.from_pretrained(saved(method, tmp_path))
    table = reader.predict(["CCO", "C(", "", "CBr", "OCC"])
    assert table["gap"].isna().tolist() == [False, True, True, True, False]
    if method != "diffusion":
        assert table["gap"][0] == pytest.approx(table["gap"][4], abs=1e-5)
    assert all(
        bool(why) == gone for why, gone in zip(table["why_not"], table["gap"].isna(), strict=True)
    )


def test_what_a_generator_refuses(tmp_path: Path) -> None:
    path = saved("absorbing", tmp_path)
    generator = TokenGenerator.from_pretrained(path)
    with pytest.raises(ConfigError, match="unknown property 'size'"):
        generator.sample(1, properties={"size": 1.0})
    with pytest.raises(ConfigError, match="expected a number"):
        generator.sample(1, properties={"gap": float("nan")})
    with pytest.raises(ConfigError, match="one or 3 mappings"):
        generator.sample(3, properties=[{"gap": 1.0}])
    with pytest.raises(ConfigError, match="expected 1 or more"):
        generator.sample(0)
    with pytest.raises(ModelFileError, match="reads properties"):
        PropertyReader.from_pretrained(path)
    with pytest.raises(ModelFileError, match="writes molecules"):
        TokenGenerator.from_pretrained(saved("direct", tmp_path))
    with pytest.raises(ModelFileError, match="model of tokens"):
        load_tokens("qm9", reads=True)
    with pytest.raises(ConfigError, match="unknown method"):
        task("prompt")
    with pytest.raises(ConfigError, match="not a task of tokens"):
        TokenTask.from_json({"vocabulary": {}})


@pytest.mark.parametrize("method", ["causal", "absorbing"])
def test_a_draft_is_kept_and_the_rest_is_written(method: str, tmp_path: Path) -> None:
    generator = TokenGenerator.from_pretrained(saved(method, tmp_path, CHAINS))
    kept = generator._kept("N[?]O")
    free = torch.full((40, 2), torch.nan)
    tokens = generator._draw(free, kept, random.row_generators(0, range(40)), 1.0, 1.0, None)
    assert (tokens[:, [0, 2]] == torch.tensor([CHAINS.places["N"], CHAINS.places["O"]])).all()
    assert (tokens != CHAINS.mask_class).all() and len(tokens[:, 1].unique()) > 1
    with pytest.raises(DataError, match="does not know S"):
        generator.sample(1, draft="NS")
    with pytest.raises(DataError, match="6 symbols or less"):
        generator.sample(1, draft="N" * 7)
    analog = TokenGenerator.from_pretrained(saved("analog", tmp_path, CHAINS))
    with pytest.raises(ConfigError, match="needs a causal or absorbing model"):
        analog.sample(1, draft="N")


@pytest.mark.parametrize("method", LEFT_TO_RIGHT)
def test_what_is_not_needed_is_not_computed_and_changes_nothing(method: str) -> None:
    one = task(method)
    network = one.build()
    x = one.vocabulary.encode(SMILES[:3])
    x[:, 2:] = one.vocabulary.mask_class
    state = one.encode(x, torch.full((3, 2), torch.nan))
    times = {"token": torch.full((3,), 0.5)}
    short = TokenDenoiser(network, one)(state, times, {PREVIOUS: None})["token"]
    whole = TokenDenoiser(network, one, carry=False)(state, times, {PREVIOUS: None})["token"]
    assert torch.allclose(short[:, 2], whole[:, 2], atol=1e-5)
    assert (short[:, 3:].argmax(-1) == END).all() and (short[:, :2].argmax(-1) == x[:, :2]).all()
    ended = state.replace(token=torch.where(torch.arange(x.shape[1]) == 1, END, x))
    made = TokenDenoiser(network, one)(ended, times, {PREVIOUS: None})["token"]
    assert (made[:, 2:].argmax(-1) == END).all()


def test_the_card_recommends_a_temperature(tmp_path: Path) -> None:
    generator = TokenGenerator.from_pretrained(saved("causal", tmp_path, CHAINS))
    plain_, cold = generator.sample(8), generator.sample(8, temperature=0.01)
    assert plain_ == generator.sample(8, temperature=1.0) != cold
    generator.card["sampling"] = {"temperature": 0.01}
    assert generator.sample(8) == cold
