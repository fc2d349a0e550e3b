"""What ``--deep`` finds on models with known labels, and what it costs; the thresholds of SL909 to SL912 are from it.

``python scripts/measure_deep.py classic corpus zoo`` reads the collections of ``../shared`` (``--shared``), or those
models alone whose name contains one of ``--only``. One line per model: its label, the share of the loss that each rate
takes away, the largest value, the bfloat16 cosine, the train/eval gap, the unusual samples that are not finite, the
optimiser steps and the time of all of --deep over that of one plain forward and backward pass; then the findings of
--deep, and what is found without it.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from python_file import load
from torch import nn

from stablelint.api import find
from stablelint.config import Config
from stablelint.errors import TargetError
from stablelint.finding import Level
from stablelint.inputs import Inputs
from stablelint.probe import measure
from stablelint.probe.batches import differentiable
from stablelint.probe.deep import deepen
from stablelint.probe.state import preserved
from stablelint.signals import Deep
from stablelint.symptoms import SYMPTOMS
from stablelint.trace import tensors_in

DEEP = {rule.name for rule in SYMPTOMS if rule.deep}
SMALL_ZOO = ("hf/bert", "hf/gpt_neo", "hf/qwen3", "hf/switch", "hf/opt", "hf/dinov2", "hw/", "timm/tinynet_e")


def models(collection: str, shared: Path, only: Sequence[str]) -> Iterator[tuple[str, str, nn.Module, Inputs]]:
    """Name, label, model and inputs."""
    if collection == "classic":
        for name, build in load(shared / "corpus" / "classic" / "cases.py").CASES.items():
            torch.manual_seed(0)
            model = build()
            yield name, "bad" if model.bad else "good", model, Inputs.of(model.example_inputs())
    elif collection == "corpus":
        folder = shared / "corpus" / "trainability"
        for case in sorted(json.loads((folder / "labels.json").read_text())["cases"], key=lambda case: case["label"]):
            module = load(folder / "cases" / case["file"])
            torch.manual_seed(0)
            model = module.build()
            torch.manual_seed(1_000_003)
            yield case["file"], case["label"], model, Inputs.of(module.example_inputs())
    else:
        for name, (_, _, build) in load(shared / "zoo" / "models.py").REG.items():
            if not any(part in name for part in only):
                continue
            torch.manual_seed(0)
            model, args, kwargs = build()
            yield name, "good", model, Inputs(*args, **kwargs)


def one_pass(model: nn.Module, inputs: Inputs) -> float:
    """Seconds of one plain forward and backward pass, the faster of two."""
    seconds = []
    for _ in range(2):
        with preserved(model):
            started = time.perf_counter()
            batch = differentiable(inputs)
            outputs = [x for x in tensors_in(model(*batch.args, **batch.kwargs)) if x.requires_grad]
            sum(x.sum() for x in outputs).backward()  # type: ignore[union-attr]
            seconds.append(time.perf_counter() - started)
    return min(seconds)


def row(deep: Deep) -> str:
    """The measurements of one model in short."""
    fits = [] if deep.learning is None else [f"{deep.learning.progress(fit):4.2f}" for fit in deep.learning.fits]
    largest = max((each.largest for each in deep.precision), default=0.0)
    cosine = None if deep.half is None else deep.half.gradient_cosine
    gap = None if deep.modes is None else deep.modes.gap
    words = [
        " ".join(fits) or "no fit",
        f"max {largest:.1e}",
        "cos ?" if cosine is None else f"cos {cosine:.2f}",
        "gap ?" if gap is None else f"gap {gap:.2g}",
        *(f"{each.trigger}: {each.name} {each.direction}" for each in deep.triggers),
        *deep.failed,
    ]
    return " | ".join(words)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="+", choices=["classic", "corpus", "zoo"])
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
    parser.add_argument("--only", nargs="*", default=None)
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for collection in chosen.collections:
        only = chosen.only or (SMALL_ZOO if collection == "zoo" else ("",))
        for name, label, model, inputs in models(collection, chosen.shared, only):
            if not any(part in name for part in only):
                continue
            try:
                graph, signals = measure(model, inputs, seeds=1)
                plain = one_pass(model, inputs)
                started = time.perf_counter()
                deep = deepen(model, inputs, graph, signals)
                cost = (time.perf_counter() - started) / plain
            except (TargetError, RuntimeError) as error:
                print(f"{name:26} {label:9} {error}", flush=True)
                continue
            before = {finding.name for finding in find(graph, signals, Config())}
            findings = find(graph, replace(signals, deep=deep), Config())
            loud = [f"{each.name} {each.level}" for each in findings if each.name in DEEP and each.level > Level.NOTE]
            notes = [each.name for each in findings if each.name in DEEP and each.level is Level.NOTE]
            steps = 0 if deep.learning is None else sum(fit.steps for fit in deep.learning.fits)
            print(f"{name:26} {label:9} {row(deep)} | {steps} steps, {cost:.0f}x", flush=True)
            print(f"{'':36} {loud or '-'} notes {notes or '-'} beside {sorted(before) or '-'}", flush=True)


if __name__ == "__main__":
    main()
