"""Every search by name."""

from collections.abc import Callable, Mapping

from diffcore.errors import ConfigError
from diffcore.evolution import evolution
from diffcore.resampling import feynman_kac
from diffcore.search import Search, best_of_n
from diffcore.tree import tree_sampling, tree_search

SEARCHES: Mapping[str, Callable[..., Search]] = {
    "best_of_n": best_of_n,
    "feynman_kac": feynman_kac,
    "tree_sampling": tree_sampling,
    "tree_search": tree_search,
    "evolution": evolution,
}
"""Functions ``(chain, reward, rng, *, budget, ...) -> Search``."""


def search(name: str) -> Callable[..., Search]:
    """Look a search up.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in SEARCHES:
        raise ConfigError(f"unknown search {name!r}; known: {', '.join(SEARCHES)}")
    return SEARCHES[name]
