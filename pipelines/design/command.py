"""Running a campaign file: the command `designloom design`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from diffcore.errors import ConfigError


def design(
    campaign: str,
    check: bool = False,
    resume: bool = False,
    executor: str | None = None,
    generations: int | None = None,
    seed: int | None = None,
    store: str | None = None,
    page: Path | None = None,
    force: bool = False,
) -> str:
    """Run a campaign: propose, evaluate, select, learn, record.

    Args:
        campaign: YAML file with name, generator, objectives and the like, or a shipped campaign.
        check: Check the file and stop.
        resume: Go on with the campaign of this name in the store.
        executor: Where evaluations run, in place of the file's: process, pool or ray.
        generations: How many, in place of the file's.
        seed: Of all random numbers, in place of the file's.
        store: SQLite file or URL of the store, in place of the file's; a path is below the file.
        page: HTML page that shows the run while it lasts and is its report in the end.
        force: Overwrite `page`.

    Returns:
        What was found, in lines.

    Raises:
        ConfigError: Anything in the file is unknown, missing or out of range.
        DataError: The file or the store is missing, broken or of a newer version.
        OutputError: The store is in use, holds the campaign without --resume, or cannot be written.
        YieldError: The generator gives nothing.
    """
    from pipelines.design.files import read_campaign

    where: Any = None if executor is None else {"name": executor}
    found = read_campaign(campaign, executor=where, generations=generations, seed=seed, store=store)
    if check:
        return f"{campaign}: {_plan(found)}"
    from pipelines.design.engine import run
    from pipelines.design.live import Live

    if page is not None and page.exists() and not (force or resume):
        raise ConfigError(f"{page} exists: give --force to overwrite it")
    with Live(found, page) as live:
        try:
            result = run(found, resume=resume, tell=live)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                "interrupted: what was evaluated is in the store; --resume continues"
            ) from None
        live.finish(result)
    sys.stdout.flush()
    return summary(result)


def _plan(found: Any) -> str:
    """A checked campaign in one line."""
    goals = ", ".join(o.title for o in (*found.aims.goals, *found.aims.constraints))
    scores = ", ".join(one.name for one in found.evaluators)
    return (
        f"campaign {found.name!r}: {found.generations} generations of {found.batch} by "
        f"{found.strategy_name[0]} from {found.source.name}; evaluators {scores}; {goals}"
    )


def summary(result: Any) -> str:
    """What a finished campaign found, in a few lines."""
    campaign, rows = result.campaign, result.history.rows
    scored = len(result.history.feasible)
    lines = [
        f"{campaign.name}: {len(rows)} candidates, {scored} with all scores and constraints met",
        f"evaluations: {result.evaluated} made, {result.known} known before",
    ]
    if result.hypervolume is not None:
        lines.append(f"hypervolume: {result.hypervolume:.4g}")
    lines.append(f"Pareto front: {len(result.front)}")
    names = [objective.evaluator for objective in campaign.aims.goals]
    best = sorted(result.front, key=lambda row: row.losses or ())
    for row in best[:10]:
        scores = ", ".join(f"{name} {row.values[name]:.4g}" for name in names)
        lines.append(f"  {row.candidate.origin.get('smiles') or row.candidate.key[:12]}: {scores}")
    if len(best) > 10:
        lines.append(f"  and {len(best) - 10} more: designloom show campaign {campaign.store}")
    return "\n".join(lines)
