"""The settings of hypothesis for all unit tests: no deadline, since speed is measured in benchmarks."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("without-deadline", deadline=None)
settings.load_profile("without-deadline")
