"""What pytest loads at every start, so nothing heavy is imported here: the marker and the fixture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_stablelint.assertion import Stablelint
    from pytest_stablelint.settings import Settings

MARKER = (
    "stability(probe, fail_on, select, ignore, seeds, gradient_ratio, dead): "
    "settings for what the fixture 'stablelint' checks in this test, class or module."
)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, so that ``--strict-markers`` knows it."""
    config.addinivalue_line("markers", MARKER)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test whose marker has wrong arguments, or does nothing: that test and no other."""
    if item.get_closest_marker("stability") is None:
        return
    uses = "stablelint" in getattr(item, "fixturenames", ())
    own = any(mark.name == "stability" for mark in item.own_markers)
    if not uses and not own:  # the marker of a class or module is for those of its tests that use the fixture
        return
    problem = _problem(item)
    if not uses and not problem:
        problem = "checks nothing here: the test does not use the fixture 'stablelint'"
    if problem:
        pytest.fail(f"{item.nodeid}: the marker stability {problem}", pytrace=False)


@pytest.fixture(name="stablelint")
def _stablelint(request: pytest.FixtureRequest) -> Stablelint:
    """Check models for defects that keep them from training: ``stablelint.assert_stable(model, *inputs)``."""
    from pytest_stablelint.assertion import Stablelint
    from pytest_stablelint.benchmark import recorder

    return Stablelint(request.config.rootpath, _settings(request.node), recorder(request))


def _settings(node: pytest.Item) -> Settings:
    """What the markers set, the closest one first."""
    from pytest_stablelint.settings import Settings

    settings = Settings()
    for mark in node.iter_markers("stability"):
        settings = settings.over(Settings.checked(mark.kwargs))
    return settings


def _problem(node: pytest.Item) -> str | None:
    """What is wrong with the markers of a test, as the end of a sentence."""
    if node.get_closest_marker("stability") is None:
        return None
    from stablelint.errors import UsageError

    for mark in node.iter_markers("stability"):
        if mark.args:
            return f"takes its settings by name, not {mark.args[0]!r}"
    try:
        _settings(node).require_probe()
    except UsageError as error:
        return f"is wrong: {error}"
    return None
