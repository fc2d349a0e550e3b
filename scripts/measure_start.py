"""What a check costs beside the import of torch, and what a further file costs beside the first.

    python scripts/measure_start.py [--pairs 7] [--files 60]

CPU seconds of a command and all its processes, in pairs of runs one after the other, so that a busy machine slows both.
Printed are the medians and two ratios: ``stablelint check`` of one file with a small model over ``import torch`` (bar
2.0), and of many such files over one of them (bar 3.0). The exit code is 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

_FIRST_BAR, _MORE_BAR = 2.0, 3.0

_MODEL = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, {width}), nn.ReLU(), nn.Linear({width}, 4))

    def forward(self, x):
        return self.layers(x)


def example_inputs():
    return (torch.randn(4, 8),)
"""


def cpu_seconds(arguments: list[str]) -> float:
    """User and system time of a Python command and everything that it starts and waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def main() -> None:
    """Measure, print, and compare with the bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7, help="pairs of runs of the first ratio")
    parser.add_argument("--files", type=int, default=60, help="files of the second ratio")
    options = parser.parse_args()
    check = ["-m", "stablelint.cli", "check", "--no-config"]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"net_{index}.py") for index in range(options.files)]
        for index, file in enumerate(files):
            file.write_text(_MODEL.format(width=16 + index), encoding="utf-8")
        cpu_seconds([*check, str(files[0])])  # from here on all is in the system's memory
        torch, one = [], []
        for _ in range(options.pairs):
            torch.append(cpu_seconds(["-c", "import torch"]))
            one.append(cpu_seconds([*check, str(files[0])]))
        all_files, beside = [], []
        for _ in range(max(1, options.pairs // 2)):
            all_files.append(cpu_seconds([*check, *map(str, files)]))
            beside.append(cpu_seconds([*check, str(files[0])]))
    first = statistics.median(two / alone for two, alone in zip(one, torch, strict=True))
    more = statistics.median(many / single for many, single in zip(all_files, beside, strict=True))
    print(f"import torch {statistics.median(torch):.2f} s, one file {statistics.median(one):.2f} s: {first:.2f} times")
    print(f"{len(files)} files {statistics.median(all_files):.2f} s: {more:.2f} times one of them")
    sys.exit(first > _FIRST_BAR or more > _MORE_BAR)


if __name__ == "__main__":
    main()
