"""Training of contacts from the command line: weights, their use beside a model, errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diffcore import random
from diffcore.checkpoint import load_card
from diffcore.errors import ConfigError, DataError, OutputError
from molgen.conformers import ConformerGenerator
from molgen.contacts.network import ContactPotential
from molgen.contacts.term import Contacts
from molgen.datasets.contact_table import ContactTable, flat
from pipelines.bench_contacts import bench_contacts, of_bonds, of_places
from pipelines.cli import main
from pipelines.train_contacts import train_contacts
from tests.molgen.docking_examples import write
from tests.molgen.test_contacts import row
from tests.pipelines.test_train_ranking import model  # noqa: F401


@pytest.fixture
def complexes(tmp_path: Path) -> Path:
    (tmp_path / "set" / "one").mkdir(parents=True)
    write(tmp_path / "set" / "one")
    return tmp_path / "set"


def test_contacts_are_trained_and_go_with_their_model(
    model: Path,  # noqa: F811
    complexes: Path,
    tmp_path: Path,
) -> None:
    options = {"model": str(model), "out": str(tmp_path / "run"), "pieces": 2, "batch": 4}
    made = train_contacts(complexes, **options, max_time="00:00:02")
    card = load_card(made)
    assert (card["kind"], card["name"]) == ("contacts", "tiny-contacts")
    assert card["data"]["names"] == ["one"] and card["trained"]["steps"] > 0
    table = ContactTable.load(tmp_path / "run" / "contacts-data.safetensors")
    assert len(table) == card["data"]["rows"] == 1 + card["data"]["pieces"]
    assert (tmp_path / "run" / "curve.png").exists()
    with pytest.raises(OutputError, match="holds a training run already"):
        train_contacts(complexes, **options, max_time="00:00:02")

    for suffix in (".safetensors", ".json"):
        (tmp_path / f"tiny-contacts{suffix}").write_bytes(made.with_suffix(suffix).read_bytes())
    note = json.loads(model.with_suffix(".json").read_text())
    model.with_suffix(".json").write_text(json.dumps({**note, "contacts": "tiny-contacts"}))
    generator = ConformerGenerator.from_pretrained(model)
    assert generator.contacts is not None
    text = bench_contacts(complexes, str(model))
    assert "1 complexes, 3 bonds" in text and "| told of the target |" in text
    assert "likelier than all of 100 random shifts" in text
    pytest.importorskip("vina")
    protein, sdf = write(tmp_path)
    mol = generator.sample("OCCCN", 2, pocket=protein, reference_ligand=sdf, exhaustiveness=1)
    names = ("vina_min", "torsion_cost", "contact_cost")
    sums = [sum(c.GetDoubleProp(name) for name in names) for c in mol.GetConformers()]
    assert sums and sums == sorted(sums)
    out = tmp_path / "o.sdf"
    words = ["generate", "conformers", str(sdf), "--model", str(model), "-o", str(out), "-n", "2"]
    words += ["--pocket", str(protein), "--reference-ligand", str(sdf), "--exhaustiveness", "1"]
    assert main(words) == 0
    assert "<contact_cost>" in out.read_text()
    assert ",contact_cost," in out.with_suffix(".csv").read_text()


def test_options_and_test_sets_are_checked(
    model: Path,  # noqa: F811
    complexes: Path,
    tmp_path: Path,
) -> None:
    out = str(tmp_path / "run")
    with pytest.raises(ConfigError, match="expected a model that has contacts"):
        bench_contacts(complexes, str(model))
    with pytest.raises(ConfigError, match="--number: expected at least 1"):
        bench_contacts(complexes, str(model), number=0)
    for name in ("pieces", "batch", "threads"):
        with pytest.raises(ConfigError, match=f"--{name}: expected"):
            train_contacts(complexes, str(model), out=out, **{name: -1})
    with pytest.raises(DataError, match="none is left: its ligand is in a test set"):
        train_contacts(complexes, str(model), exclude=[complexes], out=out)
    with pytest.raises(DataError, match="no such file or folder"):
        train_contacts(tmp_path / "nowhere", str(model), out=out)


def test_bonds_and_places_by_hand() -> None:
    """A wall that is nowhere near: alone and told are the same; one through the ligand is not."""
    _, far = row(apart=9.5)
    _, near = row(apart=0.3)
    contacts = Contacts(ContactPotential().requires_grad_(False), {})
    for made, same in ((far, True), (near, False)):
        bonds = of_bonds(contacts, flat([made], [0], {}))
        assert bonds.nats["alone"].numpy() == pytest.approx(made["density"][:, 0], abs=0.02)
        assert torch.equal(bonds.nats["alone"], bonds.nats["told"]) is same
        likeliest = made["density"].argmax(1) * 5
        wanted = np.minimum(likeliest, 360 - likeliest)
        assert bonds.apart["alone"].tolist() == wanted.tolist()
    even = of_places(contacts, flat([far], [0], {}), random.generator(0))
    crossed = of_places(contacts, flat([near], [0], {}), random.generator(0))
    assert even.item() < 50 < crossed.item(), "most moves lead out of a wall"
