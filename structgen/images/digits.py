"""Handwritten digits of 8 x 8 pixels: the smallest task with everything in it.

The state's field ``pix`` [B, 1, 8, 8] holds grey levels from -1 (paper) to 1 (ink), ``label``
[B, 1] the digit as a float, NaN where it is not told. scikit-learn brings the data (the test set of
the UCI collection by Alpaydin and Kaynak 1998: 1,797 digits, 17 levels of grey).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffcore import random
from diffcore.denoisers import Context, as_clean
from diffcore.domains import Grid
from diffcore.errors import ConfigError
from diffcore.processes import Gaussian, Process
from diffcore.schedules import Cosine, log_snr
from diffcore.state import State, Times

LEVEL = 1 / 8
"""Distance of two levels of grey."""

CLASSES = 10
HELD_OUT = 360
"""Digits that are never trained on."""


def processes() -> dict[str, Process]:
    """One noisy field, ``pix``."""
    return {"pix": Gaussian(Cosine(), Grid((1, 8, 8)))}


def load() -> tuple[State, State]:
    """Training digits and held-out digits; the split is the same every time.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ConfigError('the digits need scikit-learn: pip install "designloom[media]"') from None
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=random.generator(0))
    pix = torch.from_numpy(images).float().reshape(-1, 1, 8, 8) / 8 - 1
    every = state(pix, torch.from_numpy(labels).float().unsqueeze(1)).take(order)
    rows = torch.arange(len(order))
    return every.take(rows[HELD_OUT:]), every.take(rows[:HELD_OUT])


def state(pix: Tensor, label: Tensor) -> State:
    """A state of pixels [B, 1, 8, 8] and labels [B, 1]."""
    return State({"pix": pix, "label": label}, torch.ones(len(pix), 1, dtype=torch.bool))


def told(label: float, rows: int = 1) -> State:
    """Templates of a search: a label, NaN for none, and no pixels yet."""
    fields = {"label": torch.full((rows, 1), label)}
    return State(fields, torch.ones(rows, 1, dtype=torch.bool))


def batches(train: State, rows: int, seed: int) -> Iterator[State]:
    """Endless batches, every epoch in another order."""
    epoch = 0
    while True:
        order = torch.randperm(train.rows, generator=random.generator(seed, epoch))
        epoch += 1
        for index in order.split(rows):
            if len(index) == rows:
                yield train.take(index)


class Embedding(nn.Module):
    """Noise level and label as channels [B, E]; a label that is not told is a class of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rates: Tensor
        self.register_buffer("rates", torch.exp(torch.linspace(-2, 2, 16)), persistent=False)
        self.label = nn.Embedding(CLASSES + 1, channels)
        self.level = nn.Sequential(
            nn.Linear(32, channels), nn.SiLU(), nn.Linear(channels, channels)
        )

    def forward(self, level: Tensor, label: Tensor) -> Tensor:
        """Log-SNR [B] and label [B] (int64)."""
        angles = level.unsqueeze(1) / 8 * self.rates
        waves = torch.cat([angles.sin(), angles.cos()], 1)
        out: Tensor = self.level(waves) + self.label(label)
        return out


class Block(nn.Module):
    """A residual layer, scaled and shifted by the embedding."""

    def __init__(self, width: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.condition = nn.Linear(channels, 2 * width)
        self.inner = nn.Sequential(
            nn.Linear(width, width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, width)
        )

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """[B, width]."""
        scale, shift = self.condition(embedding).chunk(2, -1)
        out: Tensor = h + self.inner(self.norm(h) * (1 + scale) + shift)
        return out


class DigitNetwork(nn.Module):
    """Pixels, log-SNR and label to v: a residual perceptron.

    Args:
        width: channels of the layers.
        depth: number of residual layers.
        channels: of the embedding.
        dropout: share of hidden channels that is hidden in training.
    """

    def __init__(
        self, width: int = 256, depth: int = 4, channels: int = 128, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.embed = Embedding(channels)
        self.begin = nn.Linear(64, width)
        self.blocks = nn.ModuleList([Block(width, channels, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.end = nn.Linear(width, 64)

    def forward(self, pix: Tensor, level: Tensor, label: Tensor) -> Tensor:
        """The velocity v of noisy pixels, both [B, 1, 8, 8], at log-SNR [B] with labels [B]."""
        embedding = self.embed(level, label)
        h = self.begin(pix.flatten(1))
        for block in self.blocks:
            h = block(h, embedding)
        out: Tensor = self.end(self.norm(h)).reshape(pix.shape)
        return out


class DiffusersUnet(nn.Module):
    """A ``diffusers`` U-Net behind the same call.

    Args:
        options: of ``diffusers.UNet2DModel``, beyond the size of the images.

    Raises:
        ConfigError: diffusers is not installed.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        try:
            from diffusers import UNet2DModel
        except ImportError:
            raise ConfigError(
                'the U-Net needs diffusers: pip install "designloom[media]"'
            ) from None
        build: Any = UNet2DModel
        self.unet: Any = build(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            num_class_embeds=CLASSES + 1,
            **(UNET | options),
        )

    def forward(self, pix: Tensor, level: Tensor, label: Tensor) -> Tensor:
        """The same; the U-Net's time step is a monotone function of the log-SNR, 0 to 1000."""
        step = 1000 * torch.sigmoid(-level / 2)
        out: Tensor = self.unet(pix, step, label).sample
        return out


UNET: dict[str, Any] = {
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
    "attention_head_dim": 16,
}
"""A U-Net of 0.65 million weights."""

NETWORKS: Mapping[str, type[nn.Module]] = {"perceptron": DigitNetwork, "unet": DiffusersUnet}
"""The networks by name."""


@dataclass(frozen=True)
class DigitDenoiser:
    """A network as a denoiser: reads ``pix`` and the condition ``label``, predicts ``pix``."""

    network: nn.Module

    def __call__(self, state: State, times: Times, context: Context) -> State:
        """The expected clean pixels."""
        process, t = _PROCESSES["pix"], times["pix"]
        digit = state["label"][:, 0]
        label = torch.where(digit.isnan(), torch.full_like(digit, CLASSES), digit).long()
        level = log_snr(process.schedule, t).clamp(-20, 20).to(state["pix"].dtype)
        raw = self.network(state["pix"], level, label)
        return State({"pix": as_clean(raw, state["pix"], t, process, state.mask, "v")}, state.mask)


_PROCESSES = processes()


def ink(state: State) -> Tensor:
    """A reward: the mean of the grey levels, 0 (paper) to 16 (all ink); [B]."""
    return 8 * (state["pix"].clamp(-1, 1).mean((1, 2, 3)) + 1)


def symmetry(state: State) -> Tensor:
    """A reward: minus the mean difference between an image and its mirror image; [B]."""
    pix = state["pix"].clamp(-1, 1)
    return -8 * (pix - pix.flip(-1)).abs().mean((1, 2, 3))
