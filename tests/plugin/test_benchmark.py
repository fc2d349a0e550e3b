from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from pytest_stablelint.benchmark import _plain

Run = Callable[..., pytest.RunResult]

TIMED = """
SIGNALS = {"source": "measured", "gradient_ratio": 0.5, "dead": float("nan"), "finite": True}

def test_before(stablelint, benchmark):
    net = Net(signals=SIGNALS)
    stablelint.assert_stable(net, X)
    stablelint.check(net, X, name="again")
    benchmark(net, X)

def test_after(benchmark, stablelint):
    net = Net(("ERROR",), signals=SIGNALS)
    benchmark(net, X)
    stablelint.assert_stable(net, X)

def test_without_a_check(benchmark):
    benchmark(len, X)
"""


def test_signals_land_in_the_stored_benchmark(run: Run, pytester: pytest.Pytester) -> None:
    """Before or after the timing, by model name, and also when the assertion fails."""
    run(
        TIMED,
        "-p",
        "pytest_benchmark.plugin",
        "--benchmark-json=stored.json",
        "--benchmark-warmup=off",
        "--benchmark-max-time=0.01",
    )
    stored = json.loads((pytester.path / "stored.json").read_text())
    extra = {benchmark["name"]: benchmark["extra_info"] for benchmark in stored["benchmarks"]}
    signals = {"source": "measured", "gradient_ratio": 0.5, "dead": None, "finite": True}
    assert extra["test_before"] == {"stablelint": {"Net": signals, "again": signals}}
    assert extra["test_without_a_check"] == {}
    if "test_after" in extra:  # a failed test is not stored by every version of pytest-benchmark
        assert extra["test_after"] == {"stablelint": {"Net": signals}}


def test_nothing_needs_pytest_benchmark(run: Run) -> None:
    run("def test_net(stablelint): stablelint.check(Net(signals={'dead': 0.0}), X)").assert_outcomes(passed=1)


def test_another_fixture_of_that_name_is_left_alone(run: Run) -> None:
    result = run(
        """
@pytest.fixture
def benchmark():
    return len

def test_net(stablelint, benchmark):
    stablelint.check(Net(signals={"dead": 0.0}), X)
"""
    )
    result.assert_outcomes(passed=1)


def test_values_are_plain_types_of_json() -> None:
    numpy = pytest.importorskip("numpy")
    values = [numpy.float32(0.5), numpy.int64(3), numpy.bool_(True), 1.5, True, "x", None, float("inf"), numpy.nan]
    plain = [_plain(value) for value in values]
    assert plain == [0.5, 3, True, 1.5, True, "x", None, None, None]
    assert [type(value) for value in plain[:3]] == [float, int, bool]
