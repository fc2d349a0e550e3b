"""The installed command on files that behave and files that do not: what a CI job of a user sees."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

FILES = {
    "good.py": """
        import torch
        def build():
            return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
        def example_inputs():
            return torch.randn(8, 8)
        """,
    "prints.py": """
        import os, sys, torch
        print("on stdout"); os.write(1, b"below Python"); print("on stderr", file=sys.stderr)
        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = torch.nn.ModuleList([torch.nn.Linear(32, 32) for _ in range(20)])
            def forward(self, x):
                print("in forward")
                for layer in self.layers:
                    x = torch.sigmoid(layer(x))
                return x
        """,
    "raises.py": "import torch\nclass Net(torch.nn.Module):\n    raise ValueError('no data here')\n",
    "exits.py": "import sys, torch\nsys.exit(0)\n",
    "kills.py": "import os, torch\ndef build():\n    os._exit(3)\n",
    "loops.py": "import torch\ndef build():\n    while True:\n        pass\n",
    "forward.py": """
        import torch
        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = torch.nn.Linear(8, 8)
            def forward(self, x):
                return self.fc(x) @ torch.ones(3, 3)
        def example_inputs():
            return torch.randn(4, 8)
        """,
}


def stablelint(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stablelint.cli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(textwrap.dedent(text), encoding="utf-8")
    return tmp_path


def test_files_that_misbehave_cost_one_sentence_each_and_the_others_nothing(folder: Path) -> None:
    done = stablelint("check", *FILES, "--format", "json", "--timeout", "8", cwd=folder)
    report = json.loads(done.stdout, parse_constant=refuse)
    assert done.returncode == 2
    targets = {target["target"].partition(":")[0]: target for target in report["targets"]}
    assert set(targets) == set(FILES)
    assert {name for name, target in targets.items() if target["status"] == "ok"} == {"good.py", "prints.py"}
    assert [finding["name"] for finding in targets["prints.py"]["findings"]] == ["deep-sigmoid-chain"]
    reasons = {name: targets[name]["reason"] for name in FILES if targets[name]["status"] == "failed"}
    assert "raises.py:3" in reasons["raises.py"]
    assert "no data here" in reasons["raises.py"]
    assert "defines no model" in reasons["exits.py"]  # what a script does at its end is not done
    assert "exit code 3" in reasons["kills.py"]
    assert "8 s" in reasons["loops.py"]
    assert "forward.py:8" in reasons["forward.py"]
    assert all("Traceback" not in reason and "\n" not in reason for reason in reasons.values())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("probe", ["--probe", "--no-probe"])
def test_two_runs_print_the_same_bytes_but_for_timings(probe: str) -> None:
    runs = [
        stablelint("check", "examples/deep_sigmoid.py", "examples/healthy.py", probe, "--format", "json", cwd=ROOT)
        for _ in range(2)
    ]
    first, second = (re.sub(r'"seconds": [0-9.e+-]+', '"seconds": 0', run.stdout) for run in runs)
    assert first == second
    assert '"seconds": 0' in first


def test_exit_code_is_0_for_a_model_that_trains_and_1_for_one_that_does_not(folder: Path) -> None:
    assert stablelint("check", "good.py", cwd=folder).returncode == 0
    assert stablelint("check", "prints.py", cwd=folder).returncode == 1


def test_deep_measures_more_and_a_healthy_file_stays_clean(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(textwrap.dedent(FILES["good.py"]))
    checked = stablelint("check", "good.py", "--deep", "--format", "json", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    (target,) = json.loads(checked.stdout)["targets"]
    assert target["findings"] == []
    assert target["signals"]["source"] == "measured"
    assert target["signals"]["learning_rates"] >= 4
    shown = stablelint("probe", "good.py", "--deep", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "SGD 0.1" in shown.stdout
    assert "a sample of zeros" in shown.stdout


def test_a_probe_shows_measured_and_predicted_and_draws_both(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(textwrap.dedent(FILES["good.py"]))
    done = stablelint("probe", "good.py", "--format", "json", "--plot", "flow.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (target,) = json.loads(done.stdout, parse_constant=refuse)["targets"]
    assert (target["signals"]["source"], target["predicted"]["source"]) == ("measured", "predicted")
    assert target["surprises"] == []
    for block in target["blocks"]:
        assert block["gradient_low"] < block["gradient"] < block["gradient_high"]
        assert block["gradient_spread"] < 1
    page = (tmp_path / "flow.html").read_text(encoding="utf-8")
    assert page.count('class="column"') == len(target["blocks"]) == 2
