"""Compare predicted gradients with measured ones: ``python scripts/measure_prediction.py [NAME ...]``.

Without names all generated variants are measured; ``torchvision:NAME`` and ``timm:NAME`` add library models. H is
log10 of the gradient rms that leaves the first block over that of the last, measured with a fixed random projection
of the deepest output on the traced ops; classes are H < -3, between, and > 3.
"""

from __future__ import annotations

import argparse
import fnmatch
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from prediction_models import Case, cases
from torch import Tensor, nn

from stablelint.graph import Graph
from stablelint.inputs import Inputs
from stablelint.predict import interpret
from stablelint.predict.readout import signals
from stablelint.trace import trace


def measure(model: nn.Module, x: Any) -> tuple[Graph, dict[int, float], dict[int, float]]:
    """Rms and gradient rms by op index."""
    edges: dict[int, Any] = {}
    rms: dict[int, float] = {}
    shapes: dict[int, torch.Size] = {}

    def listen(index: int, _name: str, _module: str, _inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point() and output.requires_grad:
            edges[index] = torch.autograd.graph.get_gradient_edge(output)
            rms[index] = float(output.detach().double().pow(2).mean().sqrt())
            shapes[index] = output.shape

    if x.is_floating_point():
        x = x.requires_grad_()
    graph = trace(model, Inputs(x), fake=False, listener=listen).graph
    wanted = [index for index in sorted(graph.flow.signal) if index in edges]
    sink = graph.flow.sink
    if sink is None:
        return graph, rms, {}
    seed = torch.randn(shapes[sink], dtype=x.dtype if x.is_floating_point() else torch.get_default_dtype())
    found = torch.autograd.grad(edges[sink], [edges[index] for index in wanted], seed, allow_unused=True)
    grads = {
        index: float(grad.double().pow(2).mean().sqrt())
        for index, grad in zip(wanted, found, strict=True)
        if grad is not None
    }
    return graph, rms, grads


def headline(graph: Graph, grads: dict[int, float]) -> float | None:
    """H from the last op of the first and of the last block that have a gradient."""
    last: dict[int, int] = {}
    for index in graph.flow.trunk:
        if index in grads:
            last[graph.flow.block[index]] = index
    ends = [grads[last[block]] for block in sorted(last)]
    if len(ends) < 2 or ends[-1] <= 0:
        return None
    return math.log10(max(ends[0], 1e-300) / ends[-1])


def compare(build: Callable[[], nn.Module], make: Callable[[], Any], seeds: int) -> dict[str, Any]:
    """One model: measured over seeds, predicted from one graph."""
    measured, errors, forward = [], [], []
    seconds = 0.0
    predicted = None
    unknown: dict[str, int] = {}
    for seed in range(seeds):
        torch.manual_seed(seed)
        model, x = build().train(), make()
        graph, rms, grads = measure(model, x)
        if seed == 0:
            start = time.perf_counter()
            found = interpret(graph)
            rows = signals(found)
            seconds = time.perf_counter() - start
            unknown = dict(found.unknown)
            guess = {row.op: row.grad_rms for row in rows.rows if row.grad_rms is not None}
            predicted = headline(graph, {index: guess[index] for index in grads if index in guess})
            for row in rows.rows:
                truth = grads.get(row.op)
                if truth and row.grad_rms:
                    errors.append(abs(math.log10(row.grad_rms / truth)))
                if row.rms and rms.get(row.op):
                    forward.append(abs(math.log10(row.rms / rms[row.op])))
        measured.append(headline(graph, grads))
    known = [value for value in measured if value is not None]
    return {
        "predicted": predicted,
        "measured": statistics.mean(known) if known else None,
        "grads": statistics.median(errors) if errors else math.nan,
        "forward": statistics.median(forward) if forward else math.nan,
        "ops": len(graph),
        "seconds": seconds,
        "unknown": unknown,
    }


def library(spec: str) -> Case:
    """A torchvision or timm model with images."""
    kind, _, name = spec.partition(":")
    size = (
        224
        if any(word in name for word in ("vit", "deit", "mixer", "vgg", "alexnet", "cait", "beit", "swin", "gmlp"))
        else 64
    )

    def build() -> nn.Module:
        if kind == "torchvision":
            import torchvision

            model = getattr(torchvision.models, name)(weights=None)
        else:
            import timm

            model = timm.create_model(name, pretrained=False)
        for layer in model.modules():  # a zero-initialised head would make every gradient zero
            if isinstance(layer, nn.Linear) and float(layer.weight.detach().abs().max()) == 0:
                nn.init.normal_(layer.weight, 0, 0.02)
        return model

    return spec, build, lambda: torch.randn(2 if size == 224 else 8, 3, size, size)


def classify(h: float | None) -> str:
    """vanish, healthy or explode."""
    if h is None:
        return "none"
    return "vanish" if h < -3 else "explode" if h > 3 else "healthy"


def chosen(names: list[str]) -> Iterator[Case]:
    """Generated variants that match a pattern, and library models."""
    patterns = [name for name in names if ":" not in name]
    for case in cases():
        if (not names) or any(fnmatch.fnmatch(case[0], pattern) for pattern in patterns):
            yield case
    for spec in names:
        if ":" in spec:
            yield library(spec)


def main() -> None:
    """Print one line per model and the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="patterns of generated variants, torchvision:NAME, timm:NAME")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"{'model':<34}{'ops':>5}{'H pred':>9}{'H meas':>9}{'error':>7}  {'class':<9}{'grads':>6}{'fwd':>6}{'s':>6}")
    errors, right, total = [], 0, 0
    for name, build, make in chosen(options.names):
        small = ":" not in name
        torch.set_default_dtype(torch.float64 if small else torch.float32)
        try:
            row = compare(build, make, options.seeds)
        except Exception as error:
            print(f"{name:<34} failed: {type(error).__name__}: {str(error)[:100]}", flush=True)
            continue
        h, truth = row["predicted"], row["measured"]
        if h is None or truth is None:
            print(f"{name:<34}{row['ops']:>5}  H predicted {h}, measured {truth} {row['unknown'] or ''}", flush=True)
            continue
        agree = classify(h) == classify(truth)
        errors.append(abs(h - truth))
        right, total = right + agree, total + 1
        verdict = classify(truth) if agree else classify(truth) + "!"
        start = f"{name:<34}{row['ops']:>5}{h:>+9.2f}{truth:>+9.2f}{abs(h - truth):>7.2f}  {verdict:<9}"
        rest = f"{row['grads']:>6.2f}{row['forward']:>6.2f}{row['seconds']:>6.2f} {row['unknown'] or ''}"
        print(start + rest, flush=True)
    if errors:
        ordered = sorted(errors)
        p90 = ordered[min(int(0.9 * len(ordered)), len(ordered) - 1)]
        print(
            f"{total} models: median error {statistics.median(errors):.3f}, p90 {p90:.2f}, right class {right}/{total}"
        )


if __name__ == "__main__":
    main()
