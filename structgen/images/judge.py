"""An independent judge of digits: a classifier that no generator has seen, and distances in it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffcore.errors import ConfigError
from diffcore.state import State


@dataclass(frozen=True)
class Judge:
    """A perceptron with one hidden layer (scikit-learn), trained on the training digits.

    Attributes:
        model: ``sklearn.neural_network.MLPClassifier``.
    """

    model: Any

    @staticmethod
    def trained(train: State, seed: int = 0) -> Judge:
        """Train it: a few seconds.

        Raises:
            ConfigError: scikit-learn is not installed.
        """
        try:
            from sklearn.neural_network import MLPClassifier
        except ImportError:
            raise ConfigError(
                'the digits need scikit-learn: pip install "designloom[media]"'
            ) from None
        model = MLPClassifier((64,), alpha=1e-2, max_iter=150, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(_pixels(train), train["label"][:, 0].numpy())
        return Judge(model)

    def classes(self, state: State) -> Tensor:
        """The digit that it reads [B]."""
        return torch.from_numpy(self.model.predict(_pixels(state)))

    def confidence(self, state: State) -> Tensor:
        """Probability of the digit that it reads [B]."""
        return torch.from_numpy(self.model.predict_proba(_pixels(state)).max(1))

    def accuracy(self, state: State) -> float:
        """Share of rows in which it reads the state's label."""
        return float((self.classes(state) == state["label"][:, 0]).double().mean())

    def features(self, state: State) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Its hidden layer [B, 64]."""
        weights, bias = self.model.coefs_[0], self.model.intercepts_[0]
        return np.asarray(np.maximum(_pixels(state) @ weights + bias, 0.0), dtype=np.float64)

    def distance(self, one: State, other: State) -> float:
        """Frechet distance of the hidden layer's means and covariances (Heusel et al. 2017)."""
        return frechet(self.features(one), self.features(other))


def frechet(
    one: np.ndarray[Any, np.dtype[np.float64]], other: np.ndarray[Any, np.dtype[np.float64]]
) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of features [B, F]."""
    c1, c2 = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    values, vectors = np.linalg.eigh(c1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    mixed = np.sqrt(np.linalg.eigvalsh(root @ c2 @ root).clip(0)).sum()
    shift = ((one.mean(0) - other.mean(0)) ** 2).sum()
    return float(shift + np.trace(c1) + np.trace(c2) - 2 * mixed)


def _pixels(state: State) -> np.ndarray[Any, np.dtype[np.float64]]:
    clamped = state["pix"].clamp(-1, 1).flatten(1).double().cpu().numpy()
    return np.asarray(clamped, dtype=np.float64)
