"""What was tried for each target, in order: the answer to ``--explain-target``."""

from __future__ import annotations

from stablelint.finding import Report, TargetReport
from stablelint.report.notes import construction
from stablelint.report.overview import nothing_found
from stablelint.report.words import INDENT, Paint, plain, wrap


def render_tried(report: Report, width: int = 80, colour: bool = False) -> str:
    """Each target with its steps, numbered, and what came of them."""
    paint = Paint(colour)
    lines: list[str] = []
    for target in report.targets:
        lines += [*([""] if lines else []), *_target(target, width, paint)]
    none = nothing_found(report)
    lines += wrap(none, width, first="", rest=INDENT) if none else []
    return "".join(f"{line}\n" for line in lines)


def _target(target: TargetReport, width: int, paint: Paint) -> list[str]:
    name = plain(target.target)
    role = "good" if target.ok else "error" if target.status == "failed" else "warning"
    lines = [paint(name, role)]
    digits = len(str(len(target.tried)))
    for place, step in enumerate(target.tried, start=1):
        lines += wrap(step, width, first=f"{INDENT}{place:>{digits}}. ", rest=f"{INDENT}{'':{digits}}  ")
    if not target.tried:
        lines += wrap("nothing had to be tried" if target.ok else "nothing was tried", width)
    return [*lines, *wrap(_outcome(target), width, first=f"{INDENT}=> ", rest=f"{INDENT}   ")]


def _outcome(target: TargetReport) -> str:
    if not target.ok:
        what = "checked" if target.status == "failed" else "reached"
        return f"not {what}: {target.reason or 'no reason is known'}"
    built = construction(target)
    return "checked" if built is None else f"checked, {built.one}"
