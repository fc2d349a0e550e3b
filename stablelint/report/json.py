"""The report for programs: strict JSON, the same bytes in every run but for ``seconds``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from stablelint import __version__
from stablelint.finding import Finding, Level, Point, Report, Sweep, TargetReport


def render_json(report: Report, *, timings: bool = True, tried: bool = False) -> str:
    """One JSON document; keys stand in a fixed order, ``seconds`` is null without ``timings``.

    With ``tried`` each target has a list of what was tried for it.
    """
    document = {
        "stablelint": __version__,
        "targets": [_target(target, timings, tried) for target in report.targets],
        "summary": {
            "targets": len(report.targets),
            "failed": len(report.failed),
            "skipped": len(report.skipped),
            "errors": report.count(Level.ERROR),
            "warnings": report.count(Level.WARNING),
            "notes": report.count(Level.NOTE),
        },
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _target(target: TargetReport, timings: bool, tried: bool) -> dict[str, Any]:
    return {
        "target": target.target,
        "status": target.status,
        "reason": target.reason,
        "suggestion": target.suggestion,
        "models": list(target.models),
        "arguments": target.arguments,
        "origin": target.origin,
        "guessed": list(target.guessed),
        "findings": [finding_data(finding) for finding in sorted(target.findings, key=lambda found: found.sort_key)],
        "signals": None if target.signals is None else plain_data(target.signals),
        "what_if": [_sweep(sweep) for sweep in target.what_if],
        "remarks": list(target.remarks),
        **({"tried": list(target.tried)} if tried else {}),
        "seconds": round(target.seconds, 3) if timings and target.seconds is not None else None,
    }


def _sweep(sweep: Sweep) -> dict[str, Any]:
    return {
        "argument": sweep.argument,
        "present": sweep.present,
        "reason": sweep.reason,
        "points": [_point(point) for point in sweep.points],
    }


def _point(point: Point) -> dict[str, Any]:
    return {
        "value": point.value,
        "reason": point.reason,
        "level": None if point.level is None else str(point.level),
        "codes": list(point.codes),
        "signals": None if point.signals is None else plain_data(point.signals),
    }


def finding_data(finding: Finding) -> dict[str, Any]:
    """One finding as plain data."""
    site = finding.site
    return {
        "code": finding.code,
        "name": finding.name,
        "level": str(finding.level),
        "message": finding.message,
        "file": site.file,
        "line": site.line,
        "column": site.column,
        "module": site.module,
        "modules": list(finding.modules),
        "facts": plain_data(finding.facts),
        "standing": str(finding.standing),
        "evidence": finding.evidence,
        "fix": finding.fix,
    }


def plain_data(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts that strict JSON can hold."""
    return {str(name): _plain(value) for name, value in facts.items()}


def _plain(value: Any) -> Any:
    """Six digits of a float, words for infinity and NaN, the Python value of a NumPy or torch scalar."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(float(value))
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return plain_data(value)
    return _plain(value.item()) if hasattr(value, "item") else str(value)
