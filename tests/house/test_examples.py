"""The examples that the README points to: every planted defect is reported at its line, the healthy model is silent."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))

Place = tuple[str, int, str]


@pytest.fixture(scope="module", params=[(), ("--probe", "--seeds", "1")], ids=["check", "probe"])
def run(request: pytest.FixtureRequest) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of the command that the README shows."""
    command = [sys.executable, "-m", "stablelint.cli", "check", "examples", "--format", "json", *request.param]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def planted() -> set[Place]:
    """File, line and code of each ``# finding: CODE`` comment."""
    found = set()
    for name in EXAMPLES:
        lines = (ROOT / "examples" / name).read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, start=1):
            if match := re.search(r"# finding: (SL\d+)$", line):
                found.add((name, number, match[1]))
    return found


def test_planted_defects_and_nothing_else_are_reported(run: tuple[int, dict[str, Any]]) -> None:
    code, report = run
    assert code == 1
    assert all(target["status"] == "ok" for target in report["targets"])
    found = {
        (Path(finding["file"]).name, finding["line"], finding["code"])
        for target in report["targets"]
        for finding in target["findings"]
        if finding["level"] in ("error", "warning") and not finding["code"].startswith("SL9")
    }
    assert found == planted()


def test_nothing_is_said_about_the_healthy_model(run: tuple[int, dict[str, Any]]) -> None:
    healthy = [target for target in run[1]["targets"] if "healthy.py" in target["target"]]
    assert healthy
    assert [finding for target in healthy for finding in target["findings"] if finding["level"] != "note"] == []


def test_every_example_but_the_healthy_one_plants_a_defect() -> None:
    assert {name for name, _, _ in planted()} == set(EXAMPLES) - {"healthy.py"}
