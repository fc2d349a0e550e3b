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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Refuse a marker with wrong arguments, or one that does nothing, while tests are collected."""
    definition = metafunc.definition
    own = [mark for mark in definition.own_markers if mark.name == "stability"]
    problem = _problem(definition)
    if own and "stablelint" not in metafunc.fixturenames and not problem:
        problem = "checks nothing here: the test does not use the fixture 'stablelint'"
    if problem:
        raise pytest.Collector.CollectError(f"{definition.nodeid}: the marker stability {problem}")


@pytest.fixture(name="stablelint")
def _stablelint(request: pytest.FixtureRequest) -> Stablelint:
    """Check models for defects that keep them from training: ``stablelint.assert_stable(model, *inputs)``."""
    from pytest_stablelint.assertion import Stablelint
    from pytest_stablelint.benchmark import recorder

    problem = _problem(request.node)  # a mark of one parameter set is not there yet when tests are generated
    if problem:
        pytest.fail(f"{request.node.nodeid}: the marker stability {problem}", pytrace=False)
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
