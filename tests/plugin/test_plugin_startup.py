from __future__ import annotations

import pytest

HEAVY = ("torch", "numpy", "click", "stablelint.api", "stablelint.config", "pytest_stablelint.assertion")


@pytest.mark.parametrize("source", ["def test_x(): pass", "def test_x(stablelint): pass"])
def test_starting_and_collecting_imports_nothing_heavy(pytester: pytest.Pytester, source: str) -> None:
    pytester.makeconftest(
        f"""
import sys
def pytest_unconfigure():
    print("heavy:", [name for name in {HEAVY} if name in sys.modules])
"""
    )
    pytester.makepyfile(source)
    # jaxtyping is there for other tests, and its own plugin imports numpy
    result = pytester.runpytest_subprocess("--collect-only", "-p", "no:cacheprovider", "-p", "no:jaxtyping")
    result.stdout.fnmatch_lines(["collected 1 item", "heavy: []"])


def test_no_options_are_taken() -> None:
    """``--torch-*`` belongs to pytest-torch and ``--benchmark-*`` to pytest-benchmark; we take none."""
    from pytest_stablelint import plugin

    assert not hasattr(plugin, "pytest_addoption")
