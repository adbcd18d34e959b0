"""A molecule has the same bits alone and in company, whatever its size."""

import pytest
import torch

from diffcore import random
from molgen.generate import MoleculeGenerator, Sampling


@pytest.fixture(scope="module")
def generator() -> MoleculeGenerator:
    return MoleculeGenerator.from_pretrained("qm9")


@pytest.mark.parametrize("n_atoms", [4, 7, 8, 9, 10])
def test_a_row_does_not_depend_on_its_neighbours(
    generator: MoleculeGenerator, n_atoms: int
) -> None:
    settings = Sampling(steps=2)

    def arrays(rows: list[int]) -> list[dict[str, torch.Tensor]]:
        return generator.arrays(random.row_generators(3, rows), n_atoms, settings)

    together = arrays(list(range(13)))
    for rows in ([0], [1, 2], [3, 4, 5], [6, 7, 8, 9, 10, 11]):
        for row, one in zip(rows, arrays(rows), strict=True):
            for name, value in one.items():
                assert torch.equal(value, together[row][name]), (row, name)


def test_no_more_rows_are_computed_than_whole_tiles_need(generator: MoleculeGenerator) -> None:
    """Four atoms a tile: any number of molecules of 8, pairs of 6, fours of 7."""
    seen: list[int] = []
    network = generator.denoiser

    def counting(state: object, *rest: object) -> object:
        seen.append(state.rows)  # type: ignore[attr-defined]
        return network(state, *rest)  # type: ignore[arg-type]

    one = MoleculeGenerator(generator.task, counting)  # type: ignore[arg-type]
    for n_atoms in (8, 6, 7):
        one.arrays(random.row_generators(0, range(5)), n_atoms, Sampling(steps=1))
    assert seen == [5, 6, 8]
