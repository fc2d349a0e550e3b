"""Compare stablelint's recorder with torch.fx and torch.export on many models, in one run and one thread.

    python scripts/trace_zoo.py [--zoo path/to/models.py] [--only SUBSTRING] [--skip-export] [--json FILE]

A registry file holds ``REG[name] = (family, source, builder)`` with ``builder() -> (model, args, kwargs)``; without one
a few models of the installed libraries are taken. Printed per model, seconds being CPU seconds: the recorder on fake
tensors (its peak memory above that of the built model in MiB), torch.fx.symbolic_trace, torch.export.export, one
forward and backward pass on real tensors; the shares of ops with a line of model code and with a module, the guessed
ops, and whether names and shapes are those of a run on real tensors. "mode" is that of the forward
and backward pass: as built, or the other one where that fails. Each step runs in a process of its own under a time
limit (POSIX only). With ``--json`` results are kept, and a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from python_file import load
from torch import nn
from trace_table import HEAD, Row, show, summary

from stablelint.inputs import Inputs
from stablelint.trace import Trace, observe_build, state, trace
from stablelint.trace.frames import is_user_file
from stablelint.trace.tracer import tensors_in

Builder = Callable[[], tuple[nn.Module, tuple[Any, ...], dict[str, Any]]]

_LEAVES = ("input", "parameter", "constant")


def _torchvision(name: str) -> Builder:
    def build() -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
        import torchvision

        return torchvision.models.get_model(name, weights=None), (torch.randn(2, 3, 96, 96),), {}

    return build


def _timm(name: str) -> Builder:
    def build() -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
        import timm

        return timm.create_model(name, pretrained=False), (torch.randn(2, 3, 224, 224),), {}

    return build


def _hf(kind: str) -> Builder:
    def build() -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
        import transformers

        architecture = getattr(transformers, kind)
        ids = torch.randint(5, 100, (2, 16))
        return architecture(architecture.config_class(num_hidden_layers=2)), (), {"input_ids": ids}

    return build


BUILT_IN: dict[str, Builder] = {
    **{f"torchvision/{name}": _torchvision(name) for name in ("resnet50", "densenet121", "convnext_tiny", "swin_t")},
    **{f"timm/{name}": _timm(name) for name in ("deit_tiny_patch16_224", "convnextv2_atto", "gmlp_s16_224")},
    **{f"transformers/{name}": _hf(name) for name in ("BertForMaskedLM", "GPT2LMHeadModel")},
}  # fmt: skip


def registry(path: str | None) -> dict[str, Builder]:
    """The models of a registry file, or the built-in ones."""
    if path is None:
        return BUILT_IN
    return {name: entry[-1] for name, entry in load(path).REG.items()}


def isolated(step: Callable[[Builder], Row], build: Builder, limit: float) -> Row:
    """What ``step`` finds in a process of its own, or ``{"error": ...}``."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(step, build, sender))
    process.start()
    sender.close()
    try:
        row: Row = receiver.recv() if receiver.poll(limit) else {"error": f"longer than {limit:.0f} s"}
    except EOFError:
        row = {"error": "the process died"}
    process.kill()
    process.join()
    return row


def _child(step: Callable[[Builder], Row], build: Builder, sender: Connection) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # torch's pool of threads does not survive the fork; backward would make it twice at once
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)  # libraries log while they build
    try:
        sender.send(step(build))
    except Exception as error:
        sender.send({"error": _line(error)})
    os._exit(0)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _cpu(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = call()
    return time.process_time() - started, result


def _peak() -> int | None:
    """The largest resident size in KiB since ``_forget_peak``, where the system tells."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM")), None)


def _forget_peak() -> None:
    with suppress(OSError):  # Linux only: elsewhere the peak of the build hides smaller ones
        Path("/proc/self/clear_refs").write_text("5")


def record(build: Builder) -> Row:
    """Our recorder: cost, what it knows of each op, and whether a run on real tensors gives the same ops."""
    with observe_build() as origins:
        model, args, kwargs = build()
    inputs = Inputs(*args, **kwargs)
    _forget_peak()
    before = _peak()
    first, fake = _cpu(lambda: trace(model, inputs, origins=origins))
    after = _peak()
    again = min(first, _cpu(lambda: trace(model, inputs, origins=origins))[0])
    ops = [op for op in fake.graph.ops if op.name not in _LEAVES]
    row: Row = {
        "seconds": again,
        "first": first,
        "mib": None if before is None or after is None else (after - before) / 1024,
        "peak": None if after is None else after / 1024,
        "ops": len(ops),
        "lines": sum(op.site.line is not None and is_user_file(op.site.file or "<") for op in ops) / max(1, len(ops)),
        "modules": sum(bool(op.scope) for op in ops) / max(1, len(ops)),
        "guessed": sum(op.guessed for op in ops),
        "parameters": sum(each.numel() for each in model.parameters()),
        "remarks": list(fake.remarks),
    }
    with state.preserved_rng(0):  # as the run on fake tensors: some models drop whole layers at random
        real = trace(model, inputs, fake=False, origins=origins)
    row["different"] = _difference(fake, real)
    return row


def _difference(fake: Trace, real: Trace) -> str | None:
    """The first op at which two runs part, or None."""
    ours, theirs = ([op for op in each.graph.ops if op.name not in _LEAVES] for each in (fake, real))
    for one, other in zip(ours, theirs, strict=False):
        if (one.name, one.shape, one.dtype) != (other.name, other.shape, other.dtype):
            return f"{one} {one.dtype} on fakes, {other} {other.dtype} on real tensors"
    return None if len(ours) == len(theirs) else f"{len(ours)} ops on fakes, {len(theirs)} on real tensors"


def run_real(build: Builder) -> Row:
    """One forward and backward pass on real tensors, the faster of two: in the builder's mode, else in the other."""
    model, args, kwargs = build()
    given = model.training

    def once() -> None:
        outputs = [each for each in tensors_in(model(*args, **kwargs)) if each.requires_grad]
        if outputs:
            sum(each.abs().sum() for each in outputs).backward()  # type: ignore[union-attr]

    try:
        first = _cpu(once)[0]
    except Exception:
        first = _cpu(lambda: (model.train(not given), once()))[0]
    return {"seconds": min(first, _cpu(once)[0]), "mode": "train" if model.training else "eval"}


def run_fx(build: Builder) -> Row:
    """torch.fx.symbolic_trace."""
    model, _, _ = build()
    return {"seconds": _cpu(lambda: torch.fx.symbolic_trace(model))[0]}


def run_export(build: Builder) -> Row:
    """torch.export.export, which is strict=False by default."""
    model, args, kwargs = build()
    return {"seconds": _cpu(lambda: torch.export.export(model, args, kwargs))[0]}


def warm() -> None:
    """What every first use pays once, paid before the processes part."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for library in ("torchvision", "timm", "transformers"):
        if importlib.util.find_spec(library) is not None:
            importlib.import_module(library)
    small = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))
    trace(small, Inputs(torch.randn(2, 3, 8, 8)))
    torch.fx.symbolic_trace(small)
    torch.export.export(small, (torch.randn(2, 3, 8, 8),))


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--zoo", help="a registry file; default: a few models of the installed libraries")
    parser.add_argument("--only", default="", help="only models with this in their name")
    parser.add_argument("--skip-export", action="store_true", help="leave out torch.export, the slowest step")
    parser.add_argument("--json", type=Path, help="keep results here, and take what is there already")
    parser.add_argument("--limit", type=float, default=300, help="seconds for one step of one model")
    options = parser.parse_args()
    warm()
    builders = {name: build for name, build in registry(options.zoo).items() if options.only in name}
    kept = json.loads(options.json.read_text()) if options.json is not None and options.json.exists() else {}
    steps = {"ours": record, "real": run_real, "fx": run_fx} | ({} if options.skip_export else {"export": run_export})
    print(HEAD, flush=True)
    results = {}
    for name, build in builders.items():
        result = results[name] = kept.setdefault(name, {})
        for key, step in steps.items():
            if key not in result:
                result[key] = isolated(step, build, options.limit)
        if options.json is not None:
            options.json.write_text(json.dumps(kept, indent=1))
        show(name, result)
    summary(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
