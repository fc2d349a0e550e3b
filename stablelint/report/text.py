"""The report for people: place, name, number, standing, fix and the line of source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stablelint.finding import Fact, Finding, Level, Report, Standing, TargetReport
from stablelint.report.notes import Note, Unreached, by_file, covered, listed, name_of, notes, shared, unreached
from stablelint.report.numbers import count, exponent, number
from stablelint.report.overview import is_sweep, nothing_found, render_overview
from stablelint.report.source import Source, excerpt, read_source
from stablelint.report.whatif import render_sweeps
from stablelint.report.words import INDENT, Paint, modules, plain, wrap


@dataclass(frozen=True)
class _Look:
    """How the report looks, for all its parts; ``alone`` is the only target of a run, which has no total line."""

    width: int
    paint: Paint
    verbose: bool
    sweep: bool
    alone: bool
    source: Source

    @property
    def lowest(self) -> Level:
        return Level.NOTE if self.verbose else Level.WARNING

    def paragraph(self, target: TargetReport) -> bool:
        """Whether a checked target has lines of its own; in a table it has a row anyway."""
        shown = any(finding.level >= self.lowest for finding in target.findings)
        return self.verbose or not self.sweep or shown or bool(target.what_if)


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
    """The whole report. Findings that are only notes are counted, and shown with ``verbose``.

    A run over several files ends with a table of all models; those without findings are only there, unless
    ``verbose``.
    """
    none = nothing_found(report)
    if none is not None:
        return "".join(f"{line}\n" for line in wrap(none, width, first=""))
    look = _Look(width, Paint(colour), verbose, is_sweep(report), len(report.targets) == 1, source)
    parts = [part for targets in by_file(report.targets).values() for part in _file(targets, look)]
    if look.sweep:
        parts += _clean(report, look)
        parts += render_overview(report, width, look.paint, verbose=verbose)
    if len(report.targets) > 1 or look.sweep:
        parts.append(_total(report, look))
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


def _file(targets: Sequence[TargetReport], look: _Look) -> list[list[str]]:
    """The parts of one file: its models, what several of them share, and which of its classes were not reached."""
    reached = [target for target in targets if target.ok and look.paragraph(target)]
    own, common = shared([(target, [*notes(target), *_coverage(target, look)]) for target in reached])
    parts = [_target(target, mine, look) for target, mine in zip(reached, own, strict=True)]
    parts += [
        _note(note.many(listed([name_of(target.target) or target.target for target in having])), look)
        for note, having in common
    ]
    if not look.sweep:
        parts += [_unreached(each, look) for each in unreached(targets)]
    return parts


def _clean(report: Report, look: _Look) -> list[list[str]]:
    """What must be said of models that have only a row in the table: not how they were built and fed."""
    clean = [target for target in report.targets if target.ok and not look.paragraph(target)]
    own, common = shared([(target, [note for note in notes(target) if not note.routine]) for target in clean])
    lines = [
        line
        for target, mine in zip(clean, own, strict=True)
        for note in mine
        for line in _note(note.many(target.target), look)
    ]
    for note, having in common:
        lines += _note(note.many(listed([target.target for target in having])), look)
    return [lines] if lines else []


def _coverage(target: TargetReport, look: _Look) -> list[Note]:
    line = covered(target) if look.verbose else None
    return [] if line is None else [Note((target.target, line), line, lambda names: f"{names} {line}", routine=True)]


def _note(words: str, look: _Look) -> list[str]:
    return [look.paint(line, "dim") for line in wrap(words, look.width, first="note: ", rest="      ")]


def _target(target: TargetReport, own: Sequence[Note], look: _Look) -> list[str]:
    lines: list[str] = []
    for finding in sorted(target.findings, key=lambda finding: finding.sort_key):
        if finding.level >= look.lowest:
            lines += render_finding(
                finding, width=look.width, colour=look.paint.colour, source=look.source, target=target.target
            )
            lines.append("")
    lines += render_sweeps(target.what_if, look.width, look.paint.colour)
    for note in own:
        lines += _note(note.one, look)
    name = plain(target.target)
    hint = " (-v shows notes)" if look.alone and target.count(Level.NOTE) and not look.verbose else ""
    summary = " · ".join([f"{name}: {tally(target)}{hint}", *signal_words(target.signals)])
    first, *rest = wrap(summary, look.width, first="") or [name]
    return [*lines, first.replace(name, look.paint(name, _role(target)), 1), *rest]


def _unreached(missed: Unreached, look: _Look) -> list[str]:
    name, what = plain(missed.name()), "checked" if missed.failed else "reached"
    first, *rest = wrap(f"{name}: not {what}: {missed.sentence()}", look.width, first="")
    return [first.replace(name, look.paint(name, "error" if missed.failed else "warning"), 1), *rest]


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


def _total(report: Report, look: _Look) -> list[str]:
    missed = "".join(
        f", {len(targets)} {words}"
        for targets, words in ((report.failed, "not checked"), (report.skipped, "not reached"))
        if targets
    )
    files = f" in {count(report.files, 'file')}" if report.searched else ""
    more = []
    if not look.verbose:
        more = ["notes"] if report.count(Level.NOTE) else []
        more += ["every model"] if not all(look.paragraph(target) for target in report.targets if target.ok) else []
    hint = f" (-v shows {' and '.join(more)})" if more else ""
    words = f"{count(len(report.targets), 'target')}{files}: {tally(report)}{missed}{hint}"
    return [look.paint(line, _role(report)) for line in wrap(words, look.width, first="")]


def _role(counted: TargetReport | Report) -> str:
    failed = bool(counted.failed) if isinstance(counted, Report) else False
    if failed or counted.count(Level.ERROR):
        return "error"
    return "place" if counted.count(Level.WARNING) else "good"
