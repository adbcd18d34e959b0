"""The two stages before the diffusion: the autoencoder, and the alignment of the encoder with it.

Both are plain minimisations; the diffusion itself is trained by `diffcore.training`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcore import random
from structgen.netweights.corpus import Corpus
from structgen.netweights.denoiser import WeightNetwork
from structgen.netweights.networks import Perceptron
from structgen.netweights.vae import ChunkCoder

TEMPERATURE = 0.1


def minimise(
    loss: Callable[[int], Tensor],
    parameters: Iterable[nn.Parameter],
    *,
    steps: int,
    lr: float,
    seconds: float,
    name: str,
    progress: bool = True,
) -> tuple[int, float]:
    """AdamW with a cosine fall of the rate, for so many steps or seconds.

    Args:
        loss: of a step's number.
        parameters: what moves.
        steps: most of them.
        lr: the first rate.
        seconds: time budget; the rate falls with the larger of the two shares.
        name: for the bar.
        progress: show it.

    Returns:
        Steps made, and the mean loss of the last fifty.
    """
    from tqdm import tqdm

    kept = list(parameters)
    optimiser = torch.optim.AdamW(kept, lr=lr, weight_decay=1e-4, betas=(0.9, 0.99))
    begin, made = time.monotonic(), 0
    recent: list[float] = []
    for step in tqdm(range(steps), desc=name, disable=not progress, mininterval=1):
        share = max(step / steps, (time.monotonic() - begin) / seconds)
        if share >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = lr * float(0.5 * (1 + torch.cos(torch.tensor(torch.pi * share))))
        optimiser.zero_grad(set_to_none=True)
        value = loss(step)
        value.backward()
        nn.utils.clip_grad_norm_(kept, 1.0)
        optimiser.step()
        made = step + 1
        recent = [*recent[-49:], float(value.detach())]
    return made, sum(recent) / max(1, len(recent))


def train_coder(
    coder: ChunkCoder,
    net: Perceptron,
    corpus: Corpus,
    *,
    steps: int = 4000,
    seconds: float = 120.0,
    batch: int = 64,
    seed: int = 0,
    progress: bool = True,
) -> float:
    """Fit the autoencoder to the networks of a corpus and set the scale of its latents.

    Returns:
        Share of the chunks' variance that it does not give back.
    """
    weights = corpus.zoo.weights
    some = torch.randperm(len(weights), generator=random.generator(seed, 1))[:2000]
    sample = net.tokens(weights[some]).flatten(0, 1)
    coder.start(sample)

    def loss(step: int) -> Tensor:
        rng = random.generator(seed, 2, step)
        rows = torch.randint(len(weights), (batch,), generator=rng)
        return coder.loss(net.tokens(weights[rows]), rng)

    minimise(
        loss,
        coder.parameters(),
        steps=steps,
        lr=2e-3,
        seconds=seconds,
        name="autoencoder",
        progress=progress,
    )
    coder.standardise(sample)
    with torch.no_grad():
        back = coder.from_latent(coder.to_latent(sample))
    return float((back - sample).square().mean() / sample.var(0).mean())


@torch.no_grad()
def latents(coder: ChunkCoder, net: Perceptron, weights: Tensor) -> Tensor:
    """Standardised latents [M, N, Z] of networks [M, P]."""
    return torch.cat([coder.to_latent(net.tokens(part)) for part in weights.split(2000)])


class LatentReader(nn.Module):
    """Latents [B, N, Z] -> unit vectors [B, 64]: the other side of the contrastive loss."""

    def __init__(self, chunks: int, latent: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(chunks * latent, 256), nn.SiLU(), nn.Linear(256, 64))

    def forward(self, z: Tensor) -> Tensor:
        """See the class."""
        return F.normalize(self.inner(z.flatten(1)), dim=-1)


def contrastive(first: Tensor, second: Tensor) -> Tensor:
    """InfoNCE of both directions (Radford et al. 2021) for pairs of unit vectors [B, E]."""
    scores = first @ second.T / TEMPERATURE
    truth = torch.arange(len(scores))
    return 0.5 * (F.cross_entropy(scores, truth) + F.cross_entropy(scores.T, truth))


def align_encoder(
    network: WeightNetwork,
    corpus: Corpus,
    made: Tensor,
    *,
    steps: int = 300,
    seconds: float = 120.0,
    batch: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> float:
    """Teach the data-set encoder which latents belong to which data, as D2NWG does.

    The autoencoder is not changed. The diffusion goes on training the encoder.

    Args:
        network: holds the encoder.
        corpus: networks and data.
        made: their latents [M, N, Z].
        steps: most of them.
        seconds: time budget.
        batch: pairs to tell apart.
        seed: of the order.
        progress: show a bar.

    Returns:
        The loss at the end; log(batch) is a guess.
    """
    reader = LatentReader(*made.shape[1:])
    encoder = network.encoder

    def loss(step: int) -> Tensor:
        rng = random.generator(seed, 3, step)
        rows = torch.randint(len(made), (batch,), generator=rng)
        x, y = corpus.rows(rows)
        present = corpus.zoo.present[rows]
        return contrastive(encoder.describe(encoder(x, y, present), present), reader(made[rows]))

    _, last = minimise(
        loss,
        [*encoder.parameters(), *reader.parameters()],
        steps=steps,
        lr=1e-3,
        seconds=seconds,
        name="encoder",
        progress=progress,
    )
    return last
