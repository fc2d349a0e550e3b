from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]


def test_a_stable_model_passes_silently_and_gives_its_report(run: Run) -> None:
    result = run(
        """
def test_net(stablelint):
    report = stablelint.assert_stable(Net(("NOTE", "WARNING")), X)
    assert report.target == "Net" and len(report.findings) == 2
"""
    )
    result.assert_outcomes(passed=1)
    assert result.outlines[-3].endswith("[100%]")  # and nothing before the last line: no summary of ours


def test_a_failure_shows_the_findings_and_the_users_line_and_no_frame_of_ours(run: Run) -> None:
    result = run(
        """
def helper(stablelint):
    return stablelint.assert_stable(Net(("ERROR", "NOTE")), X)

def test_net(stablelint):
    helper(stablelint)
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "Net is not stable: 1 error",
            "*error SL401 unscaled-attention*",
            "*scores are sums of 64 products*",
            "test_it.py:*: assert_stable failed",
            "FAILED *::test_net - Failed: Net is not stable: 1 error",
        ]
    )
    shown = result.stdout.str()
    assert "assertion.py" not in shown
    assert "\x1b[" not in shown


def test_findings_are_wrapped_for_80_columns(run: Run) -> None:
    result = run("def test_net(stablelint): stablelint.assert_stable(Net(('ERROR',)), X)")
    start = result.outlines.index("Net is not stable: 1 error")
    stop = next(i for i, line in enumerate(result.outlines) if line.endswith("assert_stable failed"))
    assert all(len(line) <= 80 for line in result.outlines[start:stop])


def test_check_returns_what_assert_stable_would_refuse(run: Run) -> None:
    result = run("def test_net(stablelint): assert len(stablelint.check(Net(('ERROR',)), X).findings) == 1")
    result.assert_outcomes(passed=1)


def test_inputs_reach_the_model_by_place_by_name_and_as_inputs(run: Run) -> None:
    result = run(
        """
def test_net(stablelint, asked):
    stablelint.check(Net(), X, mask=X)
    stablelint.check(Net(), stablelint.Inputs(X, mask=X))
    for inputs, *_ in asked:
        assert inputs.args[0] is X and inputs.kwargs["mask"] is X
"""
    )
    result.assert_outcomes(passed=1)


def test_settings_reach_the_check(run: Run) -> None:
    result = run(
        """
def test_net(stablelint, asked):
    stablelint.assert_stable(Net(), X)
    stablelint.assert_stable(Net(), X, probe=False, select="SL401", ignore=["SL9"], seeds=5, loss=len)
    (_, config, probe, loss), (_, config2, probe2, loss2) = asked
    assert probe and loss is None and config.select == ()
    assert not probe2 and loss2 is len
    assert (config2.select, config2.ignore, config2.seeds) == (("SL401",), ("SL9",), 5)
"""
    )
    result.assert_outcomes(passed=1)


def test_the_projects_configuration_holds_where_a_test_sets_nothing(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyprojecttoml("[tool.stablelint]\nfail-on = 'warning'\nignore = ['SL2']\nprobe = false\n")
    result = run(
        """
def test_config(stablelint, asked):
    stablelint.assert_stable(Net(), X)
    assert asked[0][1].ignore == ("SL2",)

def test_warning(stablelint):
    stablelint.assert_stable(Net(("WARNING",)), X)

def test_call_wins(stablelint):
    stablelint.assert_stable(Net(("WARNING",)), X, fail_on="error")
"""
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["Net is not stable: 1 warning"])


def test_never_failing_is_for_the_command_and_not_for_an_assertion(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyprojecttoml("[tool.stablelint]\nfail-on = 'never'\n")
    run("def test_net(stablelint): stablelint.assert_stable(Net(('ERROR',)), X)").assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("settings", "signals", "problem"),
    [
        ("gradient_ratio=(1e-3, 1e3)", {"gradient_ratio": 0.5}, None),
        (
            "gradient_ratio=(1e-3, 1e3)",
            {"gradient_ratio": 2e-7},
            "gradient first/last block 2.0e-07 is outside 0.001 to 1000",
        ),
        ("gradient_ratio=(1e-3, 1e3)", {"gradient_ratio": None}, "gradient first/last block has no finite value"),
        ("dead=0.5", {"dead": 0.25}, None),
        ("dead=0.5", {"dead": None}, None),
        ("dead=0.5", {"dead": 0.75}, "75% of the units of a layer are dead, more than 50%"),
    ],
)
def test_bounds_on_the_signals(run: Run, settings: str, signals: object, problem: str | None) -> None:
    result = run(f"def test_net(stablelint): stablelint.assert_stable(Net(signals={signals}), X, {settings})")
    if problem is None:
        result.assert_outcomes(passed=1)
    else:
        result.stdout.fnmatch_lines([f"Net is not stable: {problem}"])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("Net, X", "Net is a class; pass a model, such as Net()"),
        ("len, X", "the first argument must be a torch.nn.Module, not builtin_function_or_method"),
        ("Net()", "Net needs example inputs: pass what its forward takes after the model"),
        ("Net(), X, stablelint.Inputs(X)", "stablelint.Inputs holds all inputs: pass it alone after the model"),
        ("Net(), X, fail_onn=3", '"fail_onn" is neither a setting nor an argument of Net.forward; *"fail_on"[?]'),
        ("Net(), X, fail_on='bad'", 'fail_on is "error" or "warning", not \'bad\''),
        ("Net(), X, select='unscaled-atention'", '*"unscaled-atention"*did you mean "unscaled-attention"[?]'),
        ("Net(), X, select=3", "select is a code or name of a rule or a list of them, not 3"),
        ("Net(), X, seeds=0", "seeds is a whole number from 1, not 0"),
        ("Net(), X, probe=1", "probe is True or False, not 1"),
        ("Net(), X, dead=2", "dead is a share from 0 to 1, not 2"),
        ("Net(), X, gradient_ratio=3", "gradient_ratio is a pair (low, high) with 0 <= low < high, not 3"),
        ("Net(), X, probe=False, dead=0.5", "gradient_ratio and dead are bounds for what the probe measures, *"),
        ("Net(reason='the forward pass of Net fails'), X", "the forward pass of Net fails"),
    ],
)
def test_wrong_use_is_one_sentence_at_the_users_line(run: Run, call: str, sentence: str) -> None:
    result = run(f"def test_net(stablelint):\n    stablelint.assert_stable({call})")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f">*stablelint.assert_stable({call.replace('[', '[[]')})", f"E*Failed: {sentence}"])
    assert "assertion.py" not in result.stdout.str()


def test_a_broken_configuration_is_one_sentence(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyprojecttoml("[tool.stablelint]\nfail-onn = 'error'\n")
    result = run("def test_net(stablelint): stablelint.assert_stable(Net(), X)")
    result.stdout.fnmatch_lines(['E*Failed: *pyproject.toml: *fail-onn: unknown key; did you mean "fail-on"[?]'])


def test_loaders_and_batches_reach_the_check(run: Run) -> None:
    result = run(
        """
from torch.utils.data import DataLoader, TensorDataset

def test_net(stablelint, asked):
    loader = DataLoader(TensorDataset(X), batch_size=1)
    stablelint.check(Net(), loader)
    stablelint.check(Net(), [X, X], batches=2)
    stablelint.check(Net(), [X, X])
    assert asked[0][0] is loader
    assert isinstance(asked[1][0], list)
    assert asked[2][0].args == ([X, X],)
"""
    )
    result.assert_outcomes(passed=1)


def test_batches_of_what_is_no_loader_are_refused(run: Run) -> None:
    result = run("def test_net(stablelint): stablelint.check(Net(), X, mask=X, batches=2)")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*batches counts the batches of a loader: pass it alone after the model*"])
