"""All kopf handlers: startup, cleanup and the liveness probe.

kopf runs the event loop, handles signals and serves the health endpoint. No resource handler is registered, so kopf
writes no annotations and no finalizers. `kube.watch` watches the resources. See docs/adr/0007 and 0009.
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
