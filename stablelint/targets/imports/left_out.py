"""What was left out of user files, and the sentences that name it."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import ModuleType

from stablelint.targets.imports.placeholder import PlaceholderUse, Reason
from stablelint.targets.spec import shown

_LONGEST_TEXT = 300
#: Why the block of a script is not run.
ONLY_A_SCRIPT = "it runs only as a script"


class TooLong(BaseException):
    """A statement was stopped because it ran longer than it may."""


@dataclass(frozen=True)
class LeftOut:
    """A statement that was left out of ``file``: its line, the names that it would have bound, and why."""

    line: int
    names: tuple[str, ...]
    why: str
    file: str

    def __str__(self) -> str:
        """``line 30 of train.py was left out (raises FileNotFoundError: ...): it binds data``."""
        binds = f": it binds {', '.join(self.names)}" if self.names else ""
        return f"line {self.line} of {shown(self.file)} was left out ({self.why}){binds}"


@dataclass
class Record:
    """How the execution of one file went.

    ``scripts`` are blocks that only run as a script: not missed unless somebody asks for their names. ``reasons`` are
    the packages that placeholders stand for, ``used`` those that the file's own statements touched.
    """

    left_out: list[LeftOut] = field(default_factory=list)
    used: tuple[Reason, ...] = ()
    tree: ast.Module | None = None
    source: str | None = None
    scripts: list[LeftOut] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)

    def stood_in(self, reason: Reason) -> None:
        """Remember a package that a placeholder of this file stands for."""
        if reason not in self.reasons:
            self.reasons.append(reason)

    def binding(self, name: str) -> LeftOut | None:
        """The last statement left out that would have bound ``name``."""
        return next((each for each in reversed((*self.scripts, *self.left_out)) if name in each.names), None)


_records: dict[str, Record] = {}


def stood_in(reasons: Iterable[Reason]) -> tuple[str, ...]:
    """Sentences for packages that were missing: ``gym and tyro are not installed and were stood in for``."""
    every = list(dict.fromkeys(reasons))
    absent = sorted({reason.package for reason in every if reason.absent})
    others = [f"{reason}; it was stood in for" for reason in every if not reason.absent]
    if not absent:
        return tuple(others)
    listed = " and ".join([", ".join(absent[:-1]), absent[-1]] if len(absent) > 1 else absent)
    verbs = ("are", "were") if len(absent) > 1 else ("is", "was")
    return (f"{listed} {verbs[0]} not installed and {verbs[1]} stood in for", *others)


def stood_in_for(module: ModuleType | None, touched: Iterable[Reason]) -> tuple[str, ...]:
    """The same for a model: what its file lacks, and what it ``touched`` of anything that is missing."""
    own = record(module.__file__) if module is not None else None
    lacks = [] if own is None else [*(each for each in own.reasons if each.absent), *own.used]
    return stood_in([*lacks, *touched])


def begin(file: str) -> Record:
    """A new record for a file that is about to be executed."""
    _records[file] = Record()
    return _records[file]


def record(file: str | None) -> Record | None:
    """The record of a file, None when it was not executed here."""
    return None if file is None else _records.get(file)


def records() -> dict[str, Record]:
    """The records of all files that were executed, by file."""
    return dict(_records)


def missed(error: BaseException, file: str | None) -> LeftOut | None:
    """The statement whose absence made code of ``file`` raise, if that is what happened."""
    name = getattr(error, "name", None)
    if not isinstance(name, str):
        return None
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        file = error.obj.__file__
    elif not isinstance(error, NameError):
        return None
    own = _records.get(file or "")
    # "from other import *" does not tell where a name would have come from.
    for known in ([own] if own is not None else []) + list(_records.values()):
        left = known.binding(name)
        if left is not None:
            return left
    return None


def why(error: BaseException) -> str:
    """What a statement did, in short: ``raises ValueError: text``."""
    if isinstance(error, TooLong):
        return str(error)
    if isinstance(error, PlaceholderUse):
        return f"uses {error.what}"
    if isinstance(error, SystemExit):
        return f"calls sys.exit({'' if error.code is None else repr(error.code)})"
    return f"raises {short(error)}"


def short(error: BaseException) -> str:
    """Type and text of an error on one line of bounded length."""
    return f"{type(error).__name__}{text(error)}"


def text(error: BaseException) -> str:
    """``: `` and the text of an error on one line of bounded length, nothing when it has none."""
    try:
        said = " ".join(str(error).split())
    except Exception:  # a user's __str__ may raise
        said = ""
    if len(said) > _LONGEST_TEXT:
        said = said[:_LONGEST_TEXT].rsplit(" ", 1)[0] + " ..."
    return f": {said}" if said else ""
