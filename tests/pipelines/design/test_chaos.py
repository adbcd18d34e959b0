"""Nothing is lost and nothing is done twice, whatever is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")

from diffcore.errors import ConfigError  # noqa: E402
from pipelines.design.chaos import VICTIMS, bench_chaos, torment  # noqa: E402

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(),
    reason="finds the workers of a process as Linux shows them",
)


@pytest.mark.timeout(600)
def test_a_campaign_survives_what_is_killed(tmp_path: Path) -> None:
    damage = torment(tmp_path, kills=4, seed=3, batch=20, generations=4)
    assert damage.kills.total() == 4 and set(damage.kills) <= set(VICTIMS)
    assert damage.starts == 1 + damage.kills["main"] or damage.starts > damage.kills["main"]
    assert (damage.lost, damage.missing, damage.twice, damage.needless) == (0, 0, 0, 0)
    assert damage.same and damage.evaluations >= 80
    # what was in work when something was killed, and what was finished but not written yet
    assert damage.repeated <= 20 * damage.kills.total()
    assert damage.calls == damage.evaluations + damage.repeated


def test_options() -> None:
    with pytest.raises(ConfigError, match="at least one kill"):
        bench_chaos(kills=0)
