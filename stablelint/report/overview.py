"""The end of a run over many files: a table of the models, what was not reached, and what would help most."""

from __future__ import annotations

from collections.abc import Sequence

from stablelint.finding import Report, TargetReport
from stablelint.report.notes import Unreached, by_file, listed, most_helpful, unreached
from stablelint.report.numbers import count, number
from stablelint.report.table import table
from stablelint.report.words import INDENT, Paint, wrap

_MANY = 20  # models of one file that a table says in fewer lines than paragraphs
_GUESSED = 24  # characters of the names of guessed arguments
_WIDE = 60  # characters of a line that has room for them
_COLUMNS = ("model", "verdict", "gradient", "guessed")


def is_sweep(report: Report) -> bool:
    """Whether the run went over a folder or several files, or over more models than paragraphs are read of."""
    files = [file for file in by_file(report.targets) if file.endswith(".py")]
    return bool(report.searched) or len(files) > 1 or len(report.targets) > _MANY


def render_overview(report: Report, width: int, paint: Paint, *, verbose: bool = False) -> list[list[str]]:
    """Blocks of lines: the table of what was checked, and what was not with the line that would help most."""
    blocks = []
    reached = [target for target in report.targets if target.ok]
    if reached:
        blocks.append([*_table(reached, width, paint), *_legend(reached, width, paint)])
    missed = unreached(report.targets)
    for words, role, some in (
        ("not checked:", "error", [each for each in missed if each.failed]),
        ("not reached:", "warning", [each for each in missed if not each.failed]),
    ):
        if some:
            blocks.append([paint(words, role), *(line for each in some for line in _missed(each, width, verbose))])
    helpful = most_helpful(report.targets)
    if helpful is not None:
        blocks[-1] += [paint(line, "fix") for line in wrap(helpful, width, first="", rest=INDENT)]
    return blocks


def _missed(missed: Unreached, width: int, verbose: bool) -> list[str]:
    sentence = missed.sentence(advised=verbose or missed.failed)
    name = missed.name(verbose=verbose)
    words = sentence if name == missed.file and sentence.startswith(name) else f"{name}: {sentence}"
    return wrap(words, width, first=INDENT, rest=INDENT * 2)


def nothing_found(report: Report) -> str | None:
    """The sentence for a run that looked into files and found no model in them."""
    if report.targets or not report.files:
        return None
    below = f" below {listed(report.searched)}" if report.searched else ""
    return f"no models were found in {count(report.files, 'file')}{below}"


def verdict(target: TargetReport) -> str:
    """``error SL101 +1``: the worst level, a rule that has it, and how many findings there are beside; or ``clean``."""
    if not target.findings:
        return "clean"
    worst = max(target.findings, key=lambda finding: finding.level)
    more = f" +{len(target.findings) - 1}" if len(target.findings) > 1 else ""
    return f"{worst.level} {worst.code}{more}"


def _table(targets: Sequence[TargetReport], width: int, paint: Paint) -> list[str]:
    rows = [(target.target, verdict(target), _gradient(target), _names(target.guessed)) for target in targets]
    told = width >= _WIDE and any(target.guessed for target in targets)
    columns = len(_COLUMNS) if told else len(_COLUMNS) - 1
    shrink = (0, 3) if told else (0,)
    lines = table(_COLUMNS[:columns], [row[:columns] for row in rows], width, paint, right={2}, shrink=shrink)
    if not paint.colour:
        return lines
    roles = {"clean": "good", "error": "error", "warning": "warning", "note": "note"}
    painted = [
        line.replace(row[1], paint(row[1], roles[row[1].partition(" ")[0]]), 1)
        for line, row in zip(lines[1:], rows, strict=True)
    ]
    return [lines[0], *painted]


def _legend(targets: Sequence[TargetReport], width: int, paint: Paint) -> list[str]:
    sources = sorted({str(target.signals.get("source")) for target in targets if target.signals})
    if not sources:
        return []
    words = f"gradient: first over last block, {' or '.join(sources)}"
    if width >= _WIDE and any(target.guessed for target in targets):
        words += "; guessed: arguments that nothing told, so that a verdict is on guessed sizes"
    return [paint(line, "dim") for line in wrap(words, width)]


def _gradient(target: TargetReport) -> str:
    ratio = (target.signals or {}).get("gradient_ratio")
    known = isinstance(ratio, (int, float)) and not isinstance(ratio, bool)
    return number(float(ratio)) if known else "?"  # type: ignore[arg-type]


def _names(guessed: Sequence[str]) -> str:
    """The names, of too many the first ones and the number of the others."""
    names = [path.rpartition(".")[2] for path in guessed]
    for kept in range(len(names), 0, -1):
        more = f" +{len(names) - kept}" if kept < len(names) else ""
        if kept == 1 or len(words := f"{', '.join(names[:kept])}{more}") <= _GUESSED:
            return words if kept > 1 else f"{names[0]}{more}"
    return ""
