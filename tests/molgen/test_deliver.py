"""Exactly n good molecules: over scripted sequences, whose good ones are known beforehand."""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from diffcore.errors import ConfigError, YieldError
from molgen import deliver as module
from molgen.chem import canonical_smiles
from molgen.deliver import Ledger, deliver, good_molecules, upper_bound
from molgen.demands import METHANE, Demands, Judge, kind_of
from molgen.generate import MoleculeGenerator
from molgen.progress import YieldBar

GOOD = [
    "CCO", "CCN", "CC=O", "C1CC1", "CCC", "CC#N", "COC", "CCF", "C=C", "C#C", "OCO", "CC(C)O",
    "CNC", "C1CO1", "NC=O", "CC(=O)C", "C=CC", "C1CCC1", "OC=O", "CN=C",
]  # fmt: skip


def made(smiles: str) -> Chem.Mol:
    """A molecule with hydrogens and a conformer."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    return mol


MADE = {smiles: made(smiles) for smiles in GOOD}
MADE["two"] = made("O.O")
MADE["radical"] = made("[CH3]")
_five = Chem.RWMol(Chem.MolFromSmiles("CC(C)(C)C", sanitize=False))
_five.AddBond(1, _five.AddAtom(Chem.Atom(6)), Chem.BondType.SINGLE)
MADE["five"] = _five.GetMol()
PLAIN = Demands(["strict_valid"], reference=None)


def source_of(names: list[str], calls: list[tuple[int, int]] | None = None) -> module.Source:
    """An endless sequence that repeats the names."""

    def source(
        start: int, count: int, done: Callable[[float], object] | None
    ) -> Iterator[Chem.Mol]:
        if calls is not None:
            calls.append((start, count))
        for i in range(start, start + count):
            if done is not None:
                done(1.0)
            yield MADE[names[i % len(names)]]

    return source


def test_the_first_good_ones_are_taken_in_order_and_the_others_accounted_for() -> None:
    names = ["CCO", "two", "CCN", "five", "radical", "CC=O"]
    delivery = deliver(source_of(names), 5, PLAIN, progress=False)
    assert [int(mol.GetProp("index")) for mol in delivery.mols] == [0, 2, 5, 6, 8]
    assert delivery.made == 9
    assert delivery.rejected == {
        "strict_valid: fragments": 2,
        "strict_valid: does not sanitise": 1,
        "strict_valid: radical": 1,
    }
    assert [row.index for row in delivery.log] == [1, 3, 4, 7]
    assert delivery.table.loc[0].to_list() == [1, "strict_valid: fragments: 2", "O.O"]
    assert delivery.made == len(delivery.mols) + sum(delivery.rejected.values())
    assert str(delivery).startswith("5 good of 9 made (55.6 %) in 0 s; rejected 4: strict_valid:")
    assert "<td>2</td>" in delivery._repr_html_()
    assert all(not mol.HasProp("index") for mol in MADE.values())


def test_more_continues_the_same_list_whatever_the_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [*GOOD, "two", "five"]
    few = deliver(source_of(names), 7, PLAIN, progress=False)
    many = deliver(source_of(names), 30, PLAIN, progress=False)
    monkeypatch.setattr(module, "LARGEST_REQUEST", 3)
    small = deliver(source_of(names), 30, PLAIN, progress=False)

    def indices(delivery: module.Delivery) -> list[str]:
        return [mol.GetProp("index") for mol in delivery.mols]

    assert indices(few) == indices(many)[:7]
    assert indices(many) == indices(small)
    assert many.log == small.log


def test_an_iterator_serves_as_well_and_its_end_is_an_error() -> None:
    mols = [MADE["CCO"], None, MADE["two"], MADE["CCN"]]
    delivery = deliver(itertools.cycle(mols), 3, PLAIN, progress=False)
    assert delivery.rejected == {"no molecule": 1, "strict_valid: fragments": 1}
    with pytest.raises(YieldError, match="ended after 4 molecules: 2 of 3") as error:
        deliver(mols, 3, PLAIN, progress=False)
    assert isinstance(error.value.delivery, module.Delivery)
    assert len(error.value.delivery.mols) == 2


def test_unique_and_novel() -> None:
    demands = Demands(unique=True, reference=None)
    unique = deliver(source_of(["CCO", "CCO", "CCN", "OCO", "CCO"]), 3, demands, progress=False)
    assert [mol.GetProp("index") for mol in unique.mols] == ["0", "2", "3"]
    assert unique.rejected == {"duplicate": 1}
    known, new = made("O=CCC1CCCCO1"), made("C[SiH3]")  # QM9 holds the first, and no silicon
    novel = deliver([known, new, known, new], 2, Demands(novel=True), progress=False)
    assert [mol.GetProp("index") for mol in novel.mols] == ["1", "3"]
    assert novel.rejected == {"in the training data": 2}


def test_a_rejected_molecule_does_not_bar_its_graph() -> None:
    """Only what was delivered makes a later one a duplicate."""
    flat = Chem.Mol(MADE["CCO"])
    flat.RemoveAllConformers()
    demands = Demands(["has_3d"], unique=True, reference=None)
    delivery = deliver([flat, MADE["CCO"], MADE["CCO"], MADE["CCN"]], 2, demands, progress=False)
    assert [mol.GetProp("index") for mol in delivery.mols] == ["1", "3"]
    assert delivery.rejected == {"has_3d": 1, "duplicate": 1}


def test_repair_comes_before_the_checks_of_the_geometry() -> None:
    pytest.importorskip("posebusters")
    rough = Chem.Mol(MADE["CCO"])
    positions = rough.GetConformer().GetPositions() * 1.25
    rough.GetConformer().SetPositions(np.ascontiguousarray(positions))
    demands = {"require": "strict_valid, posebusters", "reference": None}
    judge = Judge(Demands(**demands))  # type: ignore[arg-type]
    assert judge(rough).kind == "pb_valid: internal_energy"
    delivery = deliver([rough], 1, Demands(**demands, repair="mmff"), progress=False)  # type: ignore[arg-type]
    assert delivery.repaired == 1
    assert delivery.mols[0].GetProp("repair") == "mmff"
    assert delivery.mols[0].GetProp("demands") == "strict_valid pb_valid repair=mmff"


def test_a_hostile_molecule_costs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judge(Demands(["connected"], reference=None))

    def explode(*_: object) -> object:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(judge, "_failed", explode)
    verdict = judge(MADE["CCO"])
    assert verdict.mol is None
    assert verdict.reason == "could not be judged: RuntimeError: two lines"
    assert verdict.kind == "could not be judged"
    monkeypatch.undo()
    assert judge(Chem.Mol()).mol is None


# ------------------------------------------------------------------------------- hopeless yields


def test_the_upper_bound_is_that_of_clopper_and_pearson() -> None:
    """The yield at which so few hits would be seen in 5 % of trials."""
    assert upper_bound(0, 200) == pytest.approx(1 - 0.05 ** (1 / 200), rel=1e-9)
    p = upper_bound(3, 50)
    tail = sum(math.comb(50, k) * p**k * (1 - p) ** (50 - k) for k in range(4))
    assert tail == pytest.approx(0.05, rel=1e-6)
    assert upper_bound(50, 50) == 1.0


def test_no_good_one_at_all_stops_in_one_line() -> None:
    with pytest.raises(YieldError) as error:
        deliver(source_of(["two"]), 100, PLAIN, progress=False)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("0 of 100 molecules after")
    assert "strict_valid: fragments" in text and "max_tries, 10000" in text
    delivery = error.value.delivery
    assert isinstance(delivery, module.Delivery)
    assert 200 <= delivery.made < 1500
    assert delivery.mols == []


def test_a_small_space_of_graphs_is_found_to_be_exhausted() -> None:
    demands = Demands(unique=True, reference=None)
    with pytest.raises(YieldError, match=r"^20 of 60 molecules after \d+ tries .*duplicate") as e:
        deliver(source_of(GOOD), 60, demands, progress=False)
    assert isinstance(e.value.delivery, module.Delivery)
    assert {mol.GetProp("index") for mol in e.value.delivery.mols} == {str(i) for i in range(20)}
    assert e.value.delivery.made < 3000


def test_a_low_but_sufficient_yield_is_not_given_up() -> None:
    names = ["two"] * 39 + ["CCO"]
    delivery = deliver(source_of(names), 20, PLAIN, progress=False)
    assert delivery.made == 800


def test_max_tries_bounds_the_work() -> None:
    calls: list[tuple[int, int]] = []
    with pytest.raises(YieldError, match="max_tries is 50"):
        deliver(source_of(["two"], calls), 5, PLAIN, max_tries=50, progress=False)
    assert sum(count for _, count in calls) == 50
    with pytest.raises(ConfigError, match="max_tries: expected at least the 5 molecules"):
        deliver(source_of(["two"]), 5, PLAIN, max_tries=4, progress=False)


def test_little_more_is_asked_for_than_is_needed() -> None:
    calls: list[tuple[int, int]] = []
    deliver(source_of(GOOD, calls), 200, PLAIN, progress=False)
    assert sum(count for _, count in calls) < 280
    assert [start for start, _ in calls] == [0, *np.cumsum([c for _, c in calls])[:-1]]


# ------------------------------------------------------------------------------------ going on


def test_a_delivery_goes_on_where_it_was_left() -> None:
    names = ["CCO", "two", "CCO", "CCN", "five", "CC=O", "C1CC1", "CCC", "COC"]
    demands = Demands(["strict_valid"], unique=True, reference=None)
    whole = deliver(source_of(names), 6, demands, progress=False)
    ledger = Ledger(made=4, good=[0, 3])
    rest = list(
        good_molecules(source_of(names), 6, demands, ledger, seen=["CCO", "CCN"], progress=False)
    )
    assert [m.GetProp("index") for m in rest] == [m.GetProp("index") for m in whole.mols[2:]]
    assert ledger.made == whole.made
    assert ledger.log == whole.log[2:]


def test_the_verdict_on_the_yield_is_the_same_after_an_interruption() -> None:
    demands = Demands(unique=True, reference=None)
    with pytest.raises(YieldError) as first:
        deliver(source_of(GOOD), 60, demands, progress=False)
    ledger = Ledger(made=20, good=list(range(20)))
    seen = [canonical_smiles(MADE[smiles]) for smiles in GOOD]
    with pytest.raises(YieldError) as second:
        list(good_molecules(source_of(GOOD), 60, demands, ledger, seen=seen, progress=False))
    tries = [str(error.value).split(" (")[0] for error in (first, second)]
    assert tries[0] == tries[1]


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"require": ["strict_vaild"]}, "unknown check 'strict_vaild': did you mean 'strict_val"),
        ({"require": ["pose_busters"]}, "did you mean 'posebusters'"),
        ({"require": ["qed"]}, "'qed' does not say yes or no"),
        ({"require": ["unique"]}, "'unique' is no check of one molecule"),
        ({"repair": "uff"}, "repair: expected one of mmff, xtb, got 'uff'"),
        ({"novel": True, "reference": None}, "novel: there is no list"),
    ],
)
def test_unknown_demands_are_refused_with_the_nearest(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Demands(**options)  # type: ignore[arg-type]


def test_demands_read_as_they_are_written() -> None:
    assert not Demands()
    text = str(Demands("posebusters,strict_valid,pb_valid", unique=True, repair="xtb"))
    assert text == "pb_valid strict_valid unique repair=xtb"


def test_a_missing_package_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tblite", None)
    calls: list[tuple[int, int]] = []
    with pytest.raises(ConfigError, match="pip install"):
        deliver(source_of(GOOD, calls), 2, Demands(repair="xtb", reference=None), progress=False)
    assert calls == []


def test_reasons_are_counted_without_their_particulars() -> None:
    assert kind_of("strict_valid: fragments: 2") == "strict_valid: fragments"
    assert kind_of("repair changed the stereo: C2 from R to S") == "repair changed the stereo"
    assert kind_of("duplicate") == "duplicate"
    assert (
        Judge(Demands(["strict_valid"]))(Chem.MolFromMolBlock(METHANE, removeHs=False)).kind == ""
    )


# ----------------------------------------------------------------------------------------- bar


def test_the_bar_counts_good_ones_and_expects_more_from_work_under_way() -> None:
    with YieldBar(100, good=10, show=False) as bar:
        moves: list[float] = []

        class Recorder:
            n = 10.0

            def update(self, by: float) -> None:
                self.n += by
                moves.append(self.n)

            def set_postfix_str(self, *_: object, **__: object) -> None:
                pass

            def close(self) -> None:
                pass

        bar._bar = Recorder()
        bar.worked(20.0)
        assert moves[-1] == pytest.approx(10 + 0.9 * 20)
        for k in range(20):
            bar.judged(k % 2 == 0)
        assert moves[-1] == pytest.approx(20)  # ten of twenty were good
        bar.worked(10.0)
        assert moves[-1] == pytest.approx(20 + 10 * 19 / 30)
        bar.worked(1e6)
        assert moves[-1] == 100


# ----------------------------------------------------------------------------- the real generator


def test_the_generator_delivers_the_same_whatever_the_batch_and_the_number() -> None:
    generator = MoleculeGenerator.from_pretrained("qm9")
    options = {"require": "strict_valid", "unique": True, "seed": 5, "n_atoms": 17, "steps": 5}
    whole = generator.deliver(3, progress=False, **options)  # type: ignore[arg-type]
    part = generator.sample(2, batch_size=1, progress=False, **options)  # type: ignore[arg-type]
    assert len(whole.mols) == 3 and len(part) == 2 and whole.rejected
    for one, other in zip(whole.mols[:2], part, strict=True):
        assert one.GetProp("index") == other.GetProp("index")
        first, second = (mol.GetConformer().GetPositions() for mol in (one, other))
        assert np.array_equal(first, second)
    everything = list(generator.stream(whole.made, seed=5, n_atoms=17, steps=5))
    judge = Judge(Demands("strict_valid", unique=True))
    assert [i for i, mol in enumerate(everything) if judge(mol).mol is not None] == [
        int(mol.GetProp("index")) for mol in whole.mols
    ]


def test_a_model_without_a_reference_refuses_novel_and_takes_rdkits_valencies() -> None:
    generator = MoleculeGenerator.from_pretrained("qm9")
    assert generator.reference == "qm9"
    generator.card = {**generator.card, "data": {"name": "mine"}}
    assert generator.reference is None
    with pytest.raises(ConfigError, match="novel: there is no list"):
        generator.deliver(2, novel=True)
