"""The figure of `designloom bench steering digits`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from structgen.images.digits import CLASSES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipelines.bench_steering import Findings

COLOURS = {
    "best_of_n": "#777777",
    "feynman_kac": "#1f77b4",
    "tree_sampling": "#2ca02c",
    "tree_search": "#d62728",
    "evolution": "#9467bd",
}
NAMES = {
    "best_of_n": "best of N",
    "feynman_kac": "Feynman-Kac",
    "tree_sampling": "tree sampling (DTS)",
    "tree_search": "tree search (DTS*)",
    "evolution": "evolution",
}


def panels(figure: Figure, found: Findings) -> None:
    """Guidance in pictures and numbers, search, inpainting, reading."""
    from pipelines.bench_steering import gallery

    parts: Any = figure.subfigures(1, 2, width_ratios=(1, 1.9))
    left, right = parts
    pictures = left.subplots(2, 1, height_ratios=(6, 4))
    axes = dict(zip("aebfcd", [*pictures, *right.subplots(2, 2).flat], strict=True))
    figure.suptitle(f"Steering digits: one set of functions, network: {found.network}")

    a = axes["a"]
    shown = found.guided
    for k, one in enumerate(shown):
        extent = (0, CLASSES, len(shown) - k - 1, len(shown) - k)
        a.imshow(gallery(one.digits, CLASSES, range(CLASSES)), cmap="Greys", extent=extent)
    a.set(xlim=(0, CLASSES), ylim=(0, len(shown)), title="asked for 0 to 9, by guidance strength")
    a.set_yticks([len(shown) - k - 0.5 for k in range(len(shown))], [f"{s.scale:g}" for s in shown])
    a.set_xticks([])

    b = axes["b"]
    scales = [one.scale for one in found.guided]
    b.plot(scales, [one.distance for one in found.guided], "o-", color="#d62728")
    b.axhline(found.floor, ls=":", color="#d62728")
    b.set(xlabel="guidance strength", title="what guidance gains and costs")
    b.set_ylabel("Frechet distance (dotted: held-out digits)", color="#d62728")
    other = b.twinx()
    other.plot(scales, [one.accuracy for one in found.guided], "s--", color="#1f77b4", alpha=0.8)
    other.set_ylabel("read as asked", color="#1f77b4")
    other.set_ylim(0, 1.05)
    b.set_ylim(bottom=0)

    for name, reward in zip("cd", found.spreads, strict=False):
        _search(axes[name], found, reward)

    _filled(axes["e"], found)
    f = axes["f"]
    f.plot(list(found.read), list(found.read.values()), "o-", label="diffusion classifier")
    _ticks(f, list(found.read))
    f.axhline(found.judge, ls=":", color="k", label="perceptron trained to classify")
    f.set(xlabel="noisy copies a digit and class", ylabel="accuracy, held out", title="reading")
    f.legend(loc="lower right")


def _search(axis: Any, found: Findings, reward: str) -> None:
    rows = [one for one in found.searched if one.reward == reward]
    for name in dict.fromkeys(one.search for one in rows):
        own = [one for one in rows if one.search == name]
        axis.errorbar(
            [one.budget for one in own],
            [float(one.best.mean()) for one in own],
            yerr=[float(one.best.std()) / len(one.best) ** 0.5 for one in own],
            fmt="o-",
            capsize=2,
            color=COLOURS[name],
            label=NAMES[name],
        )
    axis.axhspan(
        found.means[reward] - found.spreads[reward],
        found.means[reward] + found.spreads[reward],
        color="#dddddd",
        label="unsteered, +-1 standard deviation",
    )
    axis.set(xlabel="network evaluations", ylabel=f"best {reward}", title=f"search: {reward}")
    _ticks(axis, sorted({one.budget for one in rows}))
    axis.legend(fontsize=8)


def _ticks(axis: Any, values: list[int]) -> None:
    """A logarithmic axis with these numbers on it."""
    axis.set_xscale("log")
    axis.set_xticks(values, [str(v) for v in values])
    axis.set_xticks([], minor=True)


def _filled(axis: Any, found: Findings) -> None:
    """Originals, and three fillings of the lower half."""
    from pipelines.bench_steering import gallery

    assert found.held_out is not None
    rows = [found.held_out, *(one.digits for one in found.filled)]
    names = ["held out"]
    for one in found.filled:
        names.append(f"{'told' if one.labelled else 'not told'},\njumps {one.repeats}")
    labels = found.held_out["label"][:, 0].tolist()
    first = [labels.index(float(k)) for k in range(CLASSES)]
    for k, digits in enumerate(rows):
        extent = (0, CLASSES, len(rows) - k - 1, len(rows) - k)
        axis.imshow(gallery(digits, CLASSES, first), cmap="Greys", extent=extent)
    axis.set(xlim=(0, CLASSES), ylim=(0, len(rows)), title="upper half kept, lower half drawn")
    axis.set_yticks([len(rows) - k - 0.5 for k in range(len(rows))], names, fontsize=8)
    axis.set_xticks([])
