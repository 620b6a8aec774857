"""The chart's objects, rendered by helm."""

from __future__ import annotations

import pytest

from support.chart import EVERYTHING, Documents, Render


@pytest.fixture
def defaults(render: Render) -> Documents:
    """The objects with the chart's own values."""
    return render()


@pytest.fixture
def everything(render: Render) -> Documents:
    """The objects with every value changed."""
    return render("-f", str(EVERYTHING))
