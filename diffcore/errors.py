"""The error tree: every error a user can cause says in one line what was expected and what came."""

from collections.abc import Iterator
from contextlib import contextmanager


class DesignloomError(Exception):
    """Base of all errors that a user can cause and mend."""


class ConfigError(DesignloomError, ValueError):
    """An option or argument is outside what is allowed."""


class ModelFileError(DesignloomError):
    """A model is unknown, or its files are missing, broken or of another kind."""


class DataError(DesignloomError, ValueError):
    """An input file or a record in it cannot be used."""


class OutputError(DesignloomError):
    """An output cannot be written, or would be overwritten without being told to."""


class YieldError(DesignloomError):
    """Too few of what was made meet the demands; ``delivery`` holds what was delivered, if told."""

    delivery: object = None


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Read a value of a model's card; what it lacks, or has too much, is a `ConfigError`.

    Args:
        what: was expected, with its article.

    Raises:
        ConfigError: keys are missing or unknown, or values of another kind.
    """
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"not {what}: {error}") from error
