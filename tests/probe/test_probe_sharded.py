"""The probe of a model that is spread over processes: two of them, on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sharded_checks import check_equal, check_restored, check_said, in_two

from stablelint.probe.gauge import rms
from stablelint.probe.layout import Axes, Layout, joined, sample, together

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("check", [check_equal, check_said, check_restored])
def test_two_processes(check: Callable[[int], None], tmp_path: Path) -> None:
    """See the checks in ``sharded_checks.py``."""
    in_two(check, tmp_path)


TARGET = """
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(16, 16) for _ in range(15)])
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        for layer in self.layers:
            x = torch.sigmoid(layer(x))
        return self.head(x)


def build():
    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    return fully_shard(Deep(), mesh=init_device_mesh("cpu", (distributed.get_world_size(),)))


def example_inputs():
    return torch.randn(8, 16)
"""


def test_the_command_under_torchrun_reports_once_and_every_process_ends_alike(tmp_path: Path) -> None:
    for name in ("net.py", "other.py"):  # each has processes of its own, which must meet
        (tmp_path / name).write_text(TARGET, encoding="utf-8")
    ends = tmp_path / "ends"
    ends.mkdir()
    # each process writes down how it ended, and ends well, so that torchrun leaves the other alone
    (tmp_path / "run.py").write_text(
        "import os, pathlib, sys\n"
        "from stablelint.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        f"    pathlib.Path({str(ends)!r}, os.environ['RANK']).write_text(str(end.code))\n",
        encoding="utf-8",
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "run.py"]
    run = subprocess.run(
        [
            *torchrun,
            "check",
            "net.py:build",
            "other.py:build",
            "--probe",
            "--no-config",
            "--seeds",
            "2",
            "--timeout",
            "120",
        ],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert [path.read_text() for path in sorted(ends.iterdir())] == ["1", "1"]
    assert run.stdout.count("error SL101 deep-sigmoid-chain") == 2, run.stdout
    assert "confirmed by the probe" in run.stdout.replace("\n", " ").replace("    ", "")


def test_the_rms_of_pieces_is_that_of_the_whole() -> None:
    pieces = torch.randn(1000).split([1, 299, 700])
    assert together([(len(piece), rms(piece)) for piece in pieces]) == pytest.approx(rms(torch.cat(pieces)), rel=1e-6)
    assert together([(2, 1e-200), (2, 1e-200)]) == pytest.approx(1e-200)
    assert together([(0, 0.0), (4, 2.0)]) == 2.0
    assert together([(4, 1.0), (4, float("inf"))]) == float("inf")


def test_the_axis_of_a_shard_is_followed_through_views_and_products() -> None:
    axes = Axes()
    hidden = torch.randn(2, 6, 8)  # the last axis holds heads of 4 units
    axes.known[id(hidden)] = 2
    heads = hidden.unflatten(-1, (2, 4))
    turned = heads.transpose(1, 2)
    scores = turned @ turned.transpose(-2, -1)
    mixed = scores @ turned
    back = mixed.transpose(1, 2)
    flat = back.flatten(2)
    steps = [(hidden, heads), (heads, turned), (turned, scores), (scores, mixed), (mixed, back), (back, flat)]
    assert [axes.of(output, (source,)) for source, output in steps] == [2, 1, 1, 1, 2, 2]
    beside, summed = torch.randn(2, 6, 8), flat + hidden
    assert axes.of(beside, (torch.ones(1),)) is None
    assert axes.of(summed, (beside, hidden)) == 2


def test_samples_are_bounded_and_joined_where_they_belong() -> None:
    value = torch.randn(2, 64, 1000)
    assert sample(value, 1 << 20).equal(value)
    assert 1 << 9 < sample(value, 1 << 10).numel() <= 1 << 10
    parts = [list(row.chunk(2, 2)) for row in value.chunk(2, 0)]
    assert joined(parts, Layout(split=True, axis=2)).equal(value)
    assert joined(parts, Layout(split=False, axis=None)).equal(parts[0][0])
    odd = [[torch.randn(2, 3), torch.randn(3, 3)]]
    assert joined(odd, Layout(split=False, axis=1)).equal(odd[0][0])
