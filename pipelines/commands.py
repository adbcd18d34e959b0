"""The table of commands: words, the function behind them, a line of help."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        target: The function, as ``module:name``; imported only when the command is run.
        summary: One line for the help.
        short: Short options, ``{"-n": "number"}``.
        hidden: Parameters of the function that are no options.
    """

    target: str
    summary: str
    short: Mapping[str, str] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()

    def load(self) -> Callable[..., object]:
        """Import the function."""
        module, name = self.target.split(":")
        function: Callable[..., object] = getattr(importlib.import_module(module), name)
        return function


COMMANDS: dict[tuple[str, ...], Command] = {
    ("generate", "molecules"): Command(
        "pipelines.generate:generate_molecules",
        "make 3D molecules with a trained model",
        {"-n": "number", "-o": "output"},
    ),
    ("generate", "conformers"): Command(
        "pipelines.conformers:generate_conformers",
        "make ranked 3D conformers of the molecules in a file",
        {"-n": "number", "-o": "output"},
    ),
    ("generate", "smiles"): Command(
        "pipelines.tokens:generate_smiles",
        "write SMILES for properties with a model of tokens",
        {"-n": "number", "-o": "output"},
    ),
    ("generate", "webs"): Command(
        "pipelines.webs:generate_webs",
        "lay spider webs thread by thread, or draw them with a trained model",
        {"-n": "number", "-o": "output"},
    ),
    ("generate", "weights"): Command(
        "pipelines.netweights:generate_weights",
        "make networks that classify the rows of your CSV file, without training",
        {"-n": "number", "-o": "output"},
    ),
    ("evaluate",): Command(
        "pipelines.evaluate:evaluate_file",
        "score a file of molecules and write a report",
        {"-o": "output"},
    ),
    ("evaluate", "webs"): Command(
        "pipelines.webs:evaluate_webs",
        "score a file of spider webs and pull them to failure",
        {"-o": "output"},
    ),
    ("assemble",): Command(
        "pipelines.webs:assemble_webs",
        "assemble spider webs along a curve or over a surface",
        {"-o": "output"},
    ),
    ("print",): Command(
        "pipelines.webs:print_web",
        "make a spider web a watertight body to print (3MF, STL)",
        {"-o": "output"},
    ),
    ("train", "molecules"): Command(
        "pipelines.train:train_molecules",
        "train a generator of molecules by a recipe",
        {"-o": "out"},
    ),
    ("train", "conformers"): Command(
        "pipelines.train_conformers:train_conformers",
        "train a generator of conformers by a recipe",
        {"-o": "out"},
    ),
    ("train", "ranking"): Command(
        "pipelines.train_ranking:train_ranking",
        "train what ranks the conformers of a model by how near to bound ones they are",
        {"-o": "out"},
    ),
    ("train", "contacts"): Command(
        "pipelines.train_contacts:train_contacts",
        "train what tells a model of conformers of the target around them",
        {"-o": "out"},
    ),
    ("train", "sidegen"): Command(
        "pipelines.train_sidegen:train_sidegen",
        "train a Cartesian conformer model that sees its target, or a flow",
        {"-o": "out"},
    ),
    ("train", "chemistry"): Command(
        "pipelines.train_chemistry:train_chemistry",
        "train the energy model that guides Cartesian conformers (needs GFN2-xTB)",
        {"-o": "out"},
    ),
    ("train", "webs"): Command(
        "pipelines.webs_train:train_webs",
        "train a generator of spider webs by a recipe",
        {"-o": "out"},
    ),
    ("train", "weights"): Command(
        "pipelines.netweights_train:train_weights",
        "train a zoo of networks and a generator of network weights",
        {"-o": "out"},
    ),
    ("train", "tokens"): Command(
        "pipelines.train_tokens:train_tokens",
        "train a model that writes SMILES for properties, or reads properties off SMILES",
        {"-o": "out"},
    ),
    ("bench", "webs"): Command(
        "pipelines.bench_webs:bench_webs",
        "ask for the parameters of webs never seen, beside laid webs and random pieces (minutes)",
        {"-n": "number", "-o": "output"},
    ),
    ("bench", "pulls"): Command(
        "pipelines.bench_pulls:bench_pulls",
        "time pull tests, bodies to print and a helix of webs; compare with a reference solver",
    ),
    ("bench", "weights"): Command(
        "pipelines.bench_weights:bench_weights",
        "try generated networks on data sets seen and left out, beside all baselines (minutes)",
    ),
    ("bench", "tokens"): Command(
        "pipelines.tokens:bench_tokens",
        "read properties off SMILES and write SMILES for properties, beside baselines (minutes)",
        {"-n": "number"},
    ),
    ("bench", "multitask"): Command(
        "pipelines.bench_multitask:bench_multitask",
        "compare one model of all tasks of tokens with the models made for one (minutes)",
        {"-n": "number"},
    ),
    ("bench", "molecules"): Command(
        "pipelines.bench:bench_molecules",
        "measure the cost of one molecule, or score it --against other tools",
        {"-n": "number", "-o": "output"},
    ),
    ("bench", "switches"): Command(
        "pipelines.switches:bench_switches",
        "measure what each switch of the training recipe does (minutes)",
    ),
    ("bench", "properties"): Command(
        "pipelines.bench_properties:bench_properties",
        "ask for properties, and let an independent predictor judge (minutes)",
    ),
    ("bench", "steering"): Command(
        "pipelines.bench_steering:bench_steering",
        "measure what guidance, search and inpainting gain and cost on digits (minutes)",
    ),
    ("bench", "requests"): Command(
        "pipelines.bench_requests:bench_requests",
        "ask for formula, scaffold, fragment, ... and count what each costs (minutes)",
        {"-n": "number"},
    ),
    ("bench", "rewards"): Command(
        "pipelines.bench_rewards:bench_rewards",
        "compare searches for molecules of high reward with best-of-N (tens of minutes)",
    ),
    ("bench", "conformers"): Command(
        "pipelines.bench_conformers:bench_conformers",
        "compare conformers with known ones, beside ETKDG and MMFF94",
        {"-n": "number", "-o": "output"},
    ),
    ("bench", "sidegen"): Command(
        "pipelines.bench_sidegen:bench_sidegen",
        "ask what target, messages and guidance are worth to conformers (minutes)",
        {"-n": "number", "-o": "output"},
    ),
    ("bench", "contacts"): Command(
        "pipelines.bench_contacts:bench_contacts",
        "ask what a target tells a model of conformers, in known complexes",
        {"-n": "number"},
    ),
    ("bench", "redocking"): Command(
        "pipelines.bench_redocking:bench_redocking",
        "dock the ligands of known complexes again and compare the poses",
        {"-n": "number", "-o": "output"},
    ),
    ("design",): Command(
        "pipelines.design.command:design",
        "run a design campaign from a YAML file, or go on with it",
    ),
    ("screen",): Command(
        "pipelines.screening:screen",
        "score a library of any size, cheap evaluators first",
        {"-o": "output"},
    ),
    ("show", "campaign"): Command(
        "pipelines.design.show:show_campaign",
        "list a store of campaigns, plot progress, export candidates and scores",
        {"-o": "output"},
    ),
    ("generate", "solvents"): Command(
        "pipelines.solvents_design:generate_solvents",
        "propose eutectic solvents (two components and their ratio) for a target",
        {"-n": "number", "-o": "output"},
    ),
    ("predict", "solvents"): Command(
        "pipelines.solvents:predict_solvents",
        "predict liquidus temperatures of the mixtures in a file",
        {"-o": "output"},
    ),
    ("bench", "solvents"): Command(
        "pipelines.bench_solvents:bench_solvents",
        "measure liquidus temperatures on systems and components held out",
        {"-o": "output"},
    ),
    ("bench", "chaos"): Command(
        "pipelines.design.chaos:bench_chaos",
        "kill a design campaign at random moments and count what is lost (minutes)",
    ),
    ("bench", "design"): Command(
        "pipelines.bench_design:bench_design",
        "compare the strategies of design loops at equal evaluator calls (an hour)",
    ),
    ("data", "components"): Command(
        "molgen.datasets.components:convert",
        "convert the wwPDB component dictionary into one compact file",
        {"-o": "out"},
        frozenset({"progress"}),
    ),
    ("data", "qm9"): Command(
        "molgen.datasets.qm9:convert",
        "convert the QM9 data set into one compact file",
        {"-o": "out"},
        frozenset({"progress"}),
    ),
}
