"""Help, pages and the list of rules load nothing heavy and answer at once."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "numpy", "psutil", "torchvision", "timm", "transformers", "pytest", "matplotlib")
COMMANDS = (
    ["--help"],
    ["--version"],
    ["check", "--help"],
    ["probe", "--help"],
    ["rules"],
    ["rules", "--format", "json"],
    ["explain", "{rule}"],
)


def _rule() -> str:
    from stablelint import rulebook

    if not rulebook.rules():
        pytest.skip("no rules")
    return rulebook.rules()[0].name


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_nothing_heavy_is_imported(command):
    arguments = [part.format(rule=_rule()) if "{" in part else part for part in command]
    program = (
        "import sys\n"
        "from stablelint.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as ended: assert not ended.code, ended.code\n"
        f"loaded = sorted({{name.partition('.')[0] for name in sys.modules}} & set({HEAVY!r}))\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _seconds(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    return time.perf_counter() - began


@pytest.mark.parametrize("command", [["--help"], ["rules"], ["explain", "{rule}"]], ids=" ".join)
def test_answers_within_four_times_the_import_of_click(command):
    """Pairs of runs, one after the other, so that a busy machine slows both."""
    arguments = [part.format(rule=_rule()) if "{" in part else part for part in command]
    ratios = [_seconds(["-m", "stablelint.cli", *arguments]) / _seconds(["-c", "import click"]) for _ in range(7)]
    assert statistics.median(ratios) <= 4, ratios
