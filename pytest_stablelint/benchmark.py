"""The signals of a checked model, stored beside the timings of pytest-benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from stablelint.finding import Fact, TargetReport

Recorder = Callable[["TargetReport"], None]


def recorder(request: pytest.FixtureRequest) -> Recorder:
    """A function that puts the signals of a report into ``benchmark.extra_info["stablelint"][model name]``.

    It does nothing in a test without the fixture ``benchmark``, so pytest-benchmark need not be installed. The
    last check of a name stays, because a timed function is called many times.
    """

    def record(report: TargetReport) -> None:
        if "benchmark" not in request.fixturenames:
            return
        extra_info = getattr(request.getfixturevalue("benchmark"), "extra_info", None)
        if isinstance(extra_info, dict) and report.signals is not None:
            summary = {name: _plain(value) for name, value in report.signals.items()}
            extra_info.setdefault("stablelint", {})[report.target] = summary

    return record


def _plain(value: Fact) -> Fact:
    """``value`` as a type of JSON, which knows neither NumPy's scalars nor NaN and infinity."""
    if value is None or isinstance(value, bool | str):
        return value
    number = value.item() if hasattr(value, "item") else value
    return number if math.isfinite(number) else None
