"""`stablelint probe --plot`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from stablelint import cli
from stablelint.errors import ImportTargetError
from stablelint.signals import Signal, Signals
from stablelint.signals.comparison import Comparison
from stablelint.site import Site

FOUND = Comparison(Signals("measured", (Signal(0, "relu", Site("net.0"), block=0, grad_rms=1.0),)))


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The targets that were measured."""
    specs: list[str] = []

    def probe(spec: str, config: object) -> list[tuple[str, Comparison, tuple[str, ...]]]:
        specs.append(spec)
        if spec == "broken.py":
            raise ImportTargetError("it raises")
        return [(f"{spec}:Net", FOUND, ())]

    monkeypatch.setattr("stablelint.api.probe", probe)
    monkeypatch.chdir(tmp_path)
    return specs


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.main, ("probe", *arguments, "--no-config"))


def test_all_models_of_a_run_are_in_one_file(tmp_path: Path) -> None:
    result = run("a.py", "broken.py", "b.py", "--plot", "out.html", "--format", "json")
    assert result.exit_code == 2
    assert len(json.loads(result.stdout)["targets"]) == 2
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert page.count("<section>") == 2
    assert "a.py:Net" in page
    assert "b.py:Net" in page


@pytest.mark.parametrize(("kind", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("PNG", b"\x89PNG")])
def test_pictures(tmp_path: Path, kind: str, begins: bytes) -> None:
    pytest.importorskip("matplotlib")
    assert run("a.py", "--plot", f"out.{kind}").exit_code == 0
    assert (tmp_path / f"out.{kind}").read_bytes().startswith(begins)


def test_without_a_model_there_is_no_file(tmp_path: Path) -> None:
    assert run("broken.py", "--plot", "out.html").exit_code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--plot", "out.pdf"], "--plot out.pdf: the name must end in .png, .svg or .html"),
        (["--plot", "no/out.svg"], "--plot no/out.svg: there is no folder no"),
        (["--plot", "out.svg", "--curvature"], "--plot draws the signals, which --curvature does not measure"),
    ],
)
def test_mistakes_are_said_before_anything_is_measured(
    measured: list[str], arguments: list[str], sentence: str
) -> None:
    result = run("a.py", *arguments)
    assert (result.exit_code, measured) == (2, [])
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_matplotlib_is_one_sentence_and_html_needs_none(
    measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [*sys.modules]:
        if name.partition(".")[0] == "matplotlib" or name == "stablelint.report.plot.figure":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("a.py", "--plot", "out.png")
    assert (result.exit_code, measured) == (2, [])
    assert 'needs matplotlib: pip install "stablelint[plot]"' in result.stderr
    assert run("a.py", "--plot", "out.html").exit_code == 0
