"""The command line: what it hands to the api, what it prints where, and its exit codes."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

import stablelint
from stablelint import cli, rulebook
from stablelint.config import FAIL_ON
from stablelint.errors import ImportTargetError, UsageError
from stablelint.finding import Finding, Hit, Level, Report, Standing, TargetReport
from stablelint.rule import rule
from stablelint.signals import Signal, Signals
from stablelint.signals.comparison import Comparison
from stablelint.site import Site


@rule(code="SL401", summary="softmax over query-key products", predicts="saturated-attention")
def unscaled_attention(signals: Signals, *, min_head_dim: int = 16) -> Iterator[Hit]:
    yield from ()


@rule(code="SL905", summary="attention on one token")
def saturated_attention(signals: Signals) -> Iterator[Hit]:
    yield from ()


def finding(level: Level) -> Finding:
    return Finding("SL401", "unscaled-attention", level, "message", Site("attn", "m.py", 1, 1), Standing.PREDICTED)


CLEAN = TargetReport("clean.py")
BROKEN = TargetReport("broken.py", status="failed", reason="it raises")


class FakeApi(types.ModuleType):
    """Stands for stablelint.api: answers with a prepared report and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__("stablelint.api")
        self.report = Report((CLEAN,))
        self.error: BaseException | None = None
        self.specs: tuple[str, ...] = ()
        self.config = None
        self.progress = None
        self.remarks: tuple[str, ...] = ()

    def check(self, specs, config, *, on_progress=None, skip_without_model=False, what_if=()):
        self.specs, self.config, self.progress, self.what_if = tuple(specs), config, on_progress, what_if
        if on_progress:
            on_progress(1, 2, "model.py")
        if self.error:
            raise self.error
        return self.report

    def probe(self, spec, config):
        self.config = config
        if spec == "broken.py":
            raise ImportTargetError("it raises")
        return [
            (
                "model.py:Net",
                Comparison(Signals("measured", (Signal(0, "relu", Site("net.0"), block=0, grad_rms=1.0),))),
                self.remarks,
            )
        ]


@pytest.fixture
def api(monkeypatch, tmp_path) -> FakeApi:
    fake = FakeApi()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "stablelint.api", fake)
    monkeypatch.setattr(stablelint, "api", fake, raising=False)
    monkeypatch.setattr(rulebook, "rules", lambda: (unscaled_attention, saturated_attention))
    for name in ("NO_COLOR", "FORCE_COLOR", "STABLELINT_TRACEBACK", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return fake


def run(*arguments: str):
    return CliRunner().invoke(cli.main, arguments)


@pytest.mark.parametrize(
    ("targets", "options", "code"),
    [
        ([CLEAN], [], 0),
        ([TargetReport("t", findings=(finding(Level.NOTE),))], [], 0),
        ([TargetReport("t", findings=(finding(Level.WARNING),))], [], 0),
        ([TargetReport("t", findings=(finding(Level.WARNING),))], ["--fail-on", "warning"], 1),
        ([TargetReport("t", findings=(finding(Level.NOTE),))], ["--fail-on", "warning"], 0),
        ([TargetReport("t", findings=(finding(Level.ERROR),))], [], 1),
        ([BROKEN], [], 2),
        ([BROKEN, TargetReport("t", findings=(finding(Level.ERROR),))], [], 2),
    ],
)
@pytest.mark.parametrize("format_", ["text", "json"])
def test_exit_codes(api, targets, options, code, format_):
    api.report = Report(tuple(targets))
    result = run("check", "model.py", "--format", format_, *options)
    assert result.exit_code == code
    assert result.stderr == ""
    for target in targets:
        assert target.target in result.stdout, "a failed target hides no other"


def test_json_stands_alone_on_stdout(api):
    api.report = Report((BROKEN, TargetReport("t", findings=(finding(Level.ERROR),))))
    document = json.loads(run("check", "model.py", "--format", "json").stdout)
    assert document["summary"]["errors"] == 1


def test_options_reach_the_api(api):
    run(
        "check", "a.py", "b.py", "--probe", "--select", "SL4,SL905", "--select", "unscaled-attention",
        "--ignore", "SL905", "--timeout", "3", "--memory", "1.5", "--seeds", "7", "--fail-on", "warning",
        "--what-if", "depth=96", "--what-if", "width=1..8",
    )  # fmt: skip
    assert api.specs == ("a.py", "b.py")
    assert api.what_if == ("depth=96", "width=1..8")
    config = api.config
    assert (config.probe, config.timeout, config.memory, config.seeds) == (True, 3.0, 1.5, 7)
    assert config.fail_on is Level.WARNING
    assert config.select == ("SL4", "SL905", "unscaled-attention")
    assert (config.enabled(unscaled_attention), config.enabled(saturated_attention)) == (True, False)


def test_deep_reaches_the_api_and_switches_the_probe_on(api):
    run("check", "x", "--deep")
    assert (api.config.deep, api.config.probe) == (True, True)
    run("check", "x", "--probe")
    assert (api.config.deep, api.config.probe) == (False, True)


def test_configuration_is_read_and_overruled(api, tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.stablelint]\nprobe = true\nseeds = 9\ntargets = ["x.py", "y.py"]\n')
    run("check")
    assert (api.specs, api.config.probe, api.config.seeds) == (("x.py", "y.py"), True, 9)
    run("check", "z.py", "--no-probe", "--seeds", "2")
    assert (api.specs, api.config.probe, api.config.seeds) == (("z.py",), False, 2)
    run("check", "z.py", "--no-config")
    assert api.config.seeds == 3
    (tmp_path / "other.toml").write_text("[tool.stablelint]\nseeds = 4\n")
    run("check", "z.py", "--config", "other.toml")
    assert api.config.seeds == 4


def test_the_checkpoint_of_the_configuration_belongs_to_its_targets(api, tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.stablelint]\ncheckpoint = "a.pt"\ntargets = ["x.py"]\n')
    (tmp_path / "b.pt").touch()
    run("check")
    assert str(api.config.checkpoint) == "a.pt"
    for command in ("check", "probe"):
        run(command, "z.py")
        assert api.config.checkpoint is None
        run(command, "z.py", "--checkpoint", "b.pt")
        assert str(api.config.checkpoint) == "b.pt"


def test_what_is_said_of_a_measured_model_stands_beside_the_tables(api):
    api.remarks = ("weights.pt lacks head.bias",)
    result = run("probe", "model.py")
    assert result.stderr == "note: weights.pt lacks head.bias\n"
    assert "weights.pt" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["probe", "x", "y", "--checkpoint", "."], "of one model, and there are 2: x, y"),
        (["check", "x", "--checkpoint", "none.pt"], "none.pt"),
        (["check"], "stablelint: error: nothing to check: name a target"),
        (["check", "x", "--select", "unscaled-atention"], 'did you mean "unscaled-attention"?'),
        (["check", "x", "--timeout", "0"], "timeout must be above 0"),
        (["check", "x", "--config", "none.toml"], "none.toml"),
        (["check", "x", "--config", "pyproject.toml", "--no-config"], "exclude each other"),
        (["check", "x", "--output", "none/file.json"], "cannot write none/file.json"),
        (["check", "x", "--format", "xml"], "xml"),
        (["check", "x", "--seeds", "0"], "--seeds"),
        (["check", "x", "--deep", "--no-probe"], "deep measurements need the probe"),
        (["probe", "x", "--deep", "--curvature"], "two runs"),
        (["explain", "SL999"], 'no rule has the code or the name "SL999"'),
        (["probe"], "TARGET"),
        (["nonsense"], "nonsense"),
    ],
)
def test_mistakes_are_told_on_stderr_with_exit_code_2(api, tmp_path, arguments, sentence):
    (tmp_path / "pyproject.toml").write_text("[tool.stablelint]\n")
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_errors_of_the_run_are_one_sentence(api):
    api.error = UsageError("no such file: model.py")
    result = run("check", "model.py", "--format", "json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "stablelint: error: no such file: model.py\n"


def test_a_bug_is_one_sentence_and_a_traceback_on_demand(api, monkeypatch):
    api.error = KeyError("x")
    result = run("check", "model.py")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert "this is a bug in stablelint (KeyError: 'x')" in result.stderr
    assert "Traceback" in run("--traceback", "check", "model.py").stderr
    monkeypatch.setenv("STABLELINT_TRACEBACK", "1")
    assert "Traceback" in run("check", "model.py").stderr


def test_an_interrupt_is_neither_clean_nor_a_finding(api):
    api.error = KeyboardInterrupt()
    result = run("check", "model.py")
    assert (result.exit_code, result.stderr) == (130, "stablelint: error: interrupted\n")


def test_output_goes_to_the_file(api, tmp_path):
    api.report = Report((TargetReport("t", findings=(finding(Level.ERROR),)),))
    result = run("check", "x", "--format", "json", "--output", "report.json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert json.loads((tmp_path / "report.json").read_text())["summary"]["errors"] == 1


def test_notes_are_shown_with_verbose(api):
    api.report = Report((TargetReport("t", findings=(finding(Level.NOTE),)),))
    assert "message" not in run("check", "x").stdout
    assert "message" in run("check", "x", "-v").stdout


@pytest.mark.parametrize(
    ("environment", "options", "coloured"),
    [
        ({}, [], False),
        ({"FORCE_COLOR": "1"}, [], True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, [], False),
        ({"FORCE_COLOR": "1"}, ["--no-color"], False),
        ({"NO_COLOR": "1"}, ["--color"], True),
    ],
)
def test_colour(api, monkeypatch, environment, options, coloured):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b[" in run("check", "x", *options).stdout) is coloured


def test_no_progress_without_a_terminal(api):
    run("check", "x")
    assert api.progress is None


def test_the_bar_is_drawn_and_removed_on_a_terminal(api, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with cli._progress() as show:
        assert show is not None
        show(1, 2, "a_long_name" * 50)
    drawn = capsys.readouterr().err
    assert "[##########----------] 1/2 a_long_name" in drawn
    assert drawn.endswith("\r\x1b[2K")
    assert max(map(len, click.unstyle(drawn).split("\r"))) <= 200


def test_probe_shows_tables_and_goes_on_after_a_failure(api):
    result = run("probe", "broken.py", "model.py")
    assert result.exit_code == 2
    assert result.stderr == "stablelint: error: broken.py: it raises\n"
    assert "net.0" in result.stdout
    assert api.config.probe is True


def test_bars_are_drawn_as_finely_as_the_output_can_hold(api):
    for charset, bar in (("utf-8", "█"), ("ascii", "#"), ("cp1252", "#")):
        shown = CliRunner(charset=charset).invoke(cli.main, ["probe", "model.py"]).stdout
        assert bar * 8 in shown, charset


def test_rules_as_text_and_json(api):
    text = run("rules").stdout
    assert "SL401 unscaled-attention (warning) predicts saturated-attention" in text
    assert max(map(len, text.splitlines())) <= 80
    assert [entry["code"] for entry in json.loads(run("rules", "--format", "json").stdout)] == ["SL401", "SL905"]


def test_explain_prints_the_page_as_it_is(api, monkeypatch):
    page = "# unscaled-attention (SL401)\n\nText.\n\n```python\nx = 1  # finding\n```\n"
    monkeypatch.setattr(rulebook, "page", lambda found: page)
    assert run("explain", "sl401").stdout == page
    coloured = run("explain", "unscaled-attention", "--color").stdout
    assert coloured != page
    assert click.unstyle(coloured) == page


def test_choices_are_those_of_the_configuration():
    (option,) = (parameter for parameter in cli.check.params if parameter.name == "fail_on")
    assert list(option.type.choices) == list(FAIL_ON)


def test_version():
    assert run("--version").stdout == f"stablelint {stablelint.__version__}\n"


@pytest.mark.parametrize("command", [[], ["check"], ["probe"], ["explain"], ["rules"]])
def test_help_fits_80_columns_and_every_option_is_explained(command):
    text = run(*command, "--help").stdout
    assert max(map(len, text.splitlines())) <= 80
    context = click.Context(cli.main)
    found = cli.main.get_command(context, command[0]) if command else cli.main
    assert found is not None
    for parameter in found.params:
        if isinstance(parameter, click.Option):
            assert parameter.hidden or parameter.help
