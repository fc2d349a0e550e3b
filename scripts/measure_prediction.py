"""Compare the predicted gradient with the measured one, over a registry of models and generated faulty variants.

    python scripts/measure_prediction.py [--zoo models.py] [--cache FILE] [--family NAME] [--only PATTERN]

H is log10 of the gradient rms that leaves the first block over that of the last (for recurrent cases: at the first
step over that at the last), for a fixed random projection of the deepest output; classes are H < -3, between, > 3.
Truth is the geometric mean over redrawn weights, inputs and projections. With ``--cache`` only the prediction is run
again. Columns: median errors in decades of the gradient at every op, of the values, and of the parameters' gradients;
CPU seconds of the prediction, and over those of one forward and backward pass.
"""

from __future__ import annotations

import argparse
import fnmatch
import math
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import torch
from prediction_ablation import ABLATIONS, ablated
from prediction_graphs import Graphs
from prediction_report import FLOOR, HEAD, Row, bars, confusion, line, table, worst
from prediction_truth import Cache, Truth, averaged, truths
from prediction_variants import Case, registry, variants

from stablelint.graph import Graph
from stablelint.predict import Interpretation, interpret, predict
from stablelint.predict.domain import Value
from stablelint.signals import Signals

#: A parameter's gradient this far below that of another parameter of its module is rounding, by number format.
_ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-10}


def chosen(options: argparse.Namespace) -> Iterator[Case]:
    """The cases that the options name."""
    for case in (*(registry(options.zoo) if options.zoo else ()), *variants()):
        if options.family and not any(word in case.family for word in options.family):
            continue
        if not options.only or any(fnmatch.fnmatch(case.name, pattern) for pattern in options.only):
            yield case


def log10(value: float) -> float:
    """With a floor for zero."""
    return math.log10(value) if value > 0 and math.isfinite(value) else FLOOR


def headline(graph: Graph, grads: Mapping[int, float]) -> float | None:
    """H from the last op of the first and of the last block that have a gradient."""
    last: dict[int, int] = {}
    for index in graph.flow.trunk:
        if index in grads:
            last[graph.flow.block[index]] = index
    ends = [grads[last[block]] for block in sorted(last)]
    return log10(ends[0]) - log10(ends[-1]) if len(ends) > 1 and ends[-1] > 0 else None


def in_time(graph: Graph, name: str, grads: Mapping[int, float], steps: Mapping[int, Sequence[float]]) -> float | None:
    """H from the first to the last step: inside a recurrent layer, or over the calls of one op in a loop."""
    calls = [op.index for op in graph if op.name == name and op.index in graph.flow.signal]
    sizes = [grads[index] for index in calls if index in grads]
    if len(calls) == 1:
        sizes = list(steps.get(calls[0], ()))
    return log10(sizes[0]) - log10(sizes[-1]) if len(sizes) > 1 and sizes[-1] > 0 else None


def h_of(case: Case, graph: Graph, grads: Mapping[int, float], steps: Mapping[int, Sequence[float]]) -> float | None:
    """The H of a case, predicted or measured."""
    return headline(graph, grads) if case.steps is None else in_time(graph, case.steps, grads, steps)


def compare(case: Case, seeds: int, cache: Cache, graphs: Graphs) -> Row:
    """Predict and measure one case."""
    found = truths(case, seeds, cache)
    start = time.process_time()
    seen = graphs.of(case, found[0])
    if seen is None:  # the case or the recorder has changed since
        cache.forget(case.name)
        found = truths(case, seeds, cache)
        seen = graphs.of(case, found[0])
    assert seen is not None, "two runs of the model differ"
    graph, size = seen
    tracing = time.process_time() - start
    start = time.process_time()
    signals = predict(graph)
    predicting = time.process_time() - start
    row = judged(case, graph, signals, found)
    row.seconds, row.size = (tracing, predicting, found[0].seconds), size
    return row


def judged(case: Case, graph: Graph, signals: Signals, found: Sequence[Truth]) -> Row:
    """The row of a case from its signals and truths."""
    grads = {int(key): value for key, value in averaged([truth.grads for truth in found]).items()}
    values = {int(key): value for key, value in averaged([truth.rms for truth in found]).items()}
    guess = {row.op: row.grad_rms for row in signals.rows if row.grad_rms is not None and row.op in grads}
    details = interpret(graph)
    draws = [
        h_of(case, graph, {int(k): v for k, v in truth.grads.items() if int(k) in guess}, _steps(truth))
        for truth in found
    ]
    heard = [h for h in draws if h is not None]
    row = Row(
        case.name,
        case.family,
        h_of(case, graph, guess, predicted_steps(details)),
        sum(heard) / len(heard) if heard else None,
        heard,
        ops=_median([abs(log10(guess[op]) - log10(grads[op])) for op in guess if grads[op] > 0 and guess[op] > 0]),
        forward=_median(
            [abs(log10(row.rms) - log10(values[row.op])) for row in signals.rows if row.rms and values.get(row.op)]
        ),
        unknown=dict(details.unknown),
        in_time=case.steps is not None,
        generated=case.generated,
    )
    band = getattr(signals, "gradient_ratio_band", None)
    if band is not None and case.steps is None:
        row.band = log10(band[0]), log10(band[1])
    _parameters(row, signals, averaged([truth.parameters for truth in found]), _ROUNDING[case.dtype])
    return row


def _steps(truth: Truth) -> dict[int, list[float]]:
    return {int(index): sizes for index, sizes in truth.steps.items()}


def predicted_steps(details: Interpretation) -> dict[int, list[float]]:
    """Gradient rms of the input of a recurrent layer, by time step."""
    found: dict[int, list[float]] = {}
    for index, value in details.values.items():
        first = value[0] if isinstance(value, tuple) and value else value
        if isinstance(first, Value) and first.steps:
            tables = [step.gradient() for step in first.steps]
            found[index] = [0.0 if table is None else math.sqrt(max(float(table.flat[-1]), 0.0)) for table in tables]
    return found


def _parameters(row: Row, signals: Signals, measured: Mapping[str, float], rounding: float) -> None:
    """Errors of parameter gradients; what is only rounding in truth should be (almost) nothing in the prediction."""
    predicted = {signal.name: signal.grad_rms for signal in signals.parameters}

    def largest(sizes: Mapping[str, float | None], name: str) -> float:
        module = name.rpartition(".")[0]
        return max((size or 0.0 for other, size in sizes.items() if other.rpartition(".")[0] == module), default=0.0)

    errors = []
    for name, truth in measured.items():
        guess = predicted.get(name)
        if truth <= rounding * largest(measured, name):
            row.zeros += 1
            row.missed += bool(guess) and guess > 1e-3 * largest(predicted, name)
        elif guess:
            errors.append(abs(log10(guess) - log10(truth)))
    row.parameters = _median(errors)


def _median(values: Sequence[float]) -> float:
    return median(values) if values else math.nan


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, help="a registry file: REG[name] = (family, source, builder)")
    parser.add_argument("--cache", type=Path, help="a file that keeps what was measured")
    parser.add_argument("--family", action="append", help="only families with this word in their name")
    parser.add_argument("--only", action="append", help="only cases whose name matches this pattern")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ablation", nargs="*", metavar="COMPONENT", help="all or some components off, one at a time")
    parser.add_argument("--quiet", action="store_true", help="no line per case")
    return parser.parse_args()


def compared_all(options: argparse.Namespace, cache: Cache, graphs: Graphs) -> tuple[list[Row], list[str]]:
    """A row per case, printed as it comes, and a line for each that failed."""
    rows, failed = [], []
    if not options.quiet:
        print(HEAD)
    for case in chosen(options):
        try:
            rows.append(compare(case, options.seeds, cache, graphs))
        except Exception as error:  # one model that fails must not hide the others
            failed.append(f"{case.name:<34}failed: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
            print(failed[-1], file=sys.stderr, flush=True)
            continue
        if not options.quiet:
            print(line(rows[-1]), flush=True)
    return rows, failed


def main() -> int:
    """Print a line per case, the tables, and the bars; 1 when a bar is missed."""
    options = parsed()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    cache = Cache(options.cache)
    graphs = Graphs(options.cache.with_suffix(".graphs") if options.cache else None)
    rows, failed = compared_all(options, cache, graphs)
    judged_bars = bars(rows)
    parts = [("by family", table(rows)), ("confusion", confusion(rows)), ("largest errors", worst(rows))]
    for title, lines in (*parts, ("not measured", failed), ("bars", map(str, judged_bars))):
        print(f"\n{title}")
        print("\n".join(lines))
    if options.ablation is not None:
        options.quiet = True
        print("\nablation")
        for text in ablated(lambda: compared_all(options, cache, graphs)[0], options.ablation or list(ABLATIONS)):
            print(text, flush=True)
    return int(any("FAIL" in str(bar) for bar in judged_bars))


if __name__ == "__main__":
    sys.exit(main())
