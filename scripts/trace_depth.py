"""Time against depth: what tracing, prediction and the rules cost on ever deeper residual networks.

    python scripts/trace_depth.py [DEPTH ...]

Prints CPU seconds for 10, 100 and 1,000 blocks (one thread, the fastest of three runs) and the exponent of depth that
a least-squares line through the logarithms has: 1 where an op costs the same at every depth. Exits with 1 above 1.1.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from stablelint.api import find
from stablelint.config import Config
from stablelint.inputs import Inputs
from stablelint.predict import predict
from stablelint.trace import trace

_DEPTHS = (10, 100, 1000)
_LARGEST_EXPONENT = 1.1


class Block(nn.Module):
    """A pre-norm residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` and what the block adds to it."""
        return x + self.down(torch.relu(self.up(self.norm(x))))


def net(depth: int) -> nn.Module:
    """``depth`` blocks and a readout."""
    return nn.Sequential(*[Block(16) for _ in range(depth)], nn.Linear(16, 4))


def _cpu(call: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    started = time.process_time()
    result = call(*args)
    return time.process_time() - started, result


def measure(depth: int) -> tuple[int, list[float]]:
    """Ops of the graph, and the seconds of trace, prediction and rules."""
    model, inputs, config = net(depth), Inputs(torch.randn(4, 16)), Config()
    runs = []
    for _ in range(3):
        tracing, found = _cpu(trace, model, inputs)
        predicting, signals = _cpu(predict, found.graph)
        judging, _ = _cpu(find, found.graph, signals, config)
        runs.append([tracing, predicting, judging])
    return len(found.graph), [min(each) for each in zip(*runs, strict=True)]


def exponent(depths: list[int], seconds: list[float]) -> float:
    """The slope of log seconds over log depth."""
    x, y = [math.log(each) for each in depths], [math.log(max(each, 1e-6)) for each in seconds]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def main(depths: list[int]) -> int:
    """Print the table."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    measure(2)  # what every first use pays once
    print(f"{'blocks':>8} {'ops':>7} {'trace':>8} {'predict':>8} {'rules':>8} {'all':>8}")
    rows = []
    for depth in depths:
        ops, seconds = measure(depth)
        rows.append([*seconds, sum(seconds)])
        print(f"{depth:8} {ops:7} " + " ".join(f"{each:8.3f}" for each in rows[-1]), flush=True)
    if len(depths) < 2:
        return 0
    slopes = [exponent(depths, list(column)) for column in zip(*rows, strict=True)]
    print(f"{'exponent':16} " + " ".join(f"{each:8.2f}" for each in slopes))
    return int(slopes[-1] > _LARGEST_EXPONENT)


if __name__ == "__main__":
    sys.exit(main([int(each) for each in sys.argv[1:]] or list(_DEPTHS)))
