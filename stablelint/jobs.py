"""What runs in the worker process: generators that the parent names by their dotted path (see ``targets.worker``)."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stablelint import api
from stablelint.config import Config
from stablelint.errors import TargetError
from stablelint.feed import second_argument
from stablelint.finding import Level, Point, TargetReport

if TYPE_CHECKING:
    from stablelint.graph import Graph
    from stablelint.signals import Signals
    from stablelint.signals.comparison import Comparison
    from stablelint.targets.source import Built, Candidate
    from stablelint.targets.spec import Request
    from stablelint.whatif import Question


#: Names of what is done, with the classes that it stands for.
Finished = tuple[tuple[str, tuple[str, ...]], ...]
Payload = tuple["Request", Config, Finished]


def check(payload: Payload) -> Iterator[tuple[str, str, TargetReport | None]]:
    """In the worker: check the models of one request, but for those that are named as done."""
    config = payload[1]
    for built in _built(payload, real=config.probe):
        if isinstance(built, tuple):
            yield built
            continue
        report = _checked(built, config)
        built.checked = report.ok
        yield "result", built.name, described(report, built)


def _checked(built: Built, config: Config) -> TargetReport:
    """The report of a model; one that cannot be checked without its weights gets them."""
    try:
        return _check_model(built, config)
    except TargetError as error:
        problem = error
    if built.allocated is not None and not config.probe:
        with suppress(TargetError):
            return _check_model(built.allocated(), config)
    return failed(built.name, problem, built.main, built.remarks)


def _check_model(built: Built, config: Config) -> TargetReport:
    return api.check_model(
        built.model,
        built.inputs,
        config=config,
        name=built.name,
        rebuild=built.rebuild,
        origins=built.origins,
        loss=built.loss,
        remarks=built.remarks,
    )


def failed(name: str, error: TargetError, main: bool, remarks: tuple[str, ...] = ()) -> TargetReport:
    """The report of a model that could not be checked; a helper of a file that cannot be is passed over."""
    return TargetReport(
        name,
        status="failed" if main else "skipped",
        reason=str(error),
        remarks=remarks,
        suggestion=error.suggestion,
        tried=error.tried,
    )


def described(report: TargetReport, built: Built) -> TargetReport:
    """A report with the classes that the model stands for, and how it was built."""
    plan = built.plan
    findings = report.findings
    if built.released:  # judged on initial weights, and the model is meant to have others
        findings = tuple(replace(finding, level=Level.NOTE) for finding in findings)
    report = replace(report, findings=findings, models=built.models, tried=built.tried)
    if plan is None:
        return report
    return replace(report, arguments=plan.shown, origin=plan.origin, guessed=plan.guessed)


def measure(payload: Payload) -> Iterator[tuple[str, str, Any]]:
    """In the worker: measure the models of one request, and predict on the graphs that were measured."""
    from stablelint.probe import measure as measured

    for built in _built(payload, real=True):
        if isinstance(built, tuple):
            yield built
            continue
        graph, signals = measured(
            built.model,
            built.inputs,
            origins=built.origins,
            rebuild=built.rebuild,
            seeds=payload[1].seeds,
            settled=api.settles(payload[1]),
            loss=built.loss,
            deep=payload[1].deep,
        )
        found, remarks = beside(graph, signals)
        built.checked = True
        yield "result", built.name, (built.name, found, (*built.remarks, *remarks))


def beside(graph: Graph, measured: Signals) -> tuple[Comparison, tuple[str, ...]]:
    """What was measured on ``graph`` beside what is predicted from it, and remarks.

    A prediction that fails is one of these, for it must not cost the measurement.
    """
    from stablelint.predict import predict
    from stablelint.signals.comparison import compare

    try:
        predicted = predict(graph)
    except Exception as error:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return compare(measured, None, {}), (f"nothing is predicted beside the measurement: {what}",)
    signal = graph.flow.signal
    feeds = {index: [user.index for user in graph.users(graph.ops[index]) if user.index in signal] for index in signal}
    found, remarks = compare(measured, predicted, feeds), _several_outputs(graph)
    if remarks:  # the gradients are those of different losses
        found = replace(found, surprises=tuple(each for each in found.surprises if each.quantity == "rms"))
    return found, remarks


def _several_outputs(graph: Graph) -> tuple[str, ...]:
    """A remark where the measured gradient is that of more outputs than the one that the prediction starts from."""
    from stablelint.probe.objective import DEEP

    flow = graph.flow
    if flow.sink is None or not graph.ops[flow.sink].shape:
        return ()
    least = DEEP * flow.depth[flow.sink]
    deep = {index for index in graph.outputs if flow.depth.get(index, 0) >= least and graph.ops[index].shape}
    if len(deep) < 2:
        return ()
    return (f"the gradient is measured for {len(deep)} outputs together and predicted for the deepest alone",)


def curvature(payload: Payload) -> Iterator[tuple[str, str, Any]]:
    """In the worker: curvature and step sizes of the models of one request."""
    from stablelint.probe.curvature import curvature as measured

    for built in _built(payload, real=True):
        if isinstance(built, tuple):
            yield built
        else:
            second = second_argument(built.loss)
            targets = built.inputs.batch if second == "batch" else built.inputs.target if second else None
            found = measured(built.model, built.inputs, loss=built.loss, targets=targets, rebuild=built.rebuild)
            built.checked = True
            yield "result", built.name, (built.name, found, built.remarks)


def sweep(payload: tuple[Request, str, Question, Config, tuple[int, ...]]) -> Iterator[tuple[str, int | None, Any]]:
    """In the worker: predict one target for each value of an argument, but for the values that are done.

    Yields ("present", value, None) first. Raises TargetError when the target has no such argument.
    """
    import torch

    from stablelint.targets.source import seed_everything
    from stablelint.targets.vary import vary

    request, target, question, config, finished = payload
    torch.set_num_threads(1)
    seed_everything(0)
    variation = vary(request, target, question.argument)
    values = question.values(variation.present)
    yield "present", variation.present, None
    for value in values:
        if value not in finished:
            yield "start", value, None
            yield "result", value, _point(value, variation.at, config)
            gc.collect()  # graphs and models hold each other


def _point(value: int, at: Callable[[int], list[Candidate]], config: Config) -> Point:
    """What is predicted for one value: from the first of its candidates that can be built and traced."""
    reason = None
    try:
        for candidate in at(value):
            try:
                return _predicted(value, candidate.build(), config)
            except TargetError as error:
                reason = str(error)
    except TargetError as error:  # a configuration may refuse the value before there is a candidate
        reason = str(error)
    return Point(value, reason=reason)


def _predicted(value: int, built: Built, config: Config) -> Point:
    from stablelint import rulebook
    from stablelint.report.source import read_source
    from stablelint.suppress import suppress

    graph, signals, _ = api.evidence(built.model, built.inputs, probe=False, seeds=1, origins=built.origins)
    known = {word for rule in rulebook.rules() for word in (rule.code, rule.name)}
    findings, _ = suppress(api.find(graph, signals, config), read_source, known)
    level = max((finding.level for finding in findings), default=None)
    codes = sorted({finding.code for finding in findings if finding.level is level})
    return Point(value, None if signals is None else signals.summary(), level, tuple(codes))


def _built(payload: Payload, *, real: bool) -> Iterator[Built | tuple[str, str, TargetReport | None]]:
    """Built models, with a start event before and a failed report in place of each that cannot be built.

    A class that a model which was checked stands for is left out; the last are those that none stands for.
    """
    import torch

    from stablelint.targets.build import candidates, parts_of
    from stablelint.targets.source import seed_everything

    request, config, finished = payload
    torch.set_num_threads(1)  # sums over threads differ in the last digits, and a report must not
    seed_everything(0)  # for what an import draws
    found = candidates(request, real=real, checkpoint=config.checkpoint)
    config.require_one_model([candidate.name for candidate in found])
    reached = {name for _, models in finished for name in models}
    yield from _each(found, finished, reached)
    if config.checkpoint is None:
        yield from _each(parts_of(request, found, reached, real=real), finished, reached)


def _each(
    found: list[Candidate], finished: Finished, reached: set[str]
) -> Iterator[Built | tuple[str, str, TargetReport | None]]:
    done = {name for name, _ in finished}
    for candidate in found:
        waiting = candidate.found.kind in ("searched", "class")
        if candidate.name in done or (waiting and getattr(candidate.found.value, "__name__", None) in reached):
            continue
        yield "start", candidate.name, None
        try:
            built = candidate.build()
        except TargetError as error:
            yield "result", candidate.name, failed(candidate.name, error, candidate.main)
            continue
        built.main = candidate.main
        yield built
        if built.checked:
            reached.update(built.models)
