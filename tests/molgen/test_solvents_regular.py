"""The learned regular solution: thermodynamics, symmetry, and a planted law that it finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diffcore.errors import ModelFileError
from molgen.solvents.components import Component, Known, canonical
from molgen.solvents.liquidus import ideal_temperature, liquidus
from molgen.solvents.model import LiquidusModel, together, with_groups
from molgen.solvents.regular import T0, ExcessNetworks, liquidus_of, log_activities, pairs_of


def made(smiles: str, melting: float = 350.0, fusion: float = 20.0) -> Component:
    return Component(smiles, canonical(smiles), Known(melting, "given"), Known(fusion, "given"))


UREA, THYMOL = made("NC(N)=O", 406.0, 14.6), made("Cc1ccc(C(C)C)c(O)c1", 323.5, 19.65)
ALCOHOLS = [made("C" * n + "O", 250.0 + 12 * n, 8.0 + 3 * n) for n in range(3, 11)]
ACIDS = [made("C" * n + "C(=O)O", 260.0 + 10 * n, 10.0 + 3 * n) for n in range(3, 11)]


def shaken(seed: int = 0) -> ExcessNetworks:
    """Networks that say something."""
    networks = ExcessNetworks(3, 16, seed=seed).requires_grad_(False)
    rng = torch.Generator().manual_seed(seed)
    for p in networks.parameters():
        p += 0.1 * torch.randn(p.shape, generator=rng)
    return networks


def test_activities_obey_gibbs_and_duhem() -> None:
    """x1 d ln g1 + x2 d ln g2 = 0, and x1 ln g1 + x2 ln g2 is the energy they come from."""
    x = torch.linspace(0.02, 0.98, 25, dtype=torch.float64, requires_grad=True)
    a12, a21, c = (torch.full_like(x, v).detach() for v in (-1.3, 0.7, 2.1))
    first, second = log_activities(a12, a21, c, x)
    slopes = [torch.autograd.grad(g.sum(), x, retain_graph=True)[0] for g in (first, second)]
    off = x * slopes[0] + (1 - x) * slopes[1]
    assert off.abs().max() < 1e-12 < slopes[0].abs().max()
    energy = x * (1 - x) * (a21 * x + a12 * (1 - x)) + c * (x * (1 - x)) ** 2
    torch.testing.assert_close(x * first + (1 - x) * second, energy)


def test_the_closed_form_solves_schroeder_van_laar() -> None:
    """Beside the root finder, with the same activities as functions of the temperature."""
    x = np.array([0.1, 0.35, 0.6, 0.9])
    pairs = pairs_of([(UREA, THYMOL)] * 4, x)
    says = [torch.full((4,), v) for v in (-1.1, -0.4, 0.3)]
    found = liquidus_of(*says, pairs).numpy()

    def activity(temperature: float, share: np.ndarray) -> np.ndarray:
        phi = log_activities(*(one[:1].double() for one in says), torch.tensor([share[0]]))
        return T0 / temperature * np.array([float(phi[0]), float(phi[1])])

    for value, share in zip(found, x, strict=True):
        wanted, _ = liquidus((UREA, THYMOL), [share, 1 - share], activity)
        assert value == pytest.approx(wanted, abs=0.02)
    ideal = [torch.zeros(4)] * 3
    hot = np.maximum(ideal_temperature(UREA, x), ideal_temperature(THYMOL, 1 - x))
    np.testing.assert_allclose(liquidus_of(*ideal, pairs), hot, rtol=1e-5)


def test_the_order_of_components_is_nothing_and_ends_are_melting_points() -> None:
    networks = shaken()
    x = np.array([1e-4, 0.2, 0.5, 0.7, 1 - 1e-4])
    there = networks(pairs_of([(UREA, THYMOL)] * 5, x))
    back = networks(pairs_of([(THYMOL, UREA)] * 5, 1 - x))
    torch.testing.assert_close(there, back, rtol=1e-4, atol=1e-2)
    assert there[:, 1:4].std(0).min() > 0.1, "the networks differ"
    torch.testing.assert_close(there[:, 0], torch.full((3,), 323.5), rtol=0, atol=0.2)
    torch.testing.assert_close(there[:, -1], torch.full((3,), 406.0), rtol=0, atol=0.2)


def test_no_activity_gives_a_temperature_that_cannot_be() -> None:
    pairs = pairs_of([(UREA, THYMOL)] * 3, np.array([1e-6, 0.5, 1 - 1e-6]))
    for size in (-80.0, 80.0):
        found = liquidus_of(*[torch.full((3,), size)] * 3, pairs)
        assert torch.isfinite(found).all() and (found >= 50).all() and (found <= 1000).all()


def test_a_planted_law_is_found() -> None:
    """Alcohols and acids that attract each other by the length of their chains."""
    pytest.importorskip("sklearn")
    from molgen.solvents.regular_training import trained

    rng = np.random.default_rng(0)
    systems = [(a, b) for a in ALCOHOLS for b in ACIDS]
    rng.shuffle(systems)
    rows = [(pair, x) for pair in systems for x in (0.2, 0.4, 0.6, 0.8)]
    pairs = pairs_of([pair for pair, _ in rows], np.array([x for _, x in rows]))
    strength = [-0.2 * (len(a.smiles) + len(b.smiles) - 8) for (a, b), _ in rows]
    says = torch.tensor(strength)
    answers = liquidus_of(says, says, 0 * says, pairs).numpy()
    learn, test = torch.arange(160), torch.arange(160, len(rows))
    networks = trained(pairs.take(learn), answers[:160], np.ones(160))
    off = networks(pairs.take(test)).mean(0).numpy() - answers[160:]
    ideal = liquidus_of(0 * says, 0 * says, 0 * says, pairs).numpy()[160:] - answers[160:]
    assert np.abs(ideal).mean() > 8
    assert np.abs(off).mean() < 0.2 * np.abs(ideal).mean()
    again = trained(pairs.take(learn), answers[:160], np.ones(160))
    assert all(map(torch.equal, again.parameters(), networks.parameters())), "seeded"


def test_models_that_disagree_are_less_sure() -> None:
    base, share = np.full(2, 300.0), np.array([1.0, 0.0])
    trees = np.full((5, 2), 290.0) + np.arange(-2, 3)[:, None]
    near, unsure = together(trees, np.full((3, 2), 291.0), base, share)
    far, less_sure = together(trees, np.full((3, 2), 250.0), base, share)
    np.testing.assert_allclose(near, [-9.5, -4.5])
    np.testing.assert_allclose(far, [-30, -25])
    assert less_sure[0] > unsure[0] > 0 == unsure[1] == less_sure[1]
    both, spread = with_groups(np.array([280.0, 280.0]), np.array([280.0, 300.0]), np.full(2, 0.5))
    np.testing.assert_allclose(both, [280, 290])
    assert spread[1] > spread[0]


def test_the_shipped_networks_answer_as_the_model_does() -> None:
    model = LiquidusModel.from_pretrained()
    x = np.array([0.1, 0.4, 0.8])
    found = model.regular(UREA, THYMOL, x)
    with torch.no_grad():
        wanted = model.excess(pairs_of([(UREA, THYMOL)] * 3, x))
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-5)
    other = replace(UREA, melting=Known(450.0, "given"))
    assert np.abs(model.regular(other, THYMOL, x) - found).max() > 5


def test_a_file_without_networks_is_refused() -> None:
    from molgen.solvents.model import _networks

    with pytest.raises(ModelFileError, match=r"m\.safetensors: expected networks"):
        _networks({"pair.roots": torch.zeros(3)}, Path("m.safetensors"))


MAIN = """Component#1,Smiles#1,H#1,T#1,Component#2,Smiles#2,H#2,T#2,T_EP,X#1,PD,Type
urea,NC(N)=O,14.6,406,thymol,Cc1ccc(C(C)C)c(O)c1,19.65,323.5,330,0.3,Yes,Type V
ChCl,C[N+](C)(C)CCO.[Cl-],4.3,578,glycine,[NH3+]CC(=O)[O-],20,506,400,0.5,Yes,Type III
ChCl,C[N+](C)(C)CCO.[Cl-],4.3,578,urea,NC(N)=O,14.6,406,300,0.4,No,Type III
"""
FURTHER = """Type of DES,Component#1,Component#2,X#1 (molar fraction),"Tmelt, K",\
Phase diagram (Yes/No),Smiles#1,T#1,Smiles#2,T#2
3,ChCl,glycine,0.5,401,Yes,C[N+](C)(C)CCO.[Cl-],578,NCC(=O)O,506
3,ChCl,glycerol,0.3,280,Yes,C[N+](C)(C)CCO.[Cl-],578,OCC(O)CO,291
5,glycine,glycerol,0.3,280,No,NCC(=O)O,506,OCC(O)CO,291
5,urea,glycerol,0.3,,No,NC(N)=O,406,OCC(O)CO,291
1,ChCl,zinc,0.3,280,No,C[N+](C)(C)CCO.[Cl-],578,[Cl-].[Cl-].[Zn+2],563
3,ChCl,zinc,0.3,280,No,C[N+](C)(C)CCO.[Cl-],578,[Cl-].[Cl-].[Zn+2],563
""".replace("\\\n", "")


def test_further_systems_are_new_organic_and_learnt_from_only(tmp_path: Path) -> None:
    """Glycine is written with its proton elsewhere: the pair with choline chloride is no news."""
    import pandas as pd

    from molgen.solvents.data import TRUST, read_further, read_liquidus
    from molgen.solvents.training import by_component, by_system

    (tmp_path / "main.csv").write_text(MAIN)
    (tmp_path / "further.csv").write_text(FURTHER)
    main = read_liquidus(tmp_path / "main.csv")
    asked = []

    def fusion(smiles: str, melting: float) -> float:
        asked.append((smiles, melting))
        return 12.0

    more = read_further(tmp_path / "further.csv", main, fusion)
    glycine, glycerol = canonical("[NH3+]CC(=O)[O-]"), canonical("OCC(O)CO")
    assert [set(s.split(" + ")) for s in more["system"]] == [
        {canonical("C[N+](C)(C)CCO.[Cl-]"), glycerol},
        {glycine, glycerol},
    ]
    assert more["trust"].tolist() == [TRUST[True], TRUST[False]]
    assert (more["fusion_1"] == 12).all() and (glycine, 506.0) in asked
    both = pd.concat([main, more], ignore_index=True)
    for learn, test in by_system(both):
        assert (both["trust"].iloc[test] == 1).all() and set(learn) >= {3, 4}
        assert not set(both["system"].iloc[learn]) & set(both["system"].iloc[test])
    for learn, test in by_component(both):
        out = {min(p) for p in both[["smiles_1", "smiles_2"]].iloc[test].to_numpy().tolist()}
        assert not out & set(both[["smiles_1", "smiles_2"]].iloc[learn].to_numpy().ravel())
