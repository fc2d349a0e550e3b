"""The report for people: place, name, number, standing, fix and the line of source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stablelint.finding import Fact, Finding, Level, Report, Standing, TargetReport
from stablelint.report.numbers import count, exponent, number
from stablelint.report.source import Source, excerpt, read_source
from stablelint.report.whatif import render_sweeps
from stablelint.report.words import INDENT, Paint, modules, plain, wrap

_STANDING: Mapping[Standing, str] = {
    Standing.PREDICTED: "",
    Standing.CONFIRMED: "confirmed by the probe",
    Standing.CLEARED: "the probe did not find it",
    Standing.NOT_PROBED: "not probed",
}


def render_text(
    report: Report,
    *,
    width: int = 80,
    colour: bool = False,
    verbose: bool = False,
    source: Source = read_source,
) -> str:
    """The whole report. Findings that are only notes are counted, and shown with ``verbose``."""
    paint = Paint(colour)
    lowest = Level.NOTE if verbose else Level.WARNING
    hint = " (-v shows notes)" if report.count(Level.NOTE) and not verbose else ""
    several = len(report.targets) > 1
    parts = [_target(target, width, paint, lowest, "" if several else hint, source) for target in report.targets]
    if several:
        parts.append(_total(report, width, paint, hint))
    lines: list[str] = []
    for above, part in zip([[], *parts], parts, strict=False):
        if lines and (len(above) > 1 or len(part) > 1 or part is parts[-1]):
            lines.append("")
        lines += part
    return "".join(f"{line}\n" for line in lines)


def render_finding(
    finding: Finding, *, width: int = 80, colour: bool = False, source: Source = read_source, target: str = ""
) -> list[str]:
    """The lines of one finding; ``target`` stands for the place where no file is known."""
    paint = Paint(colour)
    site = finding.site
    place = plain(str(site) if site.file is not None else target or str(site))
    head = f"{place} {finding.level} {finding.code} {finding.name}"
    where = plain(modules(finding.modules) if len(finding.modules) > 1 else site.module)
    verdict = f"{finding.level} {finding.code}"
    lines = [
        line.replace(place, paint(place, "place"), 1).replace(verdict, paint(verdict, str(finding.level)), 1)
        for line in wrap(head, width, first="")
    ]
    if where and len(head) + 2 + len(where) <= width:
        lines[0] += "  " + paint(where, "dim")
    elif where:
        lines += [paint(line, "dim") for line in wrap(where, width)]
    lines += wrap(finding.message, width)
    lines += [paint(line, "dim") for line in wrap(_standing(finding), width)]
    if finding.fix:
        first, *rest = wrap(finding.fix, width, first=f"{INDENT}fix: ", rest=f"{INDENT}     ")
        lines += [first.replace("fix:", paint("fix:", "fix"), 1), *rest]
    if site.file is not None and site.line is not None:
        rows = excerpt(source(site.file), site.line, site.column, width)
        lines += [row if row.startswith("  >") else paint(row, "dim") for row in rows]
    return lines


def _target(target: TargetReport, width: int, paint: Paint, lowest: Level, hint: str, source: Source) -> list[str]:
    lines: list[str] = []
    for finding in sorted(target.findings, key=lambda finding: finding.sort_key):
        if finding.level >= lowest:
            lines += render_finding(finding, width=width, colour=paint.colour, source=source, target=target.target)
            lines.append("")
    lines += render_sweeps(target.what_if, width, paint.colour)
    for remark in target.remarks:
        lines += [paint(line, "dim") for line in wrap(remark, width, first="note: ", rest="      ")]
    name = plain(target.target)
    if target.ok:
        summary = " · ".join([f"{name}: {tally(target)}{hint}", *signal_words(target.signals)])
    else:
        summary = f"{name}: not checked: {target.reason or 'no reason is known'}"
    first, *rest = wrap(summary, width, first="") or [name]
    return [*lines, first.replace(name, paint(name, _role(target, not target.ok)), 1), *rest]


def tally(counted: TargetReport | Report) -> str:
    """``1 error, 2 notes``, or ``no findings``."""
    found = [count(counted.count(level), str(level)) for level in sorted(Level, reverse=True) if counted.count(level)]
    return ", ".join(found) or "no findings"


def signal_words(signals: Mapping[str, Fact] | None) -> Iterator[str]:
    """What the summary of the signals says in one line: gradient and similarity along the trunk."""
    if not signals:
        return
    words: list[str] = []
    ratio, growth, depth = (_float(signals.get(key)) for key in ("gradient_ratio", "growth_per_block", "depth"))
    if ratio is not None:
        words.append(f"gradient first/last block {number(ratio)} ({signals.get('source')}{_band(signals)})")
    if depth:
        words.append(f"depth {depth:.0f}")
    if growth is not None:
        words.append(f"growth per block {number(growth)}")
    for name in ("gradient", "angle"):
        value = _float(signals.get(f"{name}_exponent"))
        if value is not None:
            words.append(f"{name} exponent {exponent(value)}")
    if signals.get("break_block") is not None:
        words.append(f"breaks at block {signals['break_block']} ({plain(str(signals.get('break_op')))})")
    if words:
        yield ", ".join(words)


def _band(signals: Mapping[str, Fact]) -> str:
    """``, 8.0e-18 to 3.0e-17`` where the prediction says how sure it is."""
    low, high = (_float(signals.get(f"gradient_ratio_{end}")) for end in ("low", "high"))
    return "" if low is None or high is None else f", {number(low)} to {number(high)}"


def _float(fact: Fact) -> float | None:
    return float(fact) if isinstance(fact, (int, float)) and not isinstance(fact, bool) else None


def _standing(finding: Finding) -> str:
    if finding.code.startswith("SL9"):  # a symptom is itself the evidence
        how = "measured by the probe" if finding.standing is Standing.CONFIRMED else "predicted from the graph"
        return f"{how}: {finding.evidence}" if finding.evidence else how
    words = [_STANDING[finding.standing]]
    if finding.evidence and finding.standing is Standing.CLEARED and finding.evidence.startswith("measured"):
        return finding.evidence  # says already that the probe looked
    if finding.evidence:
        said = finding.evidence.startswith(("predicted", "measured"))
        words.insert(0, finding.evidence if said else f"predicted: {finding.evidence}")
    return " · ".join(filter(None, words)) or str(finding.standing)


def _total(report: Report, width: int, paint: Paint, hint: str) -> list[str]:
    failed = f", {len(report.failed)} not checked" if report.failed else ""
    words = f"{count(len(report.targets), 'target')}: {tally(report)}{failed}{hint}"
    return [paint(line, _role(report, bool(report.failed))) for line in wrap(words, width, first="")]


def _role(counted: TargetReport | Report, failed: bool) -> str:
    if failed or counted.count(Level.ERROR):
        return "error"
    return "place" if counted.count(Level.WARNING) else "good"
