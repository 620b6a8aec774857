"""`python -m toxicity_operator`: reads the environment, checks that the API is served, runs kopf."""

from __future__ import annotations

import gc
import logging
import os
import sys
from functools import partial

from toxicity_operator.settings import OperatorSettings

logger = logging.getLogger("toxicity_operator")


def main() -> int:
    """Runs the operator. Returns the exit code: 2 for a bad environment, 1 without the API."""
    from toxicity_operator.errors import ClusterError
    from toxicity_operator.runtime.logs import configure_logging

    try:
        settings = OperatorSettings.from_environment(os.environ)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    configure_logging(settings.log_level)
    try:
        _run(settings)
    except ClusterError as error:
        logger.error("cluster_unusable", extra={"problem": str(error)})
        return 1
    return 0


def _run(settings: OperatorSettings) -> None:
    import kopf

    from toxicity_operator.kube.client import KubernetesCluster, connect
    from toxicity_operator.kube.mirror import CachedCluster
    from toxicity_operator.kube.watch import Watching
    from toxicity_operator.runtime import handlers  # noqa: F401  registers the triggers
    from toxicity_operator.runtime.controller import Controller
    from toxicity_operator.runtime.retries import patiently

    cluster = KubernetesCluster(connect())
    patiently(partial(cluster.require_api, settings.namespaces))
    cache = CachedCluster(cluster)
    watching = Watching(KubernetesCluster(connect()), cache, settings.namespaces)
    patiently(watching.fill)
    controller = Controller(cache, settings)
    controller.metrics.serve(settings.metrics_port)
    logger.info("operator_starts", extra={"namespaces": settings.namespaces or "all"})
    gc.freeze()  # the modules stay: the collector need not go through them again and again
    kopf.run(
        standalone=True,
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        liveness_endpoint=f"http://{settings.liveness_host}:{settings.liveness_port}/healthz",
        memo=kopf.Memo(cache=cache, watching=watching, controller=controller),
    )


if __name__ == "__main__":
    sys.exit(main())
