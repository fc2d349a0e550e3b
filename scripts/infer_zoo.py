"""Infer inputs for many models given nothing but the model, and check that the forward pass takes them.

    python scripts/infer_zoo.py [--zoo path/to/models.py] [--only SUBSTRING]

Registry files are those of ``trace_zoo.py``; the inputs that they hold are not looked at. Each model runs in a process
of its own (POSIX only). Exits with 1 when a failure does not say what to write, or an inferred input is not accepted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from trace_zoo import Builder, isolated, registry, warm

from stablelint.errors import InputTargetError
from stablelint.targets.attempt import Attempts
from stablelint.targets.inputs import infer

_LIMIT = 120.0


def _fresh(build: Builder) -> Callable[[], nn.Module]:
    return lambda: build()[0]


def attempt(build: Builder) -> dict[str, Any]:
    """What is inferred for one model, and whether a real forward pass of a fresh instance accepts it."""
    model = build()[0]
    started = time.perf_counter()
    try:
        maker, remark = infer(model, Attempts(model, _fresh(build)), "the model")
    except InputTargetError as error:
        return {"failure": str(error), "seconds": time.perf_counter() - started}
    seconds = time.perf_counter() - started
    fresh = build()[0]
    inputs = maker(1, fresh)
    try:
        with torch.no_grad():
            fresh(*inputs.args, **inputs.kwargs)
    except Exception as error:
        return {"remark": remark, "refused": f"{type(error).__name__}: {error}", "seconds": seconds}
    return {"remark": remark, "seconds": seconds}


def main() -> int:
    """Print one line per model and the count."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--zoo", help="a registry file; default: a few models of the installed libraries")
    parser.add_argument("--only", default="", help="only models with this in their name")
    options = parser.parse_args()
    warm()
    good, silent, total = 0, 0, 0
    for name, build in registry(options.zoo).items():
        if options.only not in name:
            continue
        total += 1
        row = isolated(attempt, build, _LIMIT)
        if "error" in row or "refused" in row:
            silent += 1
            line = f"WRONG {row.get('error') or row['refused']} ({row.get('remark')})"
        elif "failure" in row:
            silent += "example_inputs" not in row["failure"]
            line = f"FAILED {row['failure']}"
        else:
            good += 1
            line = row["remark"]
        print(f"{name:44} {row.get('seconds', 0):6.1f}s  {line}", flush=True)
    print(f"\ninputs inferred for {good} of {total} models; {silent} failures do not say what to write")
    return int(silent > 0)


if __name__ == "__main__":
    sys.exit(main())
