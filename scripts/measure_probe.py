"""What the probe costs: an instrumented step beside a plain forward and backward pass, over a registry of models.

    python scripts/measure_probe.py models.py [--only PATTERN] [--every N]

Each model runs in a process of its own with one thread. CPU seconds are the least of several steps that alternate
(plain, instrumented, plain, ...), memory is the peak of all tensors above what was held before the step (torch's own
profile of its allocator). ``first`` is the pass that records the graph and looks at all ops, ``probe`` the whole
measurement with its seeds and tangent kernels, both in plain steps.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import itertools
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from python_file import load
from torch import nn

from stablelint.inputs import Inputs
from stablelint.probe import measure
from stablelint.probe.batches import batch_size, differentiable
from stablelint.probe.gauge import Gauge
from stablelint.probe.known import Known
from stablelint.probe.objective import objective
from stablelint.probe.state import preserved
from stablelint.trace import Trace, trace

#: CPU seconds of alternating steps, and how many there are at least and at most.
BUDGET, LEAST, MOST = 2.0, 3, 9
BARS = {"time": 1.15, "memory": 1.1}
#: Seconds from which a step counts as slow, and MiB from which its peak counts.
SLOW, LARGE = 0.2, 1


def peak(step: Callable[[], None]) -> int:
    """Bytes of tensors that ``step`` holds at most above what was held before it."""
    cpu = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[cpu], profile_memory=True) as profile:
        step()
    assert profile.profiler is not None
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(changes), default=0)


def steps(model: nn.Module, inputs: Inputs) -> tuple[Callable[[], None], Callable[[], None] | None, Callable[[], None]]:
    """A plain step, an instrumented one, and the first one; None where the model's run cannot be found again."""
    gauge = Gauge(batch=batch_size(inputs))
    recorded = trace(model, differentiable(inputs), fake=False, listener=gauge)
    known = Known.of(recorded, gauge)
    graph = recorded.graph
    gauge.outputs.clear()
    gauge.fused.clear()
    del recorded

    def finish(output: object) -> None:
        objective(graph, output, 0).backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=True)

    def plain() -> None:
        batch = differentiable(inputs)
        finish(model(*batch.args, **batch.kwargs))

    def instrumented() -> None:
        assert known is not None
        again = Gauge(batch=batch_size(inputs))
        run: Trace = known.again(model, differentiable(inputs), again)
        again.outputs.clear()
        finish(run.output)

    def first() -> None:
        again = Gauge(batch=batch_size(inputs))
        run = trace(model, differentiable(inputs), fake=False, listener=again)
        again.outputs.clear()
        finish(run.output)

    return plain, None if known is None else instrumented, first


def timed(step: Callable[[], None]) -> float:
    """CPU seconds of one step."""
    start = time.process_time()
    step()
    return time.process_time() - start


def one(path: Path, name: str) -> list[float]:
    """Seconds of a plain step; in such steps, the instrumented one, the first one, the probe; MiB, and their ratio."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, args, kwargs = load(path).REG[name][2]()
    model.train()
    inputs = Inputs(*args, **kwargs)
    with preserved(model):
        plain, instrumented, first = steps(model, inputs)
        if instrumented is None:
            raise SystemExit("its run cannot be found again")
        plain()
        instrumented()
        gc.collect()
        gc.disable()
        times: list[tuple[float, float]] = []
        while len(times) < LEAST or (sum(map(sum, times)) < BUDGET and len(times) < MOST):
            times.append((timed(plain), timed(instrumented)))
        least = [min(column) for column in zip(*times, strict=True)]
        start = timed(first)
        gc.enable()
    whole = timed(lambda: measure(model, inputs))
    with preserved(model):
        held = [peak(step) / 2**20 for step in (plain, instrumented)]
    return [least[0], *(each / least[0] for each in (least[1], start, whole)), held[0], held[1] / max(held[0], 1e-9)]


def child(path: Path, name: str) -> list[float]:
    """The numbers of :func:`one` from a process of its own. Raises RuntimeError with its last line where it fails."""
    command = [sys.executable, __file__, str(path), "--one", name]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError((ran.stderr.strip() or "it failed").splitlines()[-1])
    numbers: list[float] = json.loads(ran.stdout.strip().splitlines()[-1])
    return numbers


def main() -> int:
    """Print a line per model, the medians, and whether the bars hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("registry", type=Path)
    parser.add_argument("--only", default="*", help="only models whose name matches this pattern")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th of them")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.registry, options.one)))
        return 0
    print(f"{'model':<42}{'plain s':>9}{'time':>7}{'first':>7}{'probe':>7}{'MiB':>9}{'memory':>8}")
    rows: list[list[float]] = []
    names = [name for name in load(options.registry).REG if fnmatch.fnmatch(name, options.only)]
    for name in names[:: options.every]:
        try:
            row = child(options.registry, name)
        except RuntimeError as error:
            print(f"{name:<42}{error}", flush=True)
            continue
        rows.append(row)
        cells = f"{row[0]:>9.4f}{row[1]:>7.2f}{row[2]:>7.1f}{row[3]:>7.1f}{row[4]:>9.1f}{row[5]:>8.2f}"
        print(f"{name:<42}{cells}", flush=True)
    return summary(rows) if rows else 1


def summary(rows: list[list[float]]) -> int:
    """Print medians and bars; the exit code."""
    middle = [median(column) for column in zip(*rows, strict=True)]
    print(f"\nmedian of {len(rows)}: time {middle[1]:.3f}, first {middle[2]:.1f}, probe {middle[3]:.1f} plain steps")
    slow = [row[1] for row in rows if row[0] >= SLOW]
    if slow:
        print(f"of the {len(slow)} above {SLOW} s: time {median(slow):.3f}, at most {max(slow):.3f}")
    large = [row[5] for row in rows if row[4] >= LARGE]
    held = {"time": middle[1], "memory": median(large) if large else math.nan}
    most = max(large, default=math.nan)
    print(f"of the {len(large)} above {LARGE} MiB: memory {held['memory']:.3f}, at most {most:.3f}")
    for name, bar in BARS.items():
        print(f"{'PASS' if held[name] <= bar else 'FAIL'}  {name} {held[name]:.3f} (at most {bar})")
    return int(any(held[name] > bar for name, bar in BARS.items()))


if __name__ == "__main__":
    sys.exit(main())
