"""What the command prints of a given report: what was tried, a sentence for nothing, lines as wide as asked."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from stablelint import api, cli
from stablelint.finding import Finding, Level, Report, Standing, TargetReport
from stablelint.site import Site

ERROR = Finding("SL401", "name", Level.ERROR, "message", Site("attn", "m.py", 1, 1), Standing.PREDICTED)
MISSED = TargetReport("other.py:Head", status="skipped", reason="no values", tried=("Head(): TypeError",))

FAILED = TargetReport("broken.py:Net", status="failed", reason="it raises")


def run(*arguments: str):
    return CliRunner().invoke(cli.main, ["check", "model.py", *arguments])


@pytest.fixture
def show(monkeypatch, tmp_path):
    """Lets the command find a report without a run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    return lambda report: monkeypatch.setattr(api, "check", lambda *_, **__: report)


@pytest.mark.parametrize("options", [[], ["--explain-target"], ["--format", "json"]], ids=" ".join)
@pytest.mark.parametrize(
    ("targets", "code"),
    [
        ([MISSED], 0),
        ([MISSED, TargetReport("t", findings=(ERROR,))], 1),
        ([MISSED, FAILED], 2),
        ([FAILED, TargetReport("t", findings=(ERROR,))], 2),
    ],
)
def test_what_is_not_reached_never_fails_the_run_and_what_is_not_checked_does(show, targets, code, options):
    show(Report(tuple(targets)))
    result = run(*options)
    assert (result.exit_code, result.stderr) == (code, "")
    assert all(target.target in result.stdout for target in targets)


def test_what_was_tried_stands_in_the_place_of_the_report(show, tmp_path):
    show(Report((MISSED, TargetReport("t", findings=(ERROR,)))))
    shown = run("--explain-target").stdout
    assert "    1. Head(): TypeError\n    => not reached: no values\n" in shown
    assert "message" not in shown
    assert "Head(): TypeError" not in run().stdout
    run("--explain-target", "--output", "tried.txt")
    assert (tmp_path / "tried.txt").read_text() == shown
    document = json.loads(run("--explain-target", "--format", "json").stdout)
    assert [target["tried"] for target in document["targets"]] == [["Head(): TypeError"], []]


def test_a_folder_without_models_is_a_sentence(show):
    show(Report(files=12, searched=("folder",)))
    result = run()
    assert (result.exit_code, result.stdout) == (0, "no models were found in 12 files below folder\n")


@pytest.mark.parametrize(
    ("columns", "most"), [("50", 50), ("200", 200), ("7", 40), ("0", 80), ("wide", 80), ("", 80), (None, 80)]
)
def test_columns_are_respected_in_a_pipe(show, monkeypatch, columns, most):
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    show(Report((TargetReport("clean.py", remarks=("word " * 99,)),)))
    assert most - 5 < max(map(len, run().stdout.splitlines())) <= most
