"""A data set as a model of weights sees it: encoded rows, their classes, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from structgen.netweights.encoding import Encoding
from structgen.netweights.lessons import ROWS, check_classes, encoding_for
from structgen.netweights.networks import Perceptron
from structgen.netweights.tables import Table

SHOWN = 1024
"""Labelled rows that a model is shown at most: it learns from 256, and reads more as well."""


@dataclass(frozen=True)
class Prompt:
    """Labelled rows in a model's input space.

    Attributes:
        table: the data set.
        encoding: raw features -> inputs.
        x: rows that the model is shown [1, S, D], S from 256 to `SHOWN`.
        y: their classes [1, S].
        present: classes that there are [1, C].
    """

    table: Table
    encoding: Encoding
    x: Tensor
    y: Tensor
    present: Tensor

    def rows(self, table: Table) -> tuple[Tensor, Tensor]:
        """Encoded rows [n, D] and classes [n] of a table with the same features and classes."""
        return self.encoding(table.x), torch.from_numpy(table.y)


def prompt(net: Perceptron, table: Table, encoding: str, seed: int = 0) -> Prompt:
    """Encode a data set; of more than `SHOWN` rows a draw is shown, fewer than 256 are repeated.

    Args:
        net: the architecture that is asked for.
        table: labelled rows.
        encoding: see `task.ENCODINGS`.
        seed: of the draw.

    Raises:
        DataError: a data set that does not fit; see `encoding.fit_encoding`, `check_classes`.
    """
    check_classes(net, table)
    code = encoding_for(encoding, net, table)
    order = np.random.default_rng([seed, 5]).permutation(len(table.y))
    number = min(max(ROWS, len(order)), SHOWN)
    index = order[np.arange(number) % len(order)]
    return Prompt(
        table,
        code,
        code(table.x[index]).unsqueeze(0),
        torch.from_numpy(table.y[index]).unsqueeze(0),
        torch.arange(net.classes)[None] < len(table.labels),
    )
