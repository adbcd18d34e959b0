"""Weights as data: a safetensors file and a JSON card beside it; nothing in either can execute."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffcore.errors import ModelFileError, OutputError

CARD_FORMAT = 1


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def save_weights(
    path: Path,
    weights: Mapping[str, Tensor],
    card: Mapping[str, Any],
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Write ``path`` (.safetensors) and its card (.json), each whole or not at all.

    Args:
        path: file name; the card takes the suffix .json.
        weights: a state dict; floating tensors are stored as ``dtype``.
        card: data, recipe, seed, commit, time, hardware, measured quality; the hash is added here.
        dtype: float16, bfloat16 or float32.

    Raises:
        OutputError: the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    stored = {
        k: (v.to(dtype) if v.is_floating_point() else v).contiguous().cpu()
        for k, v in weights.items()
    }
    part, card_path = path.with_suffix(".part"), path.with_suffix(".json")
    card_part = card_path.with_suffix(".json.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(stored, str(part))
        full = {"format": CARD_FORMAT, **card, "weights": path.name, "sha256": sha256(part)}
        card_part.write_text(json.dumps(full, indent=1) + "\n")
        part.chmod(0o644)
        os.replace(part, path)
        os.replace(card_part, card_path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise OutputError(f"cannot write {path}: {reason}") from error
    finally:
        for left_over in (part, card_part):
            if left_over.is_file():
                left_over.unlink()
    return path


def load_card(path: Path) -> dict[str, Any]:
    """Read the card that stands beside a weights file.

    Raises:
        ModelFileError: no card, or not one of ours.
    """
    card_path = path.with_suffix(".json")
    try:
        card = json.loads(card_path.read_text())
    except FileNotFoundError:
        raise ModelFileError(f"no model card {card_path}") from None
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{card_path} is not a model card: {error}") from error
    if not isinstance(card, dict) or card.get("format") != CARD_FORMAT:
        found = card.get("format") if isinstance(card, dict) else type(card).__name__
        raise ModelFileError(f"{card_path}: expected a card of format {CARD_FORMAT}, got {found}")
    return card


def load_weights(path: Path, card: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read and check the weights that a card describes, as float32.

    Raises:
        ModelFileError: the file is missing, has another hash than its card, or is no safetensors
            file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelFileError(f"no weights {path}")
    found = sha256(path)
    if found != card.get("sha256"):
        expected = str(card.get("sha256"))[:12]
        raise ModelFileError(
            f"{path} is damaged or was changed: expected sha256 {expected}..., got {found[:12]}..."
        )
    try:
        weights = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} is not a safetensors file: {error}") from error
    return {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}


def fill_module(module: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load weights into a module strictly.

    Raises:
        ModelFileError: names or shapes differ.
    """
    try:
        module.load_state_dict(dict(weights), strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelFileError(f"{path} does not fit the network of its card: {reason}") from error
