"""Every kopf trigger on one screen. All of them lead to the same pass; none of them decides anything.

Only low-level event handlers are used: they are level-triggered, and kopf then writes neither annotations nor a
finalizer into the resource, so that a resource can be deleted while no operator runs. The children are watched by
`watching.py`, which leaves the choice of ours among all objects of a kind to the API server.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import kopf

from toxicity_api.base import API_GROUP, API_VERSION, PLURAL
from toxicity_operator.runtime.framework import configure_kopf


@kopf.on.startup()
async def configure(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    configure_kopf(settings)
    memo.controller.start()
    memo.watching.start(partial(asyncio.get_running_loop().call_soon_threadsafe, memo.controller.notify))


@kopf.on.cleanup()
async def stop(memo: kopf.Memo, **_: Any) -> None:
    memo.watching.stop()
    memo.controller.stop()


@kopf.on.probe(id="resync")
async def is_alive(memo: kopf.Memo, **_: Any) -> bool:
    if not memo.controller.is_alive():
        raise kopf.PermanentError("the resync has ended")
    return True


@kopf.on.probe(id="watches")
async def is_watching(memo: kopf.Memo, **_: Any) -> bool:
    if not memo.watching.is_alive():
        raise kopf.PermanentError("a watch has ended")
    return True


@kopf.on.event(API_GROUP, API_VERSION, PLURAL)
async def on_model(event: kopf.RawEvent, memo: kopf.Memo, **_: Any) -> None:
    for key in memo.cache.observe_model(event["object"], gone=event["type"] == "DELETED"):
        memo.controller.notify(key)
