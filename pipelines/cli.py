"""The command line ``designloom``: a table of functions, whose signatures are their options.

The words are looked up in `COMMANDS` before anything else is imported, so that help, a misspelt
command and the version answer at once. Only then is the one function loaded and its signature
turned into options, positionals and YAML keys (``--config file.yaml``, safely loaded: data, never
objects). A function that returns text or a path has it printed.
"""

from __future__ import annotations

import difflib
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError, DesignloomError
from pipelines.commands import COMMANDS, Command

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

PROGRAM = "designloom"
DEBUG_VARIABLE = "DESIGNLOOM_DEBUG"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after the program's name; those of the process by default.

    Returns:
        The exit code: 0 done, 2 an error that the user can mend (one line on the error stream),
        130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words)
    except SystemExit as stop:  # the parser's way out after it printed a help
        return int(stop.code or 0)
    except (DesignloomError, OSError) as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        return _fail(f"error: {_one_line(_describe(error))}", 2)
    except KeyboardInterrupt as stop:
        return _fail(_one_line(str(stop)) or "interrupted", 130)


def _run(words: list[str]) -> int:
    if words and words[0] in ("-h", "--help"):
        sys.stdout.write(_overview(()))
        return 0
    if words and words[0] == "--version":
        sys.stdout.write(f"{PROGRAM} {_version()}\n")
        return 0
    name, rest = _find_command(words)
    if name not in COMMANDS:
        sys.stdout.write(_overview(name))
        return 0
    command = COMMANDS[name]
    function = command.load()
    result = function(**_parse(name, command, function, rest))
    if isinstance(result, str | Path):
        sys.stdout.write(f"{result}\n")
    return 0


def _fail(line: str, code: int) -> int:
    sys.stderr.write(f"{PROGRAM}: {line}\n")
    return code


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version(PROGRAM)
    except metadata.PackageNotFoundError:
        return "(not installed)"


# ------------------------------------------------------------------------------ finding a command


def _find_command(words: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """A command's name and the words after it; a group's name if its help is asked for."""
    name: tuple[str, ...] = ()
    while name not in COMMANDS:
        known = _next_words(name)
        word = words[len(name)] if len(words) > len(name) else ""
        if name and word in ("-h", "--help"):
            break
        if word not in known:
            raise ConfigError(_unknown_word(name, word, known))
        name = (*name, word)
    while (*name, *words[len(name) :][:1]) in COMMANDS and len(words) > len(name):
        name = (*name, words[len(name)])  # `evaluate webs` is more than `evaluate FILE`
    return name, list(words[len(name) :])


def _next_words(name: tuple[str, ...]) -> list[str]:
    """The words that can follow the beginning of a command, each once, in the table's order."""
    size = len(name)
    return list(dict.fromkeys(key[size] for key in COMMANDS if key[:size] == name))


def _unknown_word(name: tuple[str, ...], word: str, known: Sequence[str]) -> str:
    if not word:
        after = f" after {' '.join(name)!r}" if name else ""
        return f"expected a command{after}: {', '.join(known)} (see {_full_name(name)} --help)"
    kind = "option" if word.startswith("-") else "command"
    near = _nearest(word, ["--help", "--version"] if kind == "option" else known)
    given = " ".join((*name, word))
    return f"unknown {kind} {given!r}: {near}expected {', '.join(known)}"


def _nearest(word: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {matches[0]!r}? " if matches else ""


def _full_name(name: tuple[str, ...]) -> str:
    return " ".join((PROGRAM, *name))


def _overview(name: tuple[str, ...]) -> str:
    """Help of the program or of a group of commands."""
    rows = [(" ".join(key), c.summary) for key, c in COMMANDS.items() if key[: len(name)] == name]
    width = max(len(words) for words, _ in rows)
    lines = [f"usage: {_full_name(name)} [--help] COMMAND ...", "", "commands:"]
    lines += [f"  {words:<{width}}  {summary}" for words, summary in rows]
    lines += [
        "",
        f"{PROGRAM} COMMAND --help lists a command's options; --version prints the version.",
    ]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------------- parsing its options


def _parse(
    name: tuple[str, ...], command: Command, function: Callable[..., object], words: list[str]
) -> dict[str, Any]:
    """The arguments of the function from the words and, where given, a YAML file."""
    import argparse

    parser = _parser(name, command, function)
    switches = _switches(function)
    words = [
        f"{word}=true" if word in switches and after not in ("true", "false") else word
        for word, after in zip_longest(words, words[1:])
    ]
    words = _gathered(words, _lists(function))
    try:
        values = parser.parse_args(words).as_dict()
    except (argparse.ArgumentError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(_explain(str(error), parser, name)) from error
    del values["config"]
    return values


def _parser(
    name: tuple[str, ...], command: Command, function: Callable[..., object]
) -> ArgumentParser:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog=_full_name(name),
        description=(inspect.getdoc(function) or command.summary).split("\n\n")[0],
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="YAML file with any of these options")
    parameters = parser.add_function_arguments(
        function, as_group=False, as_positional=True, skip=set(command.hidden)
    )
    switches = _switches(function)
    for action in parser._actions:
        if action.dest not in parameters or not action.option_strings:
            continue
        short = [option for option, dest in command.short.items() if dest == action.dest]
        options = [*short, *(_dashed(option) for option in action.option_strings)]
        action.option_strings = options
        for option in options:
            parser._option_string_actions[option] = action
        if _dashed(f"--{action.dest}") in switches:
            action.nargs = "?"
    return parser


def _switches(function: Callable[..., object]) -> set[str]:
    """Options of the function that are on when they are named: ``--force`` is ``--force=true``."""
    parameters = inspect.signature(function).parameters.values()
    return {
        _dashed(f"--{parameter.name}")
        for parameter in parameters
        if isinstance(parameter.default, bool)
    }


def _lists(function: Callable[..., object]) -> dict[str, bool]:
    """Options of the function that can be given several times, and whether they take numbers."""
    parameters = inspect.signature(function).parameters.values()
    found = {
        _dashed(f"--{one.name}"): re.match(
            r"(?:list|Sequence|tuple)\[(str|Path|int)\b", str(one.annotation)
        )
        for one in parameters
    }
    return {option: kind[1] == "int" for option, kind in found.items() if kind}


def _gathered(words: Sequence[str], lists: Mapping[str, bool]) -> list[str]:
    """``--property a --property b`` as ``--property=["a", "b"]``; a list in brackets stays."""
    rest: list[str] = []
    found: dict[str, list[str]] = {}
    queue = list(words)
    while queue:
        option, equals, value = queue.pop(0).partition("=")
        name = option.removesuffix("+")
        if name not in lists or (not equals and not queue):
            rest.append(f"{option}{equals}{value}")
            continue
        value = value if equals else queue.pop(0)
        if value.startswith("["):
            rest.append(f"{name}={value}")
        else:
            found.setdefault(name, []).append(value)
    for option, values in found.items():
        text = f"[{', '.join(values)}]" if lists[option] else json.dumps(values)
        rest.append(f"{option}={text}")
    return rest


def _dashed(option: str) -> str:
    return option.replace("_", "-")


# ---------------------------------------------------------------------------- errors in one line


def _describe(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _explain(message: str, parser: ArgumentParser, name: tuple[str, ...]) -> str:
    """A parser's message in one line, in the words of the command line, with the nearest option."""
    options = [option for action in parser._actions for option in action.option_strings]
    unknown = re.match(r"unrecognized arguments: (\S+)|Option '(\S+)' is not accepted", message)
    if unknown:
        word = (unknown[1] or f"--{_dashed(unknown[2])}").split("=")[0]
        kind = "unknown option" if word.startswith("-") else "unexpected argument"
        near = _nearest(word, options) if word.startswith("-") else ""
        return f"{kind} {word!r}: {near}see {_full_name(name)} --help"
    text = _one_line(message)
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
    text = re.sub(
        r"Does not validate against any of the Union subtypes Subtypes: \[(.*?)\].*Given value: ",
        r"Expected one of \1. Got value: ",
        text,
    )
    text = re.sub(r"\btyping\.Literal\[(.*?)\]", r"one of \1", text)
    text = re.sub(r"^(?:Parser key|Option) [\"'](\w+)[\"']: ?", _option_prefix, text)
    text = re.sub(r"Expected (?:an? )?(.*?)\. Got value: (.*)", r"expected \1, got '\2'", text)
    return re.sub(r"one of (\w+), NoneType", r"\1", text)


def _option_prefix(match: re.Match[str]) -> str:
    return f"--{_dashed(match[1])}: "
