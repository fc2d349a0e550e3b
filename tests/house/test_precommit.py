"""The hook that other repositories use; CONTRIBUTING.md tells how to try it on one."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

MANIFEST = Path(__file__).parents[2] / ".pre-commit-hooks.yaml"


def test_the_hook_runs_a_command_that_exists() -> None:
    """Read line by line, since one flat mapping needs no YAML parser in the test environment."""
    hook = dict(re.findall(r"^[- ] (\w+): (.+)$", MANIFEST.read_text(encoding="utf-8"), re.MULTILINE))
    assert {"id", "name", "description", "entry", "language", "types"} <= set(hook)
    assert (hook["id"], hook["language"], hook["types"]) == ("stablelint", "python", "[python]")
    assert hook["require_serial"] == "true"  # one process for all files: torch is imported once
    command, subcommand, *options = hook["entry"].split()
    scripts = {script.name: script for script in importlib.metadata.entry_points(group="console_scripts")}
    parameters = scripts[command].load().commands[subcommand].params
    assert set(options) <= {option for parameter in parameters for option in parameter.opts}
