"""What the cluster asks: whether the process is alive and ready, and its metrics. Never behind the token."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from toxicity_serving.http.schemas import Readiness
from toxicity_serving.http.scoring import ServiceParameter
from toxicity_serving.lifecycle import State

router = APIRouter(tags=["Probes"])


@router.get("/healthz", responses={503: {"model": Readiness}})
async def healthz(service: ServiceParameter, response: Response) -> Readiness:
    """Alive unless the engine has failed; also while it loads."""
    response.status_code = 503 if service.state is State.FAILED else 200
    return Readiness(state=service.state.value, reason=service.reason)


@router.get("/readyz", responses={503: {"model": Readiness}})
async def readyz(service: ServiceParameter, response: Response) -> Readiness:
    """Ready once real texts have been classified, and until the process stops or its engine dies."""
    response.status_code = 200 if service.state is State.READY else 503
    return Readiness(state=service.state.value, reason=service.reason)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(service: ServiceParameter) -> Response:
    """Prometheus text format."""
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)
