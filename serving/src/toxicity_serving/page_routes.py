"""The page at `/` and the data that it shows. The page itself is open, since it holds nothing; its data is not."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import re

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, HTMLResponse

from toxicity_serving.report import Report, find_plots, read_report
from toxicity_serving.schemas import ErrorResponse
from toxicity_serving.scoring import ServiceParameter

router = APIRouter()
data_router = APIRouter(tags=["Page"])


@router.get("/", include_in_schema=False)
def page() -> HTMLResponse:
    """The model's card and a box to try a text."""
    document, policy = _page()
    return HTMLResponse(document, headers={"Content-Security-Policy": policy})


@data_router.get("/v1/report", responses={401: {"model": ErrorResponse}})
def report(service: ServiceParameter) -> Report:
    """What the stages left on the artifact volume: data, quality and load test by length, and the list of plots."""
    return read_report(service.config)


@data_router.get(
    "/v1/plots/{plot}",
    response_class=FileResponse,
    responses={200: {"content": {"image/png": {}}}, 401: {"model": ErrorResponse}, 404: {"model": ErrorResponse}},
)
def plot(plot: str, service: ServiceParameter) -> FileResponse:
    """One of the report's plots as PNG."""
    found = find_plots(service.config).get(plot)
    if found is None:
        raise HTTPException(404, "there is no such plot; /v1/report lists them")
    return FileResponse(found[1], media_type="image/png", headers={"Cache-Control": "no-cache"})


@functools.cache
def _page() -> tuple[str, str]:
    """The document and its policy: no script but its own, nothing from anywhere else."""
    document = importlib.resources.files("toxicity_serving").joinpath("page.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", document, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    sources = " ".join(f"'sha256-{digest}'" for digest in hashes)
    policy = (
        f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src blob:; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return document, policy
