"""The fixtures of the end-to-end tests that the tests beside KEDA use."""

from support.e2e.fixtures import cluster, module_namespace, pytest_runtest_makereport

__all__ = ["cluster", "module_namespace", "pytest_runtest_makereport"]
