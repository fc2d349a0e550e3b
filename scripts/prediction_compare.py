"""One case: what is predicted for it beside what was measured."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, stdev

import torch
from prediction_cases import Case
from prediction_graphs import Graphs
from prediction_plots import Trace
from prediction_report import FLOOR, Row
from prediction_truth import Cache, Truth, averaged, truths

from stablelint.graph import Graph
from stablelint.predict import Interpretation, interpret, predict
from stablelint.predict.domain import Value
from stablelint.signals import Signals

#: A parameter's gradient this far below that of another parameter of its module is rounding, by number format.
_ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-10}


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


@dataclass(frozen=True)
class Effort:
    """Draws are added until the standard error of the measured H is below ``sure``, in decades, or there are ``most``.

    ``least`` because few draws that agree by chance look surer than they are: of 12 draws of a narrow net without norms
    the first three may lie 0.2 decades off and within 0.1 of each other.
    """

    least: int
    sure: float
    most: int


#: A pass of a generated net takes milliseconds, one of a released model up to seconds.
GENERATED, RELEASED = Effort(8, 0.03, 48), Effort(3, 0.1, 12)


def evidence(case: Case, seeds: int, cache: Cache, graphs: Graphs) -> tuple[list[Truth], Graph, int]:
    """The truths of a case, the graph to predict it from and the number of its parameters.

    ``seeds`` draws, and more where they disagree: an error of the prediction is not seen below that of the truth.
    """
    effort = GENERATED if case.generated else RELEASED
    seeds = max(seeds, effort.least)
    while True:
        found = truths(case, seeds, cache)
        seen = graphs.of(case, found[0])
        if seen is None:  # the case or the recorder has changed since
            cache.forget(case.name)
            found = truths(case, seeds, cache)
            seen = graphs.of(case, found[0])
        assert seen is not None, "two runs of the model differ"
        heard = [h for truth in found if (h := _h_of_draw(case, seen[0], truth)) is not None]
        if len(heard) < 2 or seeds >= effort.most or stdev(heard) <= effort.sure * math.sqrt(len(heard)):
            return found, *seen
        seeds = min(math.ceil((stdev(heard) / effort.sure) ** 2), 2 * seeds, effort.most)


def _h_of_draw(case: Case, graph: Graph, truth: Truth) -> float | None:
    return h_of(case, graph, {int(key): value for key, value in truth.grads.items()}, _steps(truth))


def compare(case: Case, seeds: int, cache: Cache, graphs: Graphs) -> Row:
    """Predict and measure one case."""
    found, graph, size = evidence(case, seeds, cache, graphs)
    start = time.process_time()
    signals = predict(graph)
    seconds = time.process_time() - start
    row = judged(case, graph, signals, found)
    row.seconds, row.size = (seconds, found[0].seconds), size
    return row


def along_trunk(case: Case, seeds: int, cache: Cache, graphs: Graphs) -> Trace:
    """Gradients that leave the blocks of the trunk, relative to the last block, in decades."""
    found, graph, _ = evidence(case, seeds, cache, graphs)
    rows = predict(graph).rows
    guess = {row.op: row.grad_rms for row in rows if row.grad_rms and row.grad_rms > 0}
    draws = [{int(key): value for key, value in truth.grads.items() if value > 0} for truth in found]
    last: dict[int, int] = {}
    for index in graph.flow.trunk:
        if index in guess and all(index in draw for draw in draws):
            last[graph.flow.block[index]] = index
    ends = [last[block] for block in sorted(last)]

    def relative(sizes: Mapping[int, float]) -> list[float]:
        return [log10(sizes[index]) - log10(sizes[ends[-1]]) for index in ends]

    return Trace(case.name, relative(guess), [relative(draw) for draw in draws])


def op_by_op(case: Case, seeds: int, cache: Cache, graphs: Graphs) -> Iterator[str]:
    """Every signal op with rms and gradient, predicted and measured, and where in decades the gradient goes astray."""
    found, graph, _ = evidence(case, seeds, cache, graphs)
    values, grads = averaged([truth.rms for truth in found]), averaged([truth.grads for truth in found])
    names = f"{'op':>5} {'block':>5}  {'name':<22}{'shape':<24}"
    yield f"{names}{'rms':>10}{'measured':>10}{'gradient':>11}{'measured':>10}{'off':>7}  module"
    for row in predict(graph).rows:
        value, grad = values.get(str(row.op)), grads.get(str(row.op))
        off = log10(row.grad_rms) - log10(grad) if row.grad_rms and grad else math.nan
        yield (
            f"{row.op:>5} {'' if row.block is None else row.block:>5}  {row.name:<22}"
            f"{list(graph.ops[row.op].shape)!s:<24}{row.rms or 0:>10.3g}{value or 0:>10.3g}"
            f"{row.grad_rms or 0:>11.3g}{grad or 0:>10.3g}{off:>+7.2f}  {row.site.module}"
        )


def judged(case: Case, graph: Graph, signals: Signals, found: Sequence[Truth]) -> Row:
    """The row of a case from its signals and truths."""
    grads = {int(key): value for key, value in averaged([truth.grads for truth in found]).items()}
    values = {int(key): value for key, value in averaged([truth.rms for truth in found]).items()}
    guess = {row.op: row.grad_rms for row in signals.rows if row.grad_rms is not None and row.op in grads}
    # the prediction has interpreted it already: again only where its values or its doubts are asked for
    details = interpret(graph) if case.steps is not None or signals.doubts else Interpretation(graph)
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

    # no structural zeros: the prediction has woken what they wait for
    waiting = {signal.name for signal in signals.parameters if signal.sleepers}
    errors = []
    for name, truth in measured.items():
        if truth == 0 and name in waiting:
            continue
        guess = predicted.get(name)
        if truth <= rounding * largest(measured, name):
            row.zeros += 1
            row.missed += bool(guess) and guess > 1e-3 * largest(predicted, name)
        elif guess:
            errors.append(abs(log10(guess) - log10(truth)))
    row.parameters = _median(errors)


def _median(values: Sequence[float]) -> float:
    return median(values) if values else math.nan
