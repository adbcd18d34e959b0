"""Looking up a name in a table, with the nearest known name where there is none."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from diffcore.errors import ConfigError


def unknown(what: str, name: object, known: Iterable[str]) -> ConfigError:
    """The error of a name that is not known."""
    names = list(known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    if not close:  # upper and lower case, a beginning
        low = str(name).lower()
        close = [n for n in names if n.lower() == low or n.lower().startswith(low[:3])][:1]
    near = f"did you mean {close[0]!r}? " if close else ""
    return ConfigError(f"unknown {what} {name!r}: {near}expected {', '.join(names)}")
