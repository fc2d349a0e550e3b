"""Tests of tests: every test here runs pytest on a small test file, with the check itself replaced or real."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest

#: A check that answers what the model carries, and remembers what it was asked.
CANNED = """
import pytest
from stablelint.finding import Finding, Level, Standing, TargetReport
from stablelint.site import Site

def finding(level, code="SL401", name="unscaled-attention"):
    message = "scores are sums of 64 products and nothing scales them"
    return Finding(code, name, level, message, Site("attn", "model.py", 4), Standing.CONFIRMED)

@pytest.fixture(autouse=True)
def asked(monkeypatch):
    import stablelint.api

    asked = []
    def check_model(model, inputs, *, config, name, probe, rebuild=None, origins=None, loss=None, batches=None):
        asked.append((inputs, config, probe, loss))
        if (reason := getattr(model, "reason", None)):
            return TargetReport(name, "failed", reason)
        findings = tuple(finding(getattr(Level, level)) for level in getattr(model, "levels", ()))
        return TargetReport(name, findings=findings, signals=getattr(model, "signals", None))

    monkeypatch.setattr(stablelint.api, "check_model", check_model)
    return asked
"""

HEADER = """
import pytest, torch
from torch import nn

X = torch.zeros(2, 3)

class Net(nn.Module):
    def __init__(self, levels=(), **attributes):
        super().__init__()
        self.levels = levels
        self.__dict__.update(attributes)

    def forward(self, x, mask=None):
        return x

"""


@pytest.fixture(scope="session")
def _loaded() -> None:
    """What an inner run imports, pytester forgets after it, and torch does not survive a second import."""
    for name in ("torch", "stablelint.api", "stablelint.config", "stablelint.report", "pytest_stablelint.assertion"):
        importlib.import_module(name)


@pytest.fixture
def run(_loaded: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Run a test file in which the check gives canned answers, with no plugins but ours and those named in args."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # loading them takes longer than the tests
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # pytest-benchmark would think that it is in a worker
    pytester.makeconftest(CANNED)

    def run(source: str, *args: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=HEADER + source)
        return pytester.runpytest_inprocess("-p", "pytest_stablelint.plugin", "-p", "no:cacheprovider", *args)

    return run
