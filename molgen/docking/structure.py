"""PDB files as they come: alternate locations, several models, gaps, unknown residues, waters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffcore.errors import DataError

WATERS = frozenset({"HOH", "WAT", "DOD", "H2O", "SOL", "TIP", "TIP3", "TP3", "OH2"})

AMINO_ACIDS = frozenset(
    "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL "
    "ASH GLH HID HIE HIP HSD HSE HSP CYX CYM LYN MSE SEC PYL ASX GLX".split()
)
NUCLEOTIDES = frozenset("A C G U I DA DC DG DT DU DI".split())

TWO_LETTERS = frozenset(
    "LI BE NE NA MG AL SI CL AR CA SC TI CR MN FE CO NI CU ZN GA GE AS SE BR KR RB SR ZR MO RU RH "
    "PD AG CD IN SN SB TE XE CS BA LA SM EU GD TB HO YB LU TA RE OS IR PT AU HG TL PB".split()
)


class Residue(NamedTuple):
    """What tells one residue from another."""

    chain: str
    number: str
    name: str


@dataclass(frozen=True)
class Structure:
    """One model of a structure, one location for each atom, no waters.

    Attributes:
        lines: ATOM and HETATM records.
        elements: chemical symbols.
        names: names of the atoms, such as CA.
        residues: residue of every atom.
        positions: [N, 3] Angstrom.
        notes: what was left out or is missing, one short sentence each.
    """

    lines: tuple[str, ...]
    elements: tuple[str, ...]
    names: tuple[str, ...]
    residues: tuple[Residue, ...]
    positions: NDArray[np.float64]
    notes: tuple[str, ...] = ()

    def select(self, keep: Iterable[int], notes: tuple[str, ...] = ()) -> Structure:
        """The atoms of these indices, with further notes."""
        rows = list(keep)
        return Structure(
            tuple(self.lines[k] for k in rows),
            tuple(self.elements[k] for k in rows),
            tuple(self.names[k] for k in rows),
            tuple(self.residues[k] for k in rows),
            self.positions[rows],
            (*self.notes, *notes),
        )

    @property
    def heavy(self) -> NDArray[np.bool_]:
        """[N], whether an atom is no hydrogen."""
        return np.array([e not in ("H", "D") for e in self.elements], dtype=bool)

    @property
    def polymer(self) -> NDArray[np.bool_]:
        """[N], whether an atom belongs to a protein or a nucleic acid."""
        backbone = defaultdict(set)
        for residue, name in zip(self.residues, self.names, strict=True):
            backbone[residue].add(name)
        known = {
            r
            for r, names in backbone.items()
            if r.name in AMINO_ACIDS or r.name in NUCLEOTIDES or {"N", "CA", "C"} <= names
        }
        return np.array([r in known for r in self.residues], dtype=bool)

    def hetero(self) -> tuple[str, ...]:
        """Names of cofactors, metals and other residues that are no polymer, each once."""
        rows = zip(self.residues, self.polymer.tolist(), strict=True)
        return tuple(dict.fromkeys(r.name for r, polymer in rows if not polymer))

    def near(self, points: NDArray[np.float64], distance: float) -> Structure:
        """Whole residues with an atom within a distance (Angstrom) of any point [P, 3]."""
        from scipy.spatial import cKDTree

        found = cKDTree(points).query(self.positions, distance_upper_bound=distance)[0]
        wanted = {r for r, d in zip(self.residues, found, strict=True) if np.isfinite(d)}
        return self.select(k for k, r in enumerate(self.residues) if r in wanted)

    def pdb(self) -> str:
        """Text of a PDB file."""
        return "\n".join([*self.lines, "END", ""])


class _Atom(NamedTuple):
    line: str
    element: str
    name: str
    residue: Residue
    site: str
    occupancy: float
    position: tuple[float, float, float]


def read_pdb(path: str | Path) -> Structure:
    """The first model of a .pdb or .ent file, also .gz, without waters.

    Of alternate locations, the one with the highest occupancy of each residue is kept (the first
    of equals). Cofactors, metals and unknown residues are kept.

    Raises:
        DataError: the file is missing, unreadable, no PDB file, or without protein or nucleic acid.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    from molgen.records import open_text

    try:
        with open_text(path) as file:
            text = file.read()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    try:
        return parse_pdb(text)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def parse_pdb(text: str) -> Structure:
    """As `read_pdb`, from the text of a file.

    Raises:
        DataError: there is no atom, or none of a protein or nucleic acid.
    """
    records, models = _first_model(text)
    atoms, broken = [], 0
    for record in records:
        atom = _atom(record)
        if atom is None:
            broken += 1
        else:
            atoms.append(atom)
    if not atoms:
        kind = "an mmCIF file" if "_atom_site." in text else "none"
        raise DataError(f"expected a PDB file with ATOM records, got {kind}")
    notes = []
    if models > 1:
        notes.append(f"first of {models} models")
    if broken:
        notes.append(f"{broken} atom records without readable coordinates left out")
    dry = [a for a in atoms if a.residue.name not in WATERS]
    if len(dry) < len(atoms):
        notes.append(f"{len({a.residue for a in atoms} - {a.residue for a in dry})} waters removed")
    single = _one_location(dry)
    if len(single) < len(dry):
        notes.append(f"{len(dry) - len(single)} atoms at alternate locations left out")
    structure = Structure(
        tuple(a.line for a in single),
        tuple(a.element for a in single),
        tuple(a.name for a in single),
        tuple(a.residue for a in single),
        np.array([a.position for a in single]).reshape(-1, 3),
        tuple(notes),
    )
    if not structure.polymer.any():
        raise DataError("expected protein or nucleic acid atoms, found none")
    return _with_gaps(structure)


def _first_model(text: str) -> tuple[list[str], int]:
    """ATOM and HETATM records of the first model, and the number of models."""
    records: list[str] = []
    models, reading = 0, True
    for line in text.splitlines():
        if line.startswith("MODEL "):
            models += 1
            reading = models == 1
        elif line.startswith(("ATOM  ", "HETATM")) and reading:
            records.append(line)
    return records, models


def _atom(line: str) -> _Atom | None:
    try:
        position = float(line[30:38]), float(line[38:46]), float(line[46:54])
    except ValueError:
        return None
    if not np.isfinite(position).all():
        return None
    try:
        occupancy = float(line[54:60])
    except ValueError:
        occupancy = 1.0
    name = line[12:16]
    residue = Residue(line[21:22].strip(), line[22:27].strip(), line[17:21].strip())
    return _Atom(
        _clean(line), _element(line), name.strip(), residue, line[16:17], occupancy, position
    )


def _clean(line: str) -> str:
    """The record without its mark of an alternate location, with its element where columns lack."""
    bare = f"{line[:16]} {line[17:66]}".ljust(76)
    return f"{bare}{_element(line).upper():>2}"


def _element(line: str) -> str:
    """The symbol of columns 77-78, else what the atom's name says."""
    symbol = "".join(c for c in line[76:78] if c.isalpha())
    if symbol:
        return symbol.capitalize()
    name = line[12:16].ljust(4)
    letters = "".join(c for c in name if c.isalpha()).upper()
    # a name that starts in column 13 has two letters, but for the hydrogens with four characters
    if name[0].isalpha() and letters[:2] in TWO_LETTERS and (line[:6] == "HETATM"):
        return letters[:2].capitalize()
    return letters[:1] or "C"


def _one_location(atoms: list[_Atom]) -> list[_Atom]:
    """One location of every residue, also where two kinds of residue share a place."""
    occupancy: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for atom in atoms:
        if atom.site.strip():
            sums = occupancy[atom.residue[:2]]
            sums[atom.site] = sums.get(atom.site, 0.0) + atom.occupancy
    best = {place: max(sums, key=sums.__getitem__) for place, sums in occupancy.items()}
    # a residue's kind may differ between its locations: the best one's counts
    kept: list[_Atom] = []
    seen: set[tuple[Residue, str]] = set()
    for atom in atoms:
        place = atom.residue[:2]
        if atom.site.strip() and atom.site != best[place]:
            continue
        if (atom.residue, atom.name) in seen:
            continue
        seen.add((atom.residue, atom.name))
        kept.append(atom)
    return kept


_BACKBONE = frozenset({"N", "CA", "C", "O"})
_HEAVY_ATOMS = {
    "ALA": 5, "ARG": 11, "ASN": 8, "ASP": 8, "CYS": 6, "GLN": 9, "GLU": 9, "GLY": 4, "HIS": 10,
    "ILE": 8, "LEU": 8, "LYS": 9, "MET": 8, "PHE": 11, "PRO": 7, "SER": 6, "THR": 7, "TRP": 14,
    "TYR": 12, "VAL": 7,
}  # fmt: skip
"""Of a whole residue, a free terminus' OXT left out."""


def _with_gaps(structure: Structure) -> Structure:
    """The structure with a note on amino acids that lack atoms of the backbone or side chain."""
    names = defaultdict(set)
    atoms = zip(structure.residues, structure.names, structure.heavy.tolist(), strict=True)
    for residue, name, heavy in atoms:
        if residue.name in AMINO_ACIDS and heavy and name != "OXT":
            names[residue].add(name)
    torn = [
        r
        for r, found in names.items()
        if not found >= _BACKBONE or len(found) < _HEAVY_ATOMS.get(r.name, 0)
    ]
    if not torn:
        return structure
    first = torn[0]
    note = (
        f"{len(torn)} residues with missing atoms, the first {first.name} {first.chain}"
        f"{first.number}"
    )
    return structure.select(range(len(structure.lines)), (note,))
