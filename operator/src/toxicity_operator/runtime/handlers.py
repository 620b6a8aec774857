"""Every kopf trigger on one screen: the beginning, the end, and whether the process is well. None decides anything.

kopf runs the process: its event loop, its signals and its health endpoint. What happens to resources and children comes
from `kube.watch`: no metric and no probe says that a watch of kopf's keeps failing, kopf never lists anew while one
works, and it begins before this process is the one to act. So no handler of a resource is registered, and kopf writes
neither annotations nor a finalizer into any: a resource can be deleted while no operator runs.
"""

from __future__ import annotations

from typing import Any

import kopf


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    settings.posting.enabled = False
    settings.scanning.disabled = True
    memo.process.start()


@kopf.on.cleanup()
async def stop(memo: kopf.Memo, **_: Any) -> None:
    memo.process.stop()


@kopf.on.probe(id="operator")
async def is_well(memo: kopf.Memo, **_: Any) -> bool:
    problem = memo.process.problem(memo.unfollowed_seconds)
    if problem is not None:
        raise kopf.PermanentError(problem)
    return True
