"""What steering gains and costs: the command `designloom bench steering`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diffcore.errors import ConfigError
from diffcore.files import whole

if TYPE_CHECKING:
    from diffcore.state import State
    from structgen.images.digits import DigitDenoiser
    from structgen.images.judge import Judge
    from structgen.images.steering import Filled, Guided, Searched

SCALES = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0)
BUDGETS = (200, 400, 800, 1600)
DRAWS = (1, 4, 16)
BAR = 0.2
"""What a search has to gain over best-of-N, in standard deviations of the reward."""


@dataclass
class Findings:
    """Everything that was measured, for the tables and the figure."""

    network: str
    floor: float
    guided: list[Guided] = field(default_factory=list)
    spreads: dict[str, float] = field(default_factory=dict)
    means: dict[str, float] = field(default_factory=dict)
    searched: list[Searched] = field(default_factory=list)
    filled: list[Filled] = field(default_factory=list)
    read: dict[int, float] = field(default_factory=dict)
    judge: float = 0.0
    bits: tuple[float, float] = (0.0, 0.0)
    held_out: State | None = None


def bench_steering(
    domain: Literal["digits"],
    network: Literal["perceptron", "unet"] = "perceptron",
    number: int = 1000,
    seeds: int = 12,
    seed: int = 0,
    steps: int | None = None,
    threads: int = 1,
    figure: Path | None = None,
    force: bool = False,
) -> str:
    """Measure guidance, search, inpainting and reading on handwritten digits.

    The network is trained first (minutes) and kept in the user's cache. Needs scikit-learn, and
    diffusers for the U-Net: the extra `media`.

    Args:
        domain: What is steered: digits.
        network: The network behind the denoiser: our perceptron, or a U-Net of diffusers.
        number: Digits made at every guidance strength.
        seeds: Repeats of every search.
        seed: Seed of weights and samples.
        steps: Training steps, if not the usual number.
        threads: Threads of the tensor library.
        figure: .png file for the figure.
        force: Overwrite `figure`.

    Returns:
        The tables.

    Raises:
        ConfigError: An option is outside what is allowed, or a package is missing.
        OutputError: `figure` exists without `force`, or cannot be written.
    """
    for name, value in (("number", number), ("seeds", seeds), ("threads", threads)):
        if value < 1:
            raise ConfigError(f"--{name}: expected at least 1, got {value}")
    if number < 100:
        raise ConfigError(f"--number: expected at least 100 for a distance, got {number}")
    if seed < 0:
        raise ConfigError(f"--seed: expected 0 or more, got {seed}")
    if domain != "digits":
        raise ConfigError(f"expected digits, got {domain!r}")
    if figure is not None:
        _check_target(figure, force)

    import torch

    from structgen.images.fitting import fitted

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        denoiser = fitted(network, steps=steps, seed=seed)
        found = measure(denoiser, network, number, seeds, seed)
    finally:
        torch.set_num_threads(before)
    lines = list(tables(found))
    if figure is not None:
        _draw(found, figure)
        lines.append(f"\nwritten: {figure}")
    return "\n".join(lines)


def measure(denoiser: DigitDenoiser, network: str, number: int, seeds: int, seed: int) -> Findings:
    """Run all of it under a progress bar."""
    from tqdm import tqdm

    from structgen.images import steering
    from structgen.images.digits import load
    from structgen.images.judge import Judge

    train, held_out = load()
    judge = Judge.trained(train, seed)
    found = Findings(network, judge.distance(held_out, train), held_out=held_out)
    found.judge = judge.accuracy(held_out)
    total = len(SCALES) + seeds * len(BUDGETS) * 4 * len(steering.REWARDS) + 3 + len(DRAWS) + 1
    with tqdm(total=total, desc=f"steer {network}", delay=1) as bar:
        for scale in SCALES:
            found.guided += steering.guidance(denoiser, judge, train, [scale], number, seed)
            bar.update()
        _search(found, denoiser, judge, seeds, bar)
        for repeats, labelled in ((1, True), (3, True), (3, False)):
            digits = held_out
            found.filled.append(steering.fill(denoiser, judge, digits, repeats, labelled, seed))
            bar.update()
        for draws in DRAWS:
            found.read[draws] = steering.read(denoiser, held_out, draws, seed)
            bar.update()
        found.bits = steering.bits(denoiser, held_out, seed)
        bar.update()
    return found


def _search(
    found: Findings, denoiser: DigitDenoiser, judge: Judge, seeds: int, bar: object
) -> None:
    from structgen.images import steering

    tick = getattr(bar, "update")  # noqa: B009 - tqdm has no annotations
    for reward in steering.REWARDS:
        unsteered = steering.reward_spread(denoiser, reward, seed=7)
        found.spreads[reward] = float(unsteered.std())
        found.means[reward] = float(unsteered.mean())
        found.searched += steering.compare_searches(
            denoiser, judge, reward, BUDGETS, seeds, found.spreads[reward], tick
        )


# ------------------------------------------------------------------------------------- as text


def tables(found: Findings) -> Iterator[str]:
    """The tables in Markdown."""
    yield f"digits, network {found.network}"
    yield "\nGuidance strength, what it gains and what it costs\n"
    yield "| strength | read as asked | Frechet distance | diversity | evaluations a digit |"
    yield "| --- | --- | --- | --- | --- |"
    for one in found.guided:
        cells = f"{one.accuracy:.3f} | {one.distance:.1f} | {one.diversity:.2f}"
        yield f"| {one.scale:g} | {cells} | {one.evaluations:.0f} |"
    yield f"| held-out digits | {found.judge:.3f} | {found.floor:.1f} | | |"
    for reward, spread in found.spreads.items():
        yield from _search_table(found, reward, spread)
    yield "\nThe upper half kept, the lower half drawn anew\n"
    yield "| label told | jumps | kept bit for bit | read as the original | evaluations a digit |"
    yield "| --- | --- | --- | --- | --- |"
    for fill in found.filled:
        told = "yes" if fill.labelled else "no"
        cells = f"{100 * fill.exact:.0f} % | {fill.accuracy:.3f} | {fill.evaluations:.0f}"
        yield f"| {told} | {fill.repeats} | {cells} |"
    yield "\nReading held-out digits\n"
    yield "| | |"
    yield "| --- | --- |"
    for draws, accuracy in found.read.items():
        yield f"| diffusion classifier, {draws} noisy copies | {accuracy:.3f} |"
    yield f"| the judge, trained to classify | {found.judge:.3f} |"
    yield f"| bits a pixel, at most | {found.bits[0]:.3f} +- {found.bits[1]:.3f} |"


def _search_table(found: Findings, reward: str, spread: float) -> Iterator[str]:
    rows = [one for one in found.searched if one.reward == reward]
    budgets = sorted({one.budget for one in rows})
    mean = found.means[reward]
    yield f"\nBest {reward} by search (unsteered {mean:.2f} +- {spread:.2f}; gain in that +-)\n"
    names = " | ".join(f"{b} evaluations" for b in budgets)
    yield f"| search | {names} | gain over best-of-N | read with | rewards taken |"
    yield "| --- " * (len(budgets) + 4) + "|"
    plain = {one.budget: float(one.best.mean()) for one in rows if one.search == "best_of_n"}
    for name in dict.fromkeys(one.search for one in rows):
        own = [one for one in rows if one.search == name]
        cells = [f"{float(one.best.mean()):.2f} +- {_error(one.best):.2f}" for one in own]
        gains = [(float(one.best.mean()) - plain[one.budget]) / spread for one in own]
        gain = " / ".join(f"{g:+.2f}" for g in gains)
        last = own[-1]
        yield (
            f"| {name} | {' | '.join(cells)} | {gain} | {last.confidence:.2f} | {last.scored:.0f} |"
        )


def _error(values: object) -> float:
    import torch

    assert isinstance(values, torch.Tensor)
    return float(values.std()) / len(values) ** 0.5 if len(values) > 1 else 0.0


# ---------------------------------------------------------------------------------- as a figure


def _check_target(figure: Path, force: bool) -> None:
    from pipelines.report import check_output

    if figure.suffix.lower() != ".png":
        raise ConfigError(f"cannot write {figure.name!r}: expected a file name ending in .png")
    check_output(figure, force)


def _draw(found: Findings, path: Path) -> None:
    """Five panels, written beside their place and moved there."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    from pipelines.steering_figure import panels

    figure = Figure(figsize=(13, 8.2), layout="constrained")
    panels(figure, found)
    with whole(path) as beside:
        figure.savefig(beside, dpi=110)


def gallery(digits: State, columns: int, rows: Sequence[int]) -> Any:
    """Digits as one image [8 rows, 8 columns] in levels of grey, 0 paper to 1 ink."""
    import torch

    pix = (digits["pix"][torch.tensor(list(rows))].clamp(-1, 1) + 1) / 2
    padded = torch.nn.functional.pad(pix[:, 0], (1, 1, 1, 1))
    lines = padded.reshape(-1, columns, 10, 10).permute(0, 2, 1, 3)
    return lines.reshape(-1, columns * 10).numpy()
