"""Training of the models that read and write molecules as tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from diffcore.errors import ConfigError

if TYPE_CHECKING:
    from molgen.tokens.mixtures import JointTable
    from molgen.tokens.tables import TokenTable
    from molgen.tokens.task import TokenTask

SELF_CONDITIONED = ("analog",)
MIXTURES = (
    "four systems in five of Lavrinenko et al. 2023 (doi:10.1021/acssuschemeng.3c05207), "
    "DESignSolvents 2024 and ono1025's viscosities; no licence stated, MIT for the last"
)
TEXTS = {"smiles": 4, "selfies": 1}


def train_tokens(
    method: str = "causal",
    notation: str = "",
    max_time: str = "00:15:00",
    out: str = "runs/tokens",
    width: int = 160,
    layers: int = 5,
    batch: int = 256,
    lr: float = 1e-3,
    accelerator: str = "cpu",
    precision: str = "32-true",
    threads: int = 0,
    resume: bool = False,
    seed: int = 0,
    data: Path | None = None,
    mixtures: Path | None = None,
) -> Path:
    """Train a model of QM9's molecules as tokens.

    Args:
        method: Writers, told properties: causal, absorbing, replacing, analog. Readers, told
            tokens: direct, diffusion. Both, of molecules and binary mixtures: multitask.
        notation: smiles or selfies; by default SELFIES for writers, SMILES for readers.
        max_time: Time budget, HH:MM:SS.
        out: Folder of the checkpoint, the curve and the weights.
        width: Features of a token.
        layers: Blocks of the transformer.
        batch: Molecules a batch.
        lr: Peak learning rate.
        accelerator: cpu, gpu or auto.
        precision: As Lightning names it.
        threads: Threads of the tensor library, 0 for torch's own choice.
        resume: Continue the run of the folder.
        seed: Of weights, order and noise.
        data: Converted data file; by default QM9 from the cache.
        mixtures: For multitask: folder of the published tables of eutectic mixtures; by default
            `shared/data/solvents` beside the checkout.

    Returns:
        Path of the weights file.

    Raises:
        ConfigError: An option is outside what is allowed.
        OutputError: The folder holds a training run already.
    """
    import torch

    from diffcore import training
    from diffcore.objective import Objective
    from diffcore.transformer import Size, TokenNetwork
    from molgen.datasets import qm9
    from molgen.datasets.table import MoleculeTable
    from molgen.tokens.tables import choose, token_table
    from molgen.tokens.task import LEFT_TO_RIGHT, MULTITASK, READERS, TokenDenoiser, TokenTask
    from molgen.weights.files import write_model
    from pipelines.runs import effort, folder_for, seconds, seeded

    folder = folder_for(out, resume)
    if width < 32 or width % 32 or layers < 1 or batch < 1:
        raise ConfigError("--width: expected a multiple of 32; --layers, --batch: 1 or more")
    if threads:
        torch.set_num_threads(threads)
    reads = method in READERS
    both = method == MULTITASK
    notation = notation or ("smiles" if reads or both else "selfies")
    parity = "even" if reads else "odd"
    molecules = choose(MoleculeTable.load(data) if data else qm9.load(), "train", parity)
    table: TokenTable | JointTable = token_table(
        molecules, notation, 1 if both else TEXTS.get(notation, 1), seed
    )
    if both:
        table = _joint(cast("TokenTable", table), mixtures)
    task = TokenTask(table.vocabulary, table.moments, method, Size(width, layers, width // 32))
    network = seeded(task.build, seed)
    objective = Objective(
        weighting="uniform",
        self_condition=0.5 if method in SELF_CONDITIONED else 0.0,
        independent=0.0,
        align=False,
        condition_drop=0.5 if both else 0.0 if reads else 0.15,
    )
    budget = training.Budget(seconds(max_time))
    module = training.Diffusion(
        network,
        lambda net: TokenDenoiser(cast(TokenNetwork, net), task, carry=method not in LEFT_TO_RIGHT),
        task.taught(),
        objective,
        training.Optimisation(lr=lr, warmup=200, ema=0.999, seed=seed),
        budget,
    )
    run = training.Run(
        folder, budget.seconds, resume, accelerator, precision=precision, curve_every=60.0
    )
    training.fit(module, Stream(table, task, batch, seed, module), run)
    card = {
        "kind": "tokens",
        "name": f"qm9-{method}-{notation}",
        "data": {
            **{k: molecules.card.get(k) for k in ("name", "source", "licence")},
            "part": f"train, {parity} numbers",
            **({"mixtures": MIXTURES} if both else {}),
            "rows" if both else "molecules": len(table),
        },
        "recipe": training.describe(objective, module.optimisation) | {"batch": batch},
        "seed": seed,
        "trained": effort(budget, module, run),
        "task": task.to_json(),
    }
    weights = module.averaged.state_dict()
    return write_model(folder / f"qm9-{method}-{notation}.safetensors", weights, card)


def _joint(molecules: TokenTable, folder: Path | None) -> JointTable:
    from molgen.solvents.training import default_data
    from molgen.tokens.mixtures import held_out, joint_table, mixture_rows

    rows = mixture_rows(folder or default_data())
    return joint_table(molecules, rows[~held_out(rows)])


class Stream:
    """Batches that go on where a resumed run stopped."""

    def __init__(
        self, table: TokenTable | JointTable, task: TokenTask, size: int, seed: int, run: Any
    ) -> None:
        self.table, self.task, self.size, self.seed, self.run = table, task, size, seed, run

    def __iter__(self) -> Any:
        """Endless."""
        return self.table.batches(self.task, self.size, self.seed, int(self.run.global_step))
