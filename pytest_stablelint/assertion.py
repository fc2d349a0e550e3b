"""The object behind the fixture: check a model in this process, and fail the test with what was found."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_stablelint.benchmark import Recorder
from pytest_stablelint.settings import Settings
from stablelint.errors import StablelintError, UsageError, did_you_mean
from stablelint.feed import is_loader
from stablelint.finding import Level, TargetReport
from stablelint.inputs import Inputs

if TYPE_CHECKING:
    from torch import nn

    from stablelint.config import Config

#: Names that a call may set; what else it is given by name goes to the model.
CALL_SETTINGS = (*Settings.__dataclass_fields__, "loss", "batches", "name")


@dataclass(frozen=True)
class _Measured:
    """What a measurement takes besides the settings."""

    loss: Callable[..., Any] | None
    batches: int | None


class Stablelint:
    """Checks models for defects that keep them from training, with the settings of the test's marker.

    ``Inputs`` is :class:`stablelint.Inputs`, within reach where the fixture hides the package of the same name.
    """

    Inputs = Inputs

    def __init__(self, folder: Path, defaults: Settings, record: Recorder) -> None:
        self._folder = folder
        self._defaults = defaults
        self._record = record

    def check(
        self,
        model: nn.Module,
        *inputs: Any,
        probe: bool | None = None,
        select: str | list[str] | None = None,
        ignore: str | list[str] | None = None,
        seeds: int | None = None,
        loss: Callable[..., Any] | None = None,
        batches: int | None = None,
        name: str | None = None,
        **keywords: Any,
    ) -> TargetReport:
        """Check ``model`` as called with ``*inputs`` and ``**keywords`` and return the report, whatever it says.

        ``inputs`` may also be one :class:`stablelint.Inputs`, or a DataLoader or generator of batches, of which the
        seeds go through the first ``batches`` (one for each seed without it; with it a list may stand for a loader).
        With ``probe`` (the default) gradients are measured over ``seeds`` seeds, under ``loss(output)``,
        ``loss(output, target)`` or ``loss(output, batch)`` where one is given; the target is the last of the inputs.
        ``select`` and ``ignore`` are codes, names or families of rules. ``name`` stands for the model in the report;
        it is the name of its class by default.
        """
        __tracebackhide__ = True
        settings = _checked(self._defaults, probe=probe, select=select, ignore=ignore, seeds=seeds)
        return self._check(settings, model, inputs, keywords, _Measured(loss, batches), name)

    def assert_stable(
        self,
        model: nn.Module,
        *inputs: Any,
        probe: bool | None = None,
        fail_on: str | None = None,
        select: str | list[str] | None = None,
        ignore: str | list[str] | None = None,
        seeds: int | None = None,
        gradient_ratio: tuple[float, float] | None = None,
        dead: float | None = None,
        loss: Callable[..., Any] | None = None,
        batches: int | None = None,
        name: str | None = None,
        **keywords: Any,
    ) -> TargetReport:
        """Check ``model`` as :meth:`check` does and fail the test if it is not stable; returns the report.

        It is not stable when a finding is at least as bad as ``fail_on`` ("error" or "warning"; the configuration
        of the project by default), when the gradient rms of the first block over that of the last lies outside
        ``gradient_ratio`` (low, high), or when a layer has a larger share of dead units than ``dead``.
        """
        __tracebackhide__ = True
        settings = _checked(
            self._defaults,
            probe=probe,
            fail_on=fail_on,
            select=select,
            ignore=ignore,
            seeds=seeds,
            gradient_ratio=gradient_ratio,
            dead=dead,
        )
        try:
            settings.require_probe()
        except UsageError as error:
            _refuse(error)
        report = self._check(settings, model, inputs, keywords, _Measured(loss, batches), name)
        reasons = list(self._reasons(settings, report))
        if reasons:
            head = f"{report.target} is not stable: {', '.join(reasons)}"
            pytest.fail(f"{head}\n\n{_render(report)}\n{_caller()}: assert_stable failed", pytrace=False)
        return report

    def _check(
        self,
        settings: Settings,
        model: nn.Module,
        inputs: tuple[Any, ...],
        keywords: dict[str, Any],
        measured: _Measured,
        name: str | None,
    ) -> TargetReport:
        __tracebackhide__ = True
        try:
            _require_module(model)
            given = _inputs(model, inputs, keywords, measured)
            report = _run(model, given, self._config(settings), measured, name or type(model).__name__)
        except StablelintError as error:
            _refuse(error)
        if not report.ok:
            _refuse(report.reason or f"{report.target} could not be checked")
        self._record(report)
        return report

    def _config(self, settings: Settings) -> Config:
        """The project's configuration under the settings of the test; assertions measure unless told not to."""
        from stablelint import config

        fail_on = config.FAIL_ON[settings.fail_on] if settings.fail_on else None
        return config.load(start=self._folder).merged(
            select=settings.select,
            ignore=settings.ignore,
            seeds=settings.seeds,
            fail_on=fail_on,
            probe=settings.probe is not False,
        )

    def _reasons(self, settings: Settings, report: TargetReport) -> Iterator[str]:
        """Why a report does not stand up to the settings."""
        # "never" is for the exit code of the command; an assertion that cannot fail would be none
        fail_on = self._config(settings).fail_on or Level.ERROR
        for level in (Level.ERROR, Level.WARNING):
            if level >= fail_on and (count := report.count(level)):
                yield f"{count} {level}{'s' if count > 1 else ''}"
        signals = report.signals or {}
        if settings.gradient_ratio:
            low, high = settings.gradient_ratio
            ratio = signals.get("gradient_ratio")
            if not isinstance(ratio, int | float):
                yield "gradient first/last block has no finite value"
            elif not low <= ratio <= high:
                yield f"gradient first/last block {ratio:.1e} is outside {low:g} to {high:g}"
        share = signals.get("dead")
        if settings.dead is not None and isinstance(share, int | float) and share > settings.dead:
            yield f"{share:.0%} of the units of a layer are dead, more than {settings.dead:.0%}"


def _render(report: TargetReport) -> str:
    from stablelint.finding import Report
    from stablelint.report import render_text

    return render_text(Report(targets=(report,), probed=True), width=80)


def _run(model: nn.Module, inputs: Any, config: Config, measured: _Measured, name: str) -> TargetReport:
    """The report of one model, less the findings that a comment in the user's code silences."""
    from stablelint import api, rulebook
    from stablelint.report.source import read_source
    from stablelint.suppress import suppress

    report = api.check_model(
        model,
        inputs,
        config=config,
        name=name,
        probe=config.probe,
        loss=measured.loss,
        batches=measured.batches,
    )
    kept, remarks = suppress(report.findings, read_source, rulebook.words())
    return replace(report, findings=tuple(kept), remarks=(*report.remarks, *remarks))


def _checked(defaults: Settings, **values: Any) -> Settings:
    """The settings of one call over those of the marker."""
    __tracebackhide__ = True
    try:
        settings = Settings.checked(values).over(defaults)
    except UsageError as error:
        _refuse(error)
    return settings


def _require_module(model: object) -> None:
    from torch import nn

    if isinstance(model, type) and issubclass(model, nn.Module):
        raise UsageError(f"{model.__name__} is a class; pass a model, such as {model.__name__}()")
    if not isinstance(model, nn.Module):
        raise UsageError(f"the first argument must be a torch.nn.Module, not {type(model).__name__}")


def _inputs(model: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], measured: _Measured) -> Any:
    """What the model is called with, or a loader; a misspelt setting must not reach its forward as a keyword."""
    if len(inputs) == 1 and not keywords and (is_loader(inputs[0]) or measured.batches is not None):
        return inputs[0]
    if any(isinstance(value, Inputs) for value in inputs):
        if len(inputs) > 1 or keywords:
            raise UsageError("stablelint.Inputs holds all inputs: pass it alone after the model")
        given: Inputs = inputs[0]
        return given
    parameters = inspect.signature(model.forward).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for word in keywords:
            if word not in parameters:
                near = did_you_mean(word, (*CALL_SETTINGS, *parameters))
                kind = type(model).__name__
                raise UsageError(f'"{word}" is neither a setting nor an argument of {kind}.forward{near}')
    if not inputs and not keywords:
        raise UsageError(f"{type(model).__name__} needs example inputs: pass what its forward takes after the model")
    if measured.batches is not None:
        raise UsageError("batches counts the batches of a loader: pass it alone after the model")
    return Inputs(*inputs, **keywords)


def _refuse(problem: object) -> NoReturn:
    """Fail the test with one sentence at the user's line."""
    __tracebackhide__ = True
    raise pytest.fail.Exception(str(problem)) from None


def _caller() -> str:
    """``path:line`` of the call that entered this package."""
    here = str(Path(__file__).parent)
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(here):
        frame = frame.f_back
    if frame is None:
        return "unknown"
    path = Path(frame.f_code.co_filename)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{frame.f_lineno}"
