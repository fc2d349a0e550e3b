"""Comments that silence findings: ``# stablelint: ignore[unscaled-attention] reason``."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stablelint.errors import did_you_mean
from stablelint.finding import Finding, Report

Lines = Callable[[str], Sequence[str]]

_COMMENT = re.compile(r"#\s*stablelint\s*:\s*(?P<verb>[\w-]*)\s*(?:\[(?P<words>[^\]]*)\])?")


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment addressed to stablelint: where it stands, the lines it is about, the rules it names.

    ``words`` is None for a comment that names no rule.
    """

    line: int
    covers: range
    verb: str
    words: tuple[str, ...] | None


def suppress(
    findings: Iterable[Finding],
    lines_of: Lines,
    known: Collection[str],
    *,
    files: Collection[str] = (),
    active: Collection[str] | None = None,
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """The findings that no comment silences, and a remark for every comment that does not do what it says.

    A comment holds for its own line; alone on a line it holds for the statement that follows. Comments are looked
    for in the files of the findings and in ``files``. ``known`` holds the codes and names of all rules, ``active``
    those that ran (default: all): a comment for a rule that did not run is not called unused.
    """
    active = known if active is None else active
    kept = list(findings)
    by_file: dict[Path, list[Finding]] = {_key(path): [] for path in files}
    shown = {_key(path): path for path in files}
    for finding in kept:
        if finding.site.file is not None:
            by_file.setdefault(_key(finding.site.file), []).append(finding)
            shown[_key(finding.site.file)] = finding.site.file
    remarks: list[str] = []
    for key, here in by_file.items():
        path = shown[key]
        for comment in comments(lines_of(path)):
            place = f"{path}:{comment.line}"
            if comment.verb != "ignore" or not comment.words:
                remarks.append(f"{place}: {_misread(comment)}")
                continue
            for word in comment.words:
                if word not in known:
                    hint = did_you_mean(word, known)
                    remarks.append(f'{place}: no rule has the code or the name "{word}"{hint}')
                    continue
                silenced = [finding for finding in here if _silences(comment, word, finding)]
                kept = [finding for finding in kept if finding not in silenced]
                if not silenced and word in active:
                    remarks.append(f"{place}: nothing to ignore for {word} here; remove it from the comment")
    return tuple(kept), tuple(remarks)


def suppress_report(
    report: Report, lines_of: Lines, known: Collection[str], *, active: Collection[str] | None = None
) -> Report:
    """:func:`suppress` over a whole run: a comment that silences a finding of one target is used for all.

    Remarks go to the first target that the file of the comment belongs to. Where a target could not be checked
    nobody can say what is unused.
    """
    everything = [finding for target in report.targets for finding in target.findings if finding.site.file]
    told: set[Path] = set()
    active = active if all(target.ok for target in report.targets) else ()
    targets = []
    for target in report.targets:
        kept, _ = suppress(target.findings, lines_of, known)
        files = [*_own_file(target.target), *(finding.site.file for finding in target.findings if finding.site.file)]
        mine = {_key(path): path for path in files if _key(path) not in told}
        told.update(mine)
        here = [finding for finding in everything if _key(finding.site.file or "") in mine]
        _, remarks = suppress(here, lines_of, known, files=mine.values(), active=active)
        targets.append(replace(target, findings=kept, remarks=(*target.remarks, *remarks)))
    return replace(report, targets=tuple(targets))


def _key(path: str) -> Path:
    """Findings name absolute files where targets name relative ones."""
    return Path(path).resolve()


def _own_file(target: str) -> list[str]:
    """The file that a target was found in: ``model.py`` for ``model.py`` and for ``model.py:Net``."""
    stem, ending, _ = f"{target}:".partition(".py:")
    return [f"{stem}.py"] if ending else []


def comments(lines: Sequence[str]) -> list[Comment]:
    """The comments for stablelint in a source text; text inside strings does not count."""
    if not any("stablelint" in line for line in lines):
        return []
    found: list[Comment] = []
    waiting: list[tuple[int, re.Match[str]]] = []  # comments alone on their line, until a statement starts
    statement: int | None = None
    for token in _tokens(lines):
        row = token.start[0]
        if token.type == tokenize.COMMENT:
            match = _COMMENT.search(token.string)
            if match is None:
                continue
            if token.line[: token.start[1]].strip():
                found.append(_comment(row, range(row, row + 1), match))
            elif statement is not None:  # inside brackets: the comment is about the next line
                found.append(_comment(row, range(row, row + 2), match))
            else:
                waiting.append((row, match))
        elif token.type == tokenize.NEWLINE:
            covers = range(statement or row, row + 1)
            found += [_comment(line, covers, match) for line, match in waiting]
            waiting, statement = [], None
        elif token.type not in _LAYOUT and statement is None:
            statement = row
    found += [_comment(line, range(line, line + 1), match) for line, match in waiting]
    return sorted(found, key=lambda comment: comment.line)


_LAYOUT = {tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.ENCODING}


def _tokens(lines: Sequence[str]) -> Iterable[tokenize.TokenInfo]:
    """Tokens up to the first error: a file that Python ran has none, and other files have no findings."""
    source = iter([line if line.endswith("\n") else f"{line}\n" for line in lines])
    try:
        yield from tokenize.generate_tokens(lambda: next(source, ""))
    except (tokenize.TokenError, SyntaxError):
        return


def _comment(line: int, covers: range, match: re.Match[str]) -> Comment:
    words = match["words"]
    named = None if words is None else tuple(word for word in map(str.strip, words.split(",")) if word)
    return Comment(line, covers, match["verb"], named)


def _misread(comment: Comment) -> str:
    if comment.verb == "ignore":
        return "this comment ignores nothing; name the rules: # stablelint: ignore[rule-name]"
    return f'"{comment.verb}" is no word for stablelint; write # stablelint: ignore[rule-name]'


def _silences(comment: Comment, word: str, finding: Finding) -> bool:
    return finding.site.line in comment.covers and word in (finding.code, finding.name)
