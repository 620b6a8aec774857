"""Entry point of `python -m toxicity_operator`: reads the environment, creates the parts and runs kopf."""

from __future__ import annotations

import gc
import logging
import os
import sys
from functools import partial

from toxicity_operator.settings import OperatorSettings

logger = logging.getLogger("toxicity_operator")


LEADERSHIP_LOST = 3
"""Exit code of a process that lost the Lease."""


def main() -> int:
    """Run the operator. Return the exit code: 2 for invalid settings, 1 if the API server cannot be used."""
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

    from toxicity_operator.kube.cached_cluster import CachedCluster
    from toxicity_operator.kube.client import KubernetesCluster
    from toxicity_operator.kube.connection import connect
    from toxicity_operator.kube.health import WatchHealth
    from toxicity_operator.kube.lease import Lease
    from toxicity_operator.kube.watch import WatchManager
    from toxicity_operator.runtime import handlers  # noqa: F401  registers the triggers
    from toxicity_operator.runtime.controller import Controller
    from toxicity_operator.runtime.leadership import Elector
    from toxicity_operator.runtime.process import OperatorProcess

    cluster = KubernetesCluster(connect())
    cache = CachedCluster(cluster, settings.operator_class)
    controller = Controller(cache, settings)
    health = WatchHealth(controller.metrics.count_watch_failure)
    watching = WatchManager(
        KubernetesCluster(connect()), cache, settings.namespaces,
        relist_seconds=settings.relist_seconds, health=health,
    )  # fmt: skip
    lease = settings.lease
    elector = Elector(Lease(connect(retries=0), lease.namespace, lease.name), lease) if lease else None
    process = OperatorProcess(
        controller, watching, elector, partial(cluster.require_api, settings.namespaces), _end_now
    )
    controller.metrics.show_process(process.leads, health.ages)
    controller.metrics.serve(settings.metrics_port)
    namespaces, of_class = settings.namespaces or "all", settings.operator_class
    logger.info("process_starts", extra={"namespaces": namespaces, "operator_class": of_class})
    gc.freeze()  # exclude the loaded modules from garbage collection
    try:
        kopf.run(
            standalone=True,
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            liveness_endpoint=f"http://{settings.liveness_host}:{settings.liveness_port}/healthz",
            stop_flag=process.stopping,
            memo=kopf.Memo(process=process, unfollowed_seconds=settings.unfollowed_seconds),
        )
    finally:
        process.finish()
    if process.failure is not None:
        raise process.failure


def _end_now(problem: str) -> None:
    """Exit at once, even during a write, because another process leads or will lead soon."""
    logger.error("leadership_lost", extra={"problem": problem})
    logging.shutdown()
    os._exit(LEADERSHIP_LOST)


if __name__ == "__main__":
    sys.exit(main())
