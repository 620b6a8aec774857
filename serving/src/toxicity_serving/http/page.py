"""The page at `/` and its data. The page contains no data and needs no token; the data routes do."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import importlib.resources
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import HTMLResponse

from toxicity_serving.http.errors import RETRY
from toxicity_serving.http.schemas import ErrorResponse
from toxicity_serving.http.scoring import ServiceParameter
from toxicity_serving.report import Report, read_plot, read_report

VOLUME_SECONDS = 10.0
"""Time limit for reading the artifact volume, including the wait for a thread."""

router = APIRouter()
data_router = APIRouter(tags=["Page"])

_REFUSED: dict[int | str, dict[str, Any]] = {code: {"model": ErrorResponse} for code in (401, 503)}
# A separate pool, because a volume that hangs blocks the threads that read it. Probes must not wait for them.
_volume_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="volume")

Read = TypeVar("Read")


@router.get("/", include_in_schema=False)
async def page() -> HTMLResponse:
    """The web page: the model's card, its results and a form to classify a text."""
    document, policy = _page()
    return HTMLResponse(document, headers={"Content-Security-Policy": policy})


@data_router.get("/v1/report", responses=_REFUSED)
async def report(service: ServiceParameter) -> Report:
    """Results of the stages: the data set, quality and load test by length in characters, and the list of plots."""
    return await _from_volume(lambda: read_report(service.config))


@data_router.get(
    "/v1/plots/{plot}",
    response_class=Response,
    responses={**_REFUSED, 200: {"content": {"image/png": {}}}, 404: {"model": ErrorResponse}},
)
async def plot(plot: str, service: ServiceParameter) -> Response:
    """One of the report's plots as PNG."""
    content = await _from_volume(lambda: read_plot(service.config, plot))
    if content is None:
        raise HTTPException(404, "there is no such plot; /v1/report lists the plots")
    return Response(content, media_type="image/png", headers={"Cache-Control": "no-cache"})


async def _from_volume(read: Callable[[], Read]) -> Read:
    """Return the result of `read`, which runs in a thread. Raises HTTPException with 503 when the volume hangs."""
    try:
        async with asyncio.timeout(VOLUME_SECONDS):
            return await asyncio.get_running_loop().run_in_executor(_volume_threads, read)
    except TimeoutError as error:
        raise HTTPException(503, "the artifact volume does not answer", RETRY) from error


@functools.cache
def _page() -> tuple[str, str]:
    """Return the page and its Content-Security-Policy, which allows its inline scripts and no other origin."""
    document = importlib.resources.files("toxicity_serving.http").joinpath("page.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", document, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    sources = " ".join(f"'sha256-{digest}'" for digest in hashes)
    policy = (
        f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src blob:; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return document, policy
