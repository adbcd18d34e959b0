"""An interactive page of a web and its pull test: one HTML file, no network."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from typing import Any

import numpy as np

from structgen.webs.mechanics import PullTest
from structgen.webs.pictures import COLOURS
from structgen.webs.web import THREADS, Web

FRAMES = 60


def page(web: Web, test: PullTest | None = None, title: str = "web") -> str:
    """HTML that turns by dragging, zooms by the wheel and plays the pull test by a slider.

    Args:
        web: what is shown.
        test: a pull test of it, with frames.
        title: of the page.
    """
    frames: list[dict[str, Any]] = [{"u": 0.0, "pos": np.round(web.pos, 4).tolist(), "dead": []}]
    curve: dict[str, Any] = {"x": [], "y": []}
    if test is not None:
        step = max(1, len(test.frames) // FRAMES)
        frames = [
            {
                "u": round(100 * at / test.extent, 3),
                "pos": np.round(pos, 4).tolist(),
                "dead": np.flatnonzero(~alive).tolist(),
            }
            for at, pos, alive in test.frames[::step]
        ] or frames
        curve = {
            "x": np.round(100 * test.strain, 3).tolist(),
            "y": np.round(test.force / 1000, 5).tolist(),
        }
    data = {
        "edges": web.edges.tolist(),
        "kind": web.thread.tolist(),
        "width": np.round(0.6 + 1.4 * web.radius / web.radius.max(), 2).tolist(),
        "held": np.flatnonzero(web.anchors).tolist(),
        "colours": [COLOURS[name] for name in THREADS],
        "names": list(THREADS),
        "frames": frames,
        "curve": curve,
    }
    text = files("structgen.webs").joinpath("viewer.html").read_text("utf-8")
    content = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    return text.replace("@TITLE@", html.escape(title)).replace("@DATA@", content)
