"""Two small charts as SVG text."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

WIDTH, HEIGHT = 460, 320
LEFT, BOTTOM, TOP, RIGHT = 62, 44, 12, 14


def scatter(
    cloud: Sequence[Sequence[float]], best: Sequence[Sequence[float]], names: tuple[str, str]
) -> str:
    """Points and the front among them; both axes are losses, the lower left is best."""
    every = [*cloud, *best]
    if not every:
        return ""
    x_of, y_of, frame = _axes([p[0] for p in every], [p[1] for p in every], names)
    dots = [
        f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="2.5" fill="#8895b3" opacity=".5"/>'
        for x, y in cloud
    ]
    ordered = sorted(tuple(point) for point in best)
    steps = []
    for (x, y), following in zip(ordered, [*ordered[1:], None], strict=True):
        steps.append(f"{x_of(x):.1f},{y_of(y):.1f}")
        if following is not None:
            steps.append(f"{x_of(following[0]):.1f},{y_of(y):.1f}")
    line = f'<polyline points="{" ".join(steps)}" fill="none" stroke="#d9480f"/>'
    marks = [
        f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="4" fill="#d9480f"/>' for x, y in ordered
    ]
    return _svg(frame + "".join(dots) + line + "".join(marks))


def curve(values: Sequence[float], x_name: str, y_name: str) -> str:
    """Values by their number."""
    xs = [float(i) for i in range(1, len(values) + 1)]
    x_of, y_of, frame = _axes(xs, [0.0, *values], (x_name, y_name), counted=True)
    points = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in zip(xs, values, strict=True))
    line = f'<polyline points="{points}" fill="none" stroke="#3b5bdb" stroke-width="2"/>'
    return _svg(frame + line)


def _svg(inner: str) -> str:
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="system-ui, sans-serif" font-size="11" fill="currentColor">{inner}</svg>'
    )


class _Scale:
    """From data to pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        pad = (high - low) * 0.04 or 0.5
        self.low, self.high = low - pad, high + pad
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Three to seven round numbers on the axis, one, two or five times a power of ten apart."""
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span / 3))
        step = next(s * power for s in (5, 2, 1) if span / (s * power) >= 3)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(k * step, 12) for k in range(first, last + 1)]


def _axes(
    xs: Sequence[float], ys: Sequence[float], names: tuple[str, str], counted: bool = False
) -> tuple[_Scale, _Scale, str]:
    x_of = _Scale(xs, LEFT, WIDTH - RIGHT)
    y_of = _Scale(ys, HEIGHT - BOTTOM, TOP)
    box = (
        f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" '
        'stroke="currentColor" opacity=".4"/>'
    )
    parts = [box]
    for tick in (t for t in x_of.ticks() if not counted or t == int(t)):
        at = f'x="{x_of(tick):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle"'
        parts.append(f"<text {at}>{tick:.3g}</text>")
    for tick in y_of.ticks():
        at = f'x="{LEFT - 6}" y="{y_of(tick) + 4:.1f}" text-anchor="end"'
        parts.append(f"<text {at}>{tick:.3g}</text>")
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(names[0])}</text>'
    )
    height = (HEIGHT - BOTTOM + TOP) / 2
    parts.append(
        f'<text transform="translate(13 {height}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(names[1])}</text>"
    )
    return x_of, y_of, "".join(parts)
