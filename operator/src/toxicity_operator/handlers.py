"""Every kopf trigger on one screen. All of them lead to the same pass; none of them decides anything.

Only low-level event handlers are used: they are level-triggered, and kopf then writes neither annotations nor a
finalizer into the resource, so that a resource can be deleted while no operator runs.
"""

from __future__ import annotations

from typing import Any

import kopf

from toxicity_api.base import API_GROUP, API_VERSION, PLURAL
from toxicity_operator import names

CHILD_LABELS = {names.MODEL_LABEL: kopf.PRESENT}


@kopf.on.startup()
async def configure(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = 120
    settings.watching.client_timeout = 150
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    memo.controller.start()


@kopf.on.cleanup()
async def stop(memo: kopf.Memo, **_: Any) -> None:
    memo.controller.stop()


@kopf.on.probe(id="resync")
async def is_alive(memo: kopf.Memo, **_: Any) -> bool:
    if not memo.controller.is_alive():
        raise kopf.PermanentError("the resync has ended")
    return True


@kopf.on.event(API_GROUP, API_VERSION, PLURAL)
async def on_model(namespace: str | None, name: str, memo: kopf.Memo, **_: Any) -> None:
    await memo.controller.trigger((str(namespace), name))


@kopf.on.event("batch", "v1", "jobs", labels=CHILD_LABELS)
@kopf.on.event("apps", "v1", "deployments", labels=CHILD_LABELS)
async def on_child(namespace: str | None, labels: kopf.Labels, memo: kopf.Memo, **_: Any) -> None:
    await memo.controller.trigger((str(namespace), labels[names.MODEL_LABEL]))
