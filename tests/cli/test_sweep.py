"""Runs over folders: what was not reached is no failure there, and in a file that was named it is."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from stablelint import api
from stablelint.config import Config

MODEL = """
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))

        def forward(self, x):
            return self.layers(x)
"""
BROKEN = MODEL + "\n        def broken(:\n"  # no part of it can be left out
PLAIN = "value = 1\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {
        "nets/model.py": MODEL,
        "nets/broken.py": BROKEN,
        "none/a.py": PLAIN,
        "none/b.py": PLAIN,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_in_a_folder_a_file_that_cannot_be_read_is_skipped_and_a_named_one_fails(folder: Path) -> None:
    swept = api.check(["nets"])
    assert {target.target.partition(":")[0]: target.status for target in swept.targets} == {
        "nets/broken.py": "skipped",
        "nets/model.py": "ok",
    }
    assert (swept.files, swept.searched, swept.failed) == (2, ("nets",), ())
    (named,) = api.check(["nets/broken.py"]).targets
    assert named.status == "failed"
    (skipped,) = swept.skipped
    assert skipped.reason == named.reason
    (passed_on,) = api.check(["nets/broken.py"], skip_without_model=True).targets
    assert passed_on.status == "skipped"


def test_a_checkpoint_that_cannot_be_loaded_fails_in_a_folder_too(folder: Path) -> None:
    (folder / "nets" / "broken.py").unlink()
    (target,) = api.check(["nets"], Config(checkpoint=Path("none/a.py"))).targets
    assert target.status == "failed"


def test_a_folder_without_models_says_so(folder: Path) -> None:
    report = api.check(["none", "none/a.py"], skip_without_model=True)
    assert (report.targets, report.files, report.searched) == ((), 2, ("none",))


def test_a_sweep_ends_with_a_table_in_the_width_of_the_environment(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stablelint.cli", "check", "."],
        cwd=folder,
        env={**os.environ, "COLUMNS": "64"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "    nets/model.py:Net  clean" in done.stdout
    assert "not reached:\n    nets/broken.py" in done.stdout
    assert "\n2 targets in 4 files: no findings, 1 not reached" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 64
