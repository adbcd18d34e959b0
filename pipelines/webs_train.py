"""Training a web model from the command line: a recipe, a time budget, a folder."""

from __future__ import annotations

from pathlib import Path

from diffcore.errors import ConfigError


def train_webs(
    recipe: str = "orb",
    max_time: str = "00:25:00",
    out: str = "runs/webs",
    resume: bool = False,
    number: int | None = None,
    stage: list[int] | None = None,
    start_from: str | None = None,
    seed: int = 0,
    accelerator: str = "cpu",
    threads: int = 1,
) -> Path:
    """Train a model of webs and write its weights, card and learning curve.

    Args:
        recipe: name of a recipe.
        max_time: time budget of this run, HH:MM:SS.
        out: folder of the checkpoint, the curve and the weights.
        resume: continue from the folder's checkpoint.
        number: training webs; the recipe's number if left out.
        stage: train this one only, counted from 0, of a model whose fields are drawn one after
            another; several if given several times.
        start_from: model of the same recipe, by name or path, whose weights are trained further.
        seed: of weights, order and noise.
        accelerator: Lightning's: cpu, gpu or auto.
        threads: of the tensor library.

    Returns:
        The weights file.

    Raises:
        ConfigError: an unknown recipe, or an option outside its range.
        OutputError: the folder holds a run already.
    """
    import torch
    from tqdm import tqdm

    from diffcore import training
    from diffcore.checkpoint import fill_module, load_card, load_weights, save_weights
    from diffcore.memory import keep_freed_memory
    from diffcore.objective import Objective
    from pipelines.runs import effort, folder_for, loader_of, seconds, seeded
    from structgen.webs.batches import WebBatches
    from structgen.webs.methods import statistics, task_for
    from structgen.webs.recipes import recipe as find
    from structgen.webs.recipes import values_for, webs_of
    from structgen.webs.weights import find_model

    chosen, budget = find(recipe), training.Budget(seconds(max_time))
    number = chosen.number if number is None else number
    for name, value in (("number", number), ("threads", threads)):
        if value < 1:
            raise ConfigError(f"--{name}: expected at least 1, got {value}")
    known = len(chosen.objective.get("stages", ()))
    if stage is not None and not (stage and all(0 <= k < known for k in stage)):
        raise ConfigError(f"--stage: {recipe} has {known} stages, got {stage}")
    folder = folder_for(out, resume)
    torch.set_num_threads(threads)
    keep_freed_memory()
    with tqdm(total=number, desc="webs", mininterval=1) as bar:
        webs = webs_of(chosen, number, tick=bar.update)
    with tqdm(total=number, desc="pull tests", mininterval=1) as bar:
        values = values_for(chosen, webs, tick=bar.update)
    task = task_for(chosen.method, statistics(webs, values), chosen.task).fitted(webs)
    network = seeded(task.build, seed)
    if start_from is not None:
        path = find_model(start_from)
        fill_module(network, load_weights(path, load_card(path)), path)
    options = {"self_condition": 0.0, "condition_drop": 0.15, **chosen.objective}
    if stage is not None:
        every = options.get("shares") or (1.0,) * known
        options["shares"] = tuple(s * (k in stage) for k, s in enumerate(every))
    objective = Objective(**options)
    module = training.Diffusion(
        network,
        lambda net: task.denoiser(net, taught=True),
        task.taught(),
        objective,
        training.Optimisation(**{**chosen.optimisation, "seed": seed}),
        budget,
    )
    batches = WebBatches(webs, values, task, chosen.batch, seed, chosen.nodes)
    loader = loader_of(batches, seed)
    run = training.Run(folder, budget.seconds, resume, accelerator, curve_every=60.0)
    training.fit(module, loader, run)
    card = {
        "kind": "webs",
        "name": recipe,
        "data": {"name": f"laid webs, family {chosen.family}", "webs": number, "licence": "MIT"},
        "recipe": {
            "name": recipe,
            "batch": chosen.batch,
            **training.describe(objective, module.optimisation),
        },
        "seed": seed,
        "trained": effort(budget, module, run),
        "task": task.to_json(),
    }
    return save_weights(folder / f"{recipe}.safetensors", module.averaged.state_dict(), card)
