"""A model file of molecules, read and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffcore.checkpoint import fill_module, load_card, load_weights
from diffcore.errors import ConfigError, ModelFileError
from molgen.sampling import Sampling
from molgen.tasks.molecules import MoleculeDenoiser, MoleculeTask


def load_model(
    path: Path, device: str = "cpu"
) -> tuple[MoleculeTask, MoleculeDenoiser, Sampling, dict[str, Any]]:
    """Task, network, the model's own settings and its card, from a .safetensors file.

    Raises:
        ModelFileError: the files are missing, broken or do not fit each other.
    """
    card = load_card(path)
    if card.get("kind") != "molecules":
        raise ModelFileError(f"{path}: expected a model of molecules, got {card.get('kind')!r}")
    try:
        task = MoleculeTask.from_json(card["task"])
        settings = Sampling(**card.get("sampling", {}))
    except (ConfigError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path.with_suffix('.json')}: {error}") from error
    network = task.build().requires_grad_(False).eval()
    fill_module(network, load_weights(path, card), path)
    denoiser = MoleculeDenoiser(network.to(device), task.processes(), task.predicts)
    return task, denoiser, settings, card
