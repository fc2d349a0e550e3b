"""What the command line and the pytest plugin call: check a model, check targets, measure signals."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stablelint.config import Config
from stablelint.errors import TargetError, TraceTargetError, WorkerError, no_gradient
from stablelint.finding import Finding, Point, Report, Sweep, TargetReport
from stablelint.inputs import Inputs
from stablelint.judge import Found, judge
from stablelint.whatif import Question, parse

if TYPE_CHECKING:
    from torch import nn

    from stablelint.graph import Graph
    from stablelint.signals import Signals
    from stablelint.signals.comparison import Comparison
    from stablelint.signals.curvature import Curvature
    from stablelint.targets.spec import Request
    from stablelint.targets.worker import Worker
    from stablelint.trace import Origins

Progress = Callable[[str], None]


def check_model(
    model: nn.Module,
    inputs: Inputs | Iterable[Any],
    *,
    config: Config | None = None,
    name: str = "model",
    probe: bool | None = None,
    deep: bool | None = None,
    rebuild: Callable[[int], tuple[nn.Module, Inputs]] | None = None,
    origins: Origins | None = None,
    loss: Callable[..., Any] | None = None,
    batches: int | None = None,
    remarks: Sequence[str] = (),
) -> TargetReport:
    """Check one model in this process; one that is spread over several, in each of them, with the same result.

    Args:
        model: any module; it is left exactly as it was.
        inputs: one batch; several samples, or similarity between samples cannot be seen. Or a DataLoader or another
            iterable of batches: tensors, tuples (x, y) or dicts, taken apart as :mod:`stablelint.feed` says.
        config: thresholds and selection; the defaults without it.
        name: how the report calls the model.
        probe: measure (a few backward passes) instead of predicting; ``config.probe`` when None.
        deep: also measure what one normal pass cannot show, on top of ``probe``; ``config.deep`` when None.
        rebuild: ``rebuild(seed)`` draws a fresh model and batch for the probe's further seeds.
        origins: what :func:`stablelint.trace.observe_build` saw while the model was built.
        loss: ``loss(output)``, ``loss(output, target)`` or ``loss(output, batch)``, the scalar that the probe
            differentiates; the model's own loss or a random projection without it. Of processes with parts of
            one batch the mean counts.
        batches: how many batches of a loader the probe's seeds go through, one for each seed by default; a prediction
            takes the first.
        remarks: facts about the run to carry into the report.

    Raises TargetError when the forward pass cannot be run, or loader or loss cannot be used.
    """
    config = config or Config()
    started = time.perf_counter()
    probing = config.probe if probe is None else probe
    graph, signals, more = evidence(
        model,
        inputs,
        probe=probing,
        deep=config.deep if deep is None else deep,
        seeds=config.seeds,
        settled=settles(config),
        rebuild=rebuild,
        origins=origins,
        loss=loss,
        batches=batches,
    )
    findings = find(graph, signals, config)
    return TargetReport(
        target=name,
        findings=findings,
        signals=None if signals is None else signals.summary(),
        remarks=(*remarks, *more),
        seconds=time.perf_counter() - started,
    )


def evidence(
    model: nn.Module,
    inputs: Inputs | Iterable[Any],
    *,
    probe: bool,
    seeds: int,
    settled: Callable[[Signals], bool] | None = None,
    deep: bool = False,
    rebuild: Callable[[int], tuple[nn.Module, Inputs]] | None = None,
    origins: Origins | None = None,
    loss: Callable[..., Any] | None = None,
    batches: int | None = None,
) -> tuple[Graph, Signals | None, tuple[str, ...]]:
    """The graph of a model with measured signals, or with predicted ones, and remarks about the trace."""
    if probe:
        from stablelint.probe import measure

        graph, signals = measure(
            model,
            inputs,
            origins=origins,
            rebuild=rebuild,
            seeds=seeds,
            settled=settled,
            loss=loss,
            batches=batches,
            deep=deep,
        )
        return graph, signals, ()
    from stablelint.predict import predict
    from stablelint.probe.supply import supply
    from stablelint.trace import trace

    first, _ = supply(model, inputs, loss=loss, batches=batches and 1)
    found = trace(model, first, origins=origins)
    if found.graph.flow.sink is None:
        raise TraceTargetError(no_gradient(found.output))
    graph = found.graph
    if loss is not None:
        from stablelint.probe.given_loss import with_loss

        graph = with_loss(graph, found.output, first, loss)
    signals = predict(graph)
    remarks = found.remarks
    if signals.doubts:
        names = ", ".join(signals.doubts[:3]) + (", ..." if len(signals.doubts) > 3 else "")
        remarks = (
            *remarks,
            f"the prediction does not know {names} well enough: what it says is a note; --probe measures",
        )
    return graph, signals, remarks


def settles(config: Config) -> Callable[[Signals], bool]:
    """Whether a measurement decides, at the thresholds of ``config``, on every symptom that would be reported."""
    from stablelint.symptoms import SYMPTOMS

    asked = [(rule, config.settings(rule)) for rule in SYMPTOMS if config.enabled(rule)]

    def settled(signals: Signals) -> bool:
        symptoms = [(rule, hit) for rule, settings in asked for hit in rule.hits(signals, settings)]
        return not any("uncertainty" in found.facts for found in judge((), symptoms, signals))

    return settled


def find(graph: Graph, signals: Signals | None, config: Config) -> tuple[Finding, ...]:
    """Run all rules and judge; symptoms that are switched off still confirm causes but are not reported."""
    from stablelint.causes import CAUSES
    from stablelint.symptoms import SYMPTOMS

    causes: list[Found] = [
        (rule, hit) for rule in CAUSES if config.enabled(rule) for hit in rule.hits(graph, config.settings(rule))
    ]
    symptoms: list[Found] = []
    if signals is not None:
        symptoms = [(rule, hit) for rule in SYMPTOMS for hit in rule.hits(signals, config.settings(rule))]
    shown = {rule.code for rule in (*CAUSES, *SYMPTOMS) if config.enabled(rule)}
    return tuple(finding for finding in judge(causes, symptoms, signals) if finding.code in shown)


OnProgress = Callable[[int, int, str], None]


def check(
    specs: Sequence[str],
    config: Config | None = None,
    *,
    skip_without_model: bool = False,
    what_if: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> Report:
    """Check targets, each in an isolated process; what one target does to its process costs the others nothing.

    ``on_progress(done, total, name)`` is called when a target starts. With ``skip_without_model`` it is no failure
    that a file defines no model. ``what_if`` are sweeps as on the command line (``depth=96``), predicted for each
    target that could be checked. Raises UsageError for a spec or a sweep that makes no sense; everything else that
    goes wrong with a target is a failed :class:`~stablelint.finding.TargetReport`, or a skipped one in a file that
    nobody chose for its models.
    """
    from stablelint import rulebook
    from stablelint.report.source import read_source
    from stablelint.suppress import suppress_report
    from stablelint.targets.spec import expand, looked_into

    config = config or Config()
    questions = parse(what_if)
    requests = expand(specs, swept=skip_without_model)
    config.require_one_model([request.spec for request in requests])
    reports: list[TargetReport] = []
    with _worker(config) as worker:
        for done, request in enumerate(requests):
            if on_progress is not None:
                on_progress(done, len(requests), request.spec)
            started = functools.partial(on_progress, done, len(requests)) if on_progress is not None else None
            events = _events(worker, "stablelint.jobs:check", request, config, started)
            checked = [_excused(report, request, config) for report in events]
            reports += [_with_sweeps(worker, request, report, questions, config, started) for report in checked]
    report = Report(tuple(reports), config.probe, *looked_into(specs, requests))
    known = {word for rule in rulebook.rules() for word in (rule.code, rule.name)}
    active = {word for rule in rulebook.rules() if config.enabled(rule) for word in (rule.code, rule.name)}
    return suppress_report(report, read_source, known, active=active)


def _excused(report: TargetReport, request: Request, config: Config) -> TargetReport:
    """A report, skipped in the place of failed where nobody chose its file; a checkpoint is for a chosen model."""
    excused = request.swept and config.checkpoint is None and report.status == "failed"
    return replace(report, status="skipped") if excused else report


def probe(spec: str, config: Config | None = None) -> list[tuple[str, Comparison, tuple[str, ...]]]:
    """Name, measured and predicted signals, and remarks of every model of one target, from an isolated process.

    Raises TargetError when one cannot be measured.
    """
    return _measured("stablelint.jobs:measure", spec, config)


def curvature(spec: str, config: Config | None = None) -> list[tuple[str, Curvature, tuple[str, ...]]]:
    """The same for curvature and step sizes, see :func:`stablelint.probe.curvature.curvature`."""
    return _measured("stablelint.jobs:curvature", spec, config)


def _measured(job: str, spec: str, config: Config | None) -> list[tuple[str, Any, tuple[str, ...]]]:
    from stablelint.targets.spec import expand

    config = config or Config()
    measured: list[tuple[str, Any, tuple[str, ...]]] = []
    with _worker(config) as worker:
        for request in expand([spec]):
            for result in _events(worker, job, request, config, None):
                if isinstance(result, TargetReport):
                    if result.status == "skipped":
                        continue
                    raise TargetError(result.reason or "it cannot be measured")
                measured.append(result)
    return measured


def _worker(config: Config) -> Worker:
    from stablelint.targets.worker import Worker

    return Worker(timeout=config.timeout, memory=config.memory, preload=("torch", "stablelint.warm:warm_up"))


def _events(worker: Worker, job: str, request: Request, config: Config, on_start: Progress | None) -> Iterator[Any]:
    """The results of one request; a target that takes its process down is failed, the rest go on in a new one."""
    finished: list[tuple[str, tuple[str, ...]]] = []
    while True:
        current: str | None = None
        try:
            for kind, name, result in worker.run(job, (request, config, tuple(finished))):
                current = name
                if kind == "start":
                    if on_start is not None:
                        on_start(name)
                    continue
                finished.append((name, getattr(result, "models", ())))
                current = None
                yield result
            return
        except TargetError as error:
            yield TargetReport(current or request.spec, status="failed", reason=str(error))
            if current is None or not isinstance(error, WorkerError):
                return
            finished.append((current, ()))


def _with_sweeps(
    worker: Worker,
    request: Request,
    report: TargetReport,
    questions: Sequence[Question],
    config: Config,
    on_start: Progress | None,
) -> TargetReport:
    if not report.ok:
        return report
    sweeps = tuple(_sweep(worker, request, report.target, question, config, on_start) for question in questions)
    return replace(report, what_if=sweeps)


def _sweep(
    worker: Worker, request: Request, target: str, question: Question, config: Config, on_start: Progress | None
) -> Sweep:
    """One sweep; a value that takes its process down is a point with its sentence, the rest go on in a new one."""
    points: list[Point] = []
    present: int | None = None
    while True:
        current: int | None = None
        try:
            payload = (request, target, question, config, tuple(point.value for point in points))
            for kind, value, result in worker.run("stablelint.jobs:sweep", payload):
                if kind == "present":
                    present = value
                elif kind == "start":
                    current = value
                    if on_start is not None:
                        on_start(f"{target} {question.argument}={value}")
                else:
                    current = None
                    points.append(result)
            return Sweep(question.argument, present, tuple(points))
        except TargetError as error:
            if current is None:
                return Sweep(question.argument, present, tuple(points), str(error))
            points.append(Point(current, reason=str(error)))
