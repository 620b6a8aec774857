"""The fixtures of the end-to-end tests."""

from support.e2e.fixtures import (
    cluster,
    finished,
    module_namespace,
    namespace,
    pytest_runtest_makereport,
    second_node,
)

__all__ = ["cluster", "finished", "module_namespace", "namespace", "pytest_runtest_makereport", "second_node"]
