from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]


def test_the_marker_sets_what_calls_leave_open_and_the_closest_one_wins(run: Run) -> None:
    result = run(
        """
pytestmark = pytest.mark.stability(fail_on="warning", seeds=2)

@pytest.mark.stability(seeds=7)
class TestNet:
    @pytest.mark.stability(probe=False)
    def test_nearest(self, stablelint, asked):
        stablelint.assert_stable(Net(), X)
        stablelint.assert_stable(Net(), X, seeds=9)
        assert [(config.seeds, probe) for _, config, probe, _ in asked] == [(7, False), (9, False)]

    def test_module(self, stablelint):
        stablelint.assert_stable(Net(("WARNING",)), X)

    def test_call(self, stablelint):
        stablelint.assert_stable(Net(("WARNING",)), X, fail_on="error")

@pytest.mark.parametrize("levels", [(), pytest.param(("WARNING",), marks=pytest.mark.stability(fail_on="error"))])
def test_parameter_set(stablelint, levels):
    stablelint.assert_stable(Net(levels), X)

def test_without_the_fixture():
    pass
""",
        "--strict-markers",
    )
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["FAILED *test_module - *"])


def test_bounds_of_the_marker_fail_the_test(run: Run) -> None:
    result = run(
        """
@pytest.mark.stability(dead=0.1, gradient_ratio=(0.1, 10))
def test_net(stablelint):
    net = Net(signals={"dead": 0.5, "gradient_ratio": 1.0})
    stablelint.check(net, X, probe=False)
    stablelint.assert_stable(net, X)
"""
    )
    result.stdout.fnmatch_lines(["Net is not stable: 50% of the units of a layer are dead, more than 10%"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("fail_onn='error'", 'is wrong: it has no setting "fail_onn"; did you mean "fail_on"[?]'),
        ("fail_on='bad'", 'is wrong: fail_on is "error" or "warning", not \'bad\''),
        ("select='SL4X'", 'is wrong: no rule has the code or the name "SL4X"*'),
        ("'error'", "takes its settings by name, not 'error'"),
        ("probe=False, dead=0.5", "is wrong: gradient_ratio and dead are bounds for what the probe measures, *"),
    ],
)
def test_wrong_arguments_fail_that_test_and_no_other(run: Run, arguments: str, sentence: str) -> None:
    result = run(
        f"@pytest.mark.stability({arguments})\n"
        "def test_net(stablelint):\n    pass\n\n"
        "def test_sound(stablelint):\n    stablelint.assert_stable(Net(), X)\n\n"
        "def test_other():\n    pass\n"
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines([f"*::test_net: the marker stability {sentence}"])
    assert "Traceback" not in result.stdout.str()


def test_a_wrong_marker_of_a_module_fails_the_tests_that_use_the_fixture(run: Run) -> None:
    result = run(
        """
pytestmark = pytest.mark.stability(seed=2)

def test_net(stablelint):
    pass

def test_other():
    pass
"""
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(['*::test_net: the marker stability is wrong: *did you mean "seeds"[?]'])


def test_a_marker_on_a_test_that_does_not_use_the_fixture_is_refused(run: Run) -> None:
    result = run("@pytest.mark.stability\ndef test_net():\n    pass\n\ndef test_other():\n    pass")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*test_net: the marker stability checks nothing here: *"])


def test_wrong_arguments_of_one_parameter_set_fail_that_test(run: Run) -> None:
    result = run(
        """
@pytest.mark.parametrize("x", [1, pytest.param(2, marks=pytest.mark.stability(seed=2))])
def test_net(stablelint, x):
    pass
"""
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(['*test_net[[]2]: the marker stability is wrong: *did you mean "seeds"[?]'])
    assert "plugin.py" not in result.stdout.str()


def test_the_marker_is_listed(pytester: pytest.Pytester) -> None:
    pytester.runpytest_inprocess("--markers").stdout.fnmatch_lines(["@pytest.mark.stability(probe, fail_on, *"])
