"""How the processes of one training tell the one that started them what they failed with: in a file of their own each.

None of them writes the stage's result after a failure: they fail at the same time, and would all write the same one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from toxicity_training.errors import CRASHED, RankFailure
from toxicity_training.ranks import LAUNCHED


def is_started(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of several that another one has started."""
    return LAUNCHED in environment


def leave_failure(failure: RankFailure, folder: Path, environment: Mapping[str, str]) -> None:
    """Leaves this process's failure in `folder`, whole or not at all: it may be killed as the first one ends."""
    document = {"reason": failure.reason, "message": str(failure), "exitCode": failure.exit_code}
    part = folder / f"rank-{environment.get('RANK', '0')}.part"
    part.write_text(json.dumps(document), encoding="utf-8")
    os.rename(part, part.with_suffix(".json"))


def told_failure(folder: Path) -> RankFailure | None:
    """What the processes failed with; None when none of them could tell.

    The first that failed counts, but one that crashed may only have lost another that knows better.
    """
    failures = []
    for path in folder.glob("rank-*.json"):
        document = json.loads(path.read_bytes())
        failure = RankFailure(document["reason"], document["message"], document["exitCode"])
        failures.append((failure.reason == CRASHED, path.stat().st_mtime_ns, path.name, failure))
    return min(failures)[-1] if failures else None
