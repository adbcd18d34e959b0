"""QM9: a small file in the package's format, planted faults, and the package itself."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from diffcore.errors import DataError, OutputError
from molgen.datasets import parallel, qm9
from molgen.datasets.qm9_rows import COLUMNS, convert_rows
from molgen.datasets.table import MoleculeTable

HEADER = (
    "XYZ_file,Index,SMILES,InChi,N_atoms,Stoichiometry,Elements,XYZ_Ang,Mulliken_pop,"
    "Harmonic_Freq_cmi,RotA_GHz,RotB_GHz,RotC_GHz,Dipole_debye,Polarizability_bohr3,HOMO_au,"
    "LUMO_au,HOMO_LUMO_gap_au,R2_bohr2,ZPVE_au,InternalEnergy_0K_au,InternalEnergy_298K_au,"
    "Enthalphy_298K_au,GibbsFreeEnergy_298K_au,Heatcapacity_Cv_cal_mol_K"
)
METHANE = (
    1,
    "C",
    "CHHHH",
    "[[-0.0126981359,1.0858041578,0.0080009958],[0.002150416,-0.0060313176,0.0019761204],"
    "[1.0117308433,1.4637511618,0.0002765748],[-0.540815069,1.4475266138,-0.8766437152],"
    "[-0.5238136345,1.4379326443,0.9063972942]]",
    "0.,13.21,-0.3877,0.1171,0.5048,35.3641,0.044749,-40.47893,-40.476062,-40.475117,-40.498597,"
    "6.469",
)
WATER = (
    3,
    "O",
    "OHH",
    "[[-0.0343604951,0.9775395708,0.0076015923],[0.0647664923,0.0205721989,0.0015346341],"
    "[0.8717903737,1.3007924048,0.0006931336]]",
    "1.8511,6.31,-0.2928,0.0687,0.3615,19.0002,0.021375,-76.404702,-76.401867,-76.400922,"
    "-76.422349,6.002",
)
ACETYLENE = (
    4,
    "C#C",
    "CCHH",
    "[[0.5995394918,0.,1.],[-0.5995394918,0.,1.],[-1.6616385861,0.,1.],[1.6616385861,0.,1.E+00]]",
    "0.,16.28,-0.2845,0.0506,0.3351,59.5248,0.026841,-77.308427,-77.305527,-77.304583,-77.327429,"
    "8.574",
)
FORMALDEHYDE = (
    6,
    "C=O",
    "COHH",
    "[[-0.0139776956,1.1802114286,0.0077524981],[0.0023139861,-0.0196636557,0.0021610727],"
    "[0.9149602868,1.789511172,0.0039565555],[-0.9591097173,1.7640179751,0.0171828436]]",
    "2.1089,14.18,-0.267,-0.0406,0.2263,59.9891,0.026603,-114.483613,-114.480746,-114.479802,"
    "-114.505268,6.413",
)
METHANOL = (
    8,
    "CO",
    "COHHHH",
    "[[-0.0082881667,1.3904697792,-0.0056006901],[-0.0079703813,-0.0250453723,0.0203060595],"
    "[1.0065833848,1.8155636589,0.0034833514],[-0.5465747513,1.7991697458,-0.8739012577],"
    "[-0.5228887142,1.7255524029,0.8990732632],[0.4414201887,-0.3335442546,-0.7715205863]]",
    "1.5258,16.97,-0.2653,0.0784,0.3437,83.794,0.051208,-115.679136,-115.675816,-115.674872,"
    "-115.701876,8.751",
)
GOOD = (METHANE, WATER, ACETYLENE, FORMALDEHYDE, METHANOL)


def csv_row(index: int, smiles: str, elements: str, xyz: str, numbers: str) -> str:
    symbols = "[" + ",".join(f"'{symbol}'" for symbol in elements) + "]"
    start = f'"dsgdb9nsd_{index:06d}.xyz",{index},"{smiles}","InChI=1S",{len(elements)},"[0]"'
    return f'{start},"{symbols}","{xyz}","[0.]","[0.]",1.,1.,1.,{numbers}'


def write_source(folder: Path, *rows: tuple) -> Path:
    """A folder as in the package, the rows dealt over two files."""
    folder.mkdir(exist_ok=True)
    cut = (len(rows) + 1) // 2
    for name, part in (("part1", rows[:cut]), ("part2", rows[cut:])):
        lines = [HEADER, *(csv_row(*row) for row in part)]
        (folder / f"qm9_{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def convert(tmp_path: Path, *rows: tuple, workers: int = 1, name: str = "out") -> MoleculeTable:
    source = write_source(tmp_path / "source", *rows)
    path = tmp_path / f"{name}.safetensors"
    assert qm9.convert(path, progress=False, workers=workers, source=source) == path
    return MoleculeTable.load(path)


def without(row: tuple, **changes: str) -> tuple:
    fields = ("index", "smiles", "elements", "xyz", "numbers")
    return tuple(changes.get(name, value) for name, value in zip(fields, row, strict=True))


def test_small_molecules_are_what_they_are(tmp_path: Path) -> None:
    table = convert(tmp_path, *GOOD)
    assert table.smiles() == ["C", "O", "C#C", "C=O", "CO"]
    assert table.source_id.tolist() == [1, 3, 4, 6, 8]
    batch = table.batch([2, 3])
    assert batch["bond"][0].tolist() == [[0, 3, 0, 1], [3, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]]
    assert batch["bond"][1].tolist() == [[0, 2, 1, 1], [2, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]
    assert batch["hybridisation"].tolist() == [[2, 2, 1, 1], [3, 3, 1, 1]]
    assert not table.charge.any() and not table.ring.any() and not table.aromatic.any()
    assert not any(table.card["left_out"].values())


def test_properties_have_the_units_of_the_card(tmp_path: Path) -> None:
    """Methane: published values in the units of QM9, and eV where the field uses eV."""
    table = convert(tmp_path, METHANE)
    values = dict(zip(table.property_names, table.properties[0].tolist(), strict=True))
    in_ev = {"homo": -10.5499, "lumo": 3.1865, "gap": 13.7363, "zpve": 1.2177}
    in_ev |= {"U0": -1101.4878, "U": -1101.4098, "H": -1101.3841, "G": -1102.0229}
    for name, value in in_ev.items():
        assert values[name] == pytest.approx(value, abs=3e-4), name
        assert table.card["properties"][name] == "eV"
    assert values["mu"] == 0.0 and values["alpha"] == 13.21 and values["Cv"] == 6.469
    assert values["gap"] == pytest.approx(values["lumo"] - values["homo"], abs=1e-9)
    assert list(values) == "mu alpha homo lumo gap r2 zpve U0 U H G Cv".split()


def test_each_planted_fault_costs_one_row_and_is_counted(tmp_path: Path) -> None:
    faults = [
        without(METHANE, smiles="CC"),
        without(WATER, smiles="[OH3+]"),
        without(FORMALDEHYDE, smiles="[CH2+][O-]"),
        without(WATER, xyz=WATER[3].replace("0.0076015923", "zero")),
        without(WATER, xyz=WATER[3].replace("0.0076015923", "nan")),
        without(WATER, xyz="[[0.,0.,0.],[1.,0.,0.]]"),
        without(WATER, elements="XHH"),
        without(WATER, smiles="C1CC"),
        without(METHANE, elements="FHHHH"),
        without(WATER, numbers=WATER[4].replace("6.31", "")),
    ]
    table = convert(tmp_path, METHANE, *faults, METHANOL)
    assert table.smiles() == ["C", "CO"]
    assert table.card["counts"]["source"] == 12 and table.card["counts"]["kept"] == 2
    assert table.card["left_out"] == {
        "unreadable record": 5,
        "SMILES not understood": 1,
        "no bonds fit the geometry": 1,
        "other connectivity than the SMILES": 2,
        "other bond orders or charges than the SMILES": 1,
    }
    assert table.card["left_out_ids"]["other bond orders or charges than the SMILES"] == [6]


def test_truncated_file_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", *GOOD)
    file = source / "qm9_part2.csv"
    file.write_text(file.read_text()[:-120])
    with pytest.raises(DataError, match="truncated or damaged"):
        qm9.convert(tmp_path / "out", progress=False, workers=1, source=source)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_foreign_and_empty_sources_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match="found none"):
        qm9.convert(out, source=tmp_path)
    (tmp_path / "a_part1.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="expected a column Index"):
        qm9.convert(out, progress=False, workers=1, source=tmp_path)
    (tmp_path / "a_part1.csv").write_text("")
    with pytest.raises(DataError, match="expected molecules"):
        qm9.convert(out, progress=False, workers=1, source=tmp_path)
    with pytest.raises(OutputError, match="cannot write"):
        qm9.convert(tmp_path / "a_part1.csv" / "out", source=tmp_path)


def test_a_changed_package_is_refused_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_source(tmp_path / "source", *GOOD)
    monkeypatch.setattr(qm9, "source_files", lambda: sorted(source.glob("*.csv")))
    with pytest.raises(DataError, match="damaged or of another version"):
        qm9.convert(tmp_path / "out", progress=False)


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "qm9pack" else find(name)
    )
    monkeypatch.setenv("DESIGNLOOM_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"designloom\[qm9\]"):
        qm9.load(progress=False)


def test_load_converts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_source(tmp_path / "source", *GOOD)
    monkeypatch.setenv("DESIGNLOOM_CACHE", str(tmp_path / "cache"))
    original, calls = qm9.convert, []

    def counted(path: Path, progress: bool) -> Path:
        calls.append(path)
        return original(path, progress=progress, workers=1, source=source)

    monkeypatch.setattr(qm9, "convert", counted)
    assert len(qm9.load(progress=False)) == len(qm9.load(progress=False)) == 5
    assert calls == [qm9.cache_path()]
    qm9.cache_path().write_bytes(b"broken")
    with pytest.raises(DataError, match="delete the file"):
        qm9.load(progress=False)


def test_two_processes_give_the_same_bytes_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qm9, "_CHUNK", 2)
    convert(tmp_path, *GOOD, workers=1, name="one")
    convert(tmp_path, *GOOD, workers=2, name="two")
    assert (tmp_path / "one.safetensors").read_bytes() == (
        tmp_path / "two.safetensors"
    ).read_bytes()


def test_progress_is_shown_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_source(tmp_path / "source", *GOOD)
    qm9.convert(tmp_path / "out", progress=True, workers=1, source=source)
    shown = capsys.readouterr()
    assert "100%" in shown.err and shown.out == ""


def test_standard_split() -> None:
    split = qm9.standard_split(130_831)
    assert np.bincount(split).tolist() == [100_000, 17_748, 13_083]
    # the first draws of numpy's legacy generator, as the published code makes them
    np.random.seed(0)  # noqa: NPY002
    order = np.random.permutation(130_831)  # noqa: NPY002
    assert (split[order[:100_000]] == 0).all()
    assert (split[order[100_000:117_748]] == 1).all()
    assert (split[order[117_748:]] == 2).all()
    assert set(qm9.standard_split(50).tolist()) == {0, 1, 2}


def test_loading_needs_no_rdkit(tmp_path: Path) -> None:
    convert(tmp_path, *GOOD)
    (tmp_path / "out.safetensors").rename(tmp_path / f"qm9-v{qm9.VERSION}.safetensors")
    code = (
        "import sys; sys.modules['rdkit'] = None; sys.modules['pandas'] = None\n"
        "from molgen.datasets.qm9 import load\n"
        "assert load().batch([0, 4])['pos'].shape == (2, 6, 3)\n"
    )
    run_python(code, DESIGNLOOM_CACHE=str(tmp_path))


def test_a_script_without_a_main_guard_converts_once(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", *GOOD)
    script = tmp_path / "script.py"
    script.write_text(
        "from molgen.datasets import qm9\n"
        f"print(qm9.convert({str(tmp_path / 'out')!r}, False, 2, {str(source)!r}))\n"
    )
    done = run_python(None, str(script))
    assert done.stdout.split() == [str(tmp_path / "out")] and done.stderr == ""


def die_once(marker: str) -> int:
    """Kill the worker, but only the first time."""
    path = Path(marker)
    if path.suffix == ".fatal" and not path.exists():
        path.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return len(marker)


def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    inputs = [str(tmp_path / name) for name in ("a", "b", "c.fatal", "d", "ee", "f", "g", "h")]
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_qm9 import die_once\n"
        "from molgen.datasets.parallel import map_in_order\n"
        "found = list(map_in_order(die_once, sys.argv[2:], workers=2))\n"
        "assert found == [(one, len(one)) for one in sys.argv[2:]], found\n"
        "print('all')\n"
    )
    done = run_python(code, str(Path(__file__).parent), *inputs)
    assert done.stdout.strip() == "all"


def test_one_worker_stays_in_this_process() -> None:
    pids = list(parallel.map_in_order(lambda _: os.getpid(), range(3), workers=1))
    assert pids == [(k, os.getpid()) for k in range(3)]


def run_python(
    code: str | None, *arguments: str, **environment: str
) -> subprocess.CompletedProcess:
    """Run python in a process of its own, with the checkout on its path."""
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, *(["-c", code] if code else []), *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": root, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done


def test_manifest_agrees_with_the_code(repository: Path) -> None:
    manifest = json.loads((repository / "data" / "qm9.json").read_text())
    assert manifest["sha256"] == qm9.SHA256 and manifest["licence"] == qm9.LICENCE
    assert manifest["converted"]["bytes"] < 64 * 2**20
    counts, left_out = manifest["converted"]["counts"], manifest["converted"]["left_out"]
    assert counts["kept"] + sum(left_out.values()) == counts["source"] == 130_831


needs_package = pytest.mark.skipif(
    importlib.util.find_spec("qm9pack") is None, reason="the package qm9pack is not installed"
)


@needs_package
def test_rows_of_the_package_convert() -> None:
    """300 rows from the middle: nearly all agree with their SMILES, and Kekule forms add up."""
    rows = []
    for number, cells in qm9._rows(qm9.source_files()[1:2]):
        if number % 140 == 0:
            rows.append((number, cells))
        if len(rows) == 300:
            break
    arrays, left_out = convert_rows(rows)
    kept = len(arrays["n_atoms"])
    assert kept + len(left_out) == 300 and kept >= 297
    assert len(rows[0][1]) == len(COLUMNS)
    owner = np.repeat(np.cumsum(arrays["n_atoms"]) - arrays["n_atoms"], arrays["n_bonds"])
    ends = arrays["bond_atoms"].astype(int) + owner[:, None]
    weights = np.tile(arrays["bond_order"].astype(float), 2)
    valence = np.bincount(ends.T.ravel(), weights=weights, minlength=len(arrays["charge"]))
    usual = np.array([{1: 1, 6: 4, 7: 3, 8: 2, 9: 1}[z] for z in arrays["atomic_number"]])
    neutral = arrays["charge"] == 0
    assert (valence[neutral] == usual[neutral]).all()
    length = torch.tensor(arrays["pos"][ends[:, 0]] - arrays["pos"][ends[:, 1]]).norm(dim=1)
    assert 0.9 < length.min() and length.max() < 1.9


@needs_package
@pytest.mark.slow
def test_the_whole_package_converts_to_the_recorded_counts(
    tmp_path: Path, repository: Path
) -> None:
    manifest = json.loads((repository / "data" / "qm9.json").read_text())["converted"]
    path = qm9.convert(tmp_path / "qm9", progress=False)
    card = MoleculeTable.load(path).card
    assert card["counts"] == manifest["counts"] and card["left_out"] == manifest["left_out"]
    assert path.stat().st_size == pytest.approx(manifest["bytes"], rel=0.001)
