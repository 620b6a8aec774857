"""Liveness, readiness and metrics, for the cluster. These paths never need the token."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from toxicity_serving.http.schemas import Readiness
from toxicity_serving.http.scoring import ServiceParameter
from toxicity_serving.lifecycle import State

router = APIRouter(tags=["Probes"])


@router.get("/healthz", responses={503: {"model": Readiness}})
async def healthz(service: ServiceParameter, response: Response) -> Readiness:
    """Liveness: 503 once the engine has failed, 200 otherwise, also while it loads."""
    response.status_code = 503 if service.state is State.FAILED else 200
    return Readiness(state=service.state.value, reason=service.reason)


@router.get("/readyz", responses={503: {"model": Readiness}})
async def readyz(service: ServiceParameter, response: Response) -> Readiness:
    """Readiness: 200 after the self-test, until the process stops or the engine dies or hangs; 503 otherwise."""
    response.status_code = 200 if service.is_ready else 503
    return Readiness(state=service.state.value, reason=service.reason)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(service: ServiceParameter) -> Response:
    """Metrics in the Prometheus text format."""
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)
