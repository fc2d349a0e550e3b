"""How models were built and fed and why others were not reached, as lines that targets of one file share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from stablelint.finding import TargetReport

_INPUTS = "inputs inferred: "
_LONGEST_PASTE = 60  # characters of a call that is worth repeating in the line to paste


@dataclass(frozen=True)
class Note:
    """One fact about a run. Targets with the same ``key`` share it; ``many`` says it with their names.

    A ``routine`` note tells how a model was built or fed; without it a verdict that there is nothing to say of still
    reads right.
    """

    key: tuple[object, ...]
    one: str
    many: Callable[[str], str]
    routine: bool = False


@dataclass(frozen=True)
class Unreached:
    """Targets of one file that were not reached for the same reason; without names the file itself was not."""

    file: str
    names: tuple[str, ...]
    reason: str
    suggestion: str | None
    failed: bool

    def name(self, *, verbose: bool = True) -> str:
        """``model.py:GPT`` for one class, ``model.py: GPT, Block`` for several; many are counted unless ``verbose``."""
        if self.names in ((), (self.file,)):
            return self.file
        if len(self.names) == 1:
            return f"{self.file}:{self.names[0]}"
        return f"{self.file}: {', '.join(self.names) if verbose else listed(self.names)}"

    def sentence(self, *, advised: bool = True) -> str:
        """The reason, with the line to add unless it is in it or ``advised`` is off."""
        suggestion = self.suggestion if advised else None
        if suggestion is None or suggestion in self.reason:
            return self.reason
        return f"{self.reason}; {advice(suggestion)}"


def file_of(target: str) -> str:
    """The file that a target is of; the target itself where it is of none."""
    stem, ending, _ = f"{target}:".partition(".py:")
    return f"{stem}.py" if ending else target


def name_of(target: str) -> str:
    """The target without its file; empty for a whole file."""
    file = file_of(target)
    return target if file == target and not target.endswith(".py") else target[len(file) + 1 :]


def listed(names: Sequence[str]) -> str:
    """``a, b, c``, of more than three ``a, b and 3 more``."""
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]} and {len(names) - 2} more"


def by_file(targets: Iterable[TargetReport]) -> dict[str, list[TargetReport]]:
    """The targets of each file, both in the order of the report."""
    found: dict[str, list[TargetReport]] = {}
    for target in targets:
        found.setdefault(file_of(target.target), []).append(target)
    return found


def notes(target: TargetReport) -> Iterator[Note]:
    """What is to be said of a target beside its findings: how it was built, then its remarks."""
    built = construction(target)
    if built is not None:
        yield built
    for remark in target.remarks:
        if remark.startswith(_INPUTS):
            yield Note((remark,), remark, _inferred(remark.removeprefix(_INPUTS)), routine=True)
        else:
            yield Note((remark,), remark, _of(remark))


def _inferred(described: str) -> Callable[[str], str]:
    return lambda names: f"inputs inferred for {names}: {described}"


def _of(remark: str) -> Callable[[str], str]:
    return lambda names: f"{names}: {remark}"


def construction(target: TargetReport) -> Note | None:
    """How a model was built; None where there was nothing to choose."""
    name, bracket, rest = (target.arguments or "").partition("(")
    values = f"{bracket}{rest}"
    if values in ("", "()") and not target.guessed:
        return None
    origin = f": from {target.origin}" if target.origin else ""
    guessed = f"; {_guessed(target)}" if target.guessed else ""
    return Note(
        ("built", values, target.origin, target.guessed),
        f"built as {name}{values}{origin}{guessed}",
        lambda names: f"{names} built with {values}{origin}{guessed}",
        routine=True,
    )


def _guessed(target: TargetReport) -> str:
    call = target.arguments or ""
    if len(call) > _LONGEST_PASTE or "<" in call:  # it stands in front already, or has values that no text makes
        call = f"{call.partition('(')[0]}(...)"
    line = target.suggestion or f"def build(): return {call}"
    return f"guessed: {', '.join(target.guessed)}: a verdict on guessed sizes; to choose them add `{line}`"


def covered(target: TargetReport) -> str | None:
    """The classes that a model covers beside its own, as a line."""
    return f"also covers: {', '.join(target.models[1:])}" if len(target.models) > 1 else None


def shared(
    found: Sequence[tuple[TargetReport, Sequence[Note]]],
) -> tuple[list[list[Note]], list[tuple[Note, list[TargetReport]]]]:
    """For each target the notes that are its own, and each note that several have with these."""
    having: dict[tuple[object, ...], tuple[Note, list[TargetReport]]] = {}
    for target, each in found:
        for note in {note.key: note for note in each}.values():
            having.setdefault(note.key, (note, []))[1].append(target)
    own = [[note for note in each if len(having[note.key][1]) == 1] for _, each in found]
    return own, [(note, targets) for note, targets in having.values() if len(targets) > 1]


def unreached(targets: Iterable[TargetReport]) -> list[Unreached]:
    """What was not reached, by file and reason."""
    found: dict[tuple[str, str, bool], list[TargetReport]] = {}
    for file, each in by_file(target for target in targets if not target.ok).items():
        for target in each:
            reason = _without_name(target)
            found.setdefault((file, reason, target.status == "failed"), []).append(target)
    missed = []
    for (file, reason, failed), same in found.items():
        names = tuple(name_of(each.target) for each in same)
        suggestion = next((each.suggestion for each in same if each.suggestion), None)
        missed.append(Unreached(file, () if "" in names else names, reason, suggestion, failed))
    return missed


def _without_name(target: TargetReport) -> str:
    """The reason, without the target's name, which stands in front anyway: so it reads the same for several."""
    reason = " ".join((target.reason or "no reason is known").split())
    reason = reason.removeprefix(f"{target.target}: ").removeprefix(f"{target.target} ")
    return reason.replace(f" that {target.target} ", " that it ")


def advice(suggestion: str) -> str:
    """A line to add or to type, as the end of a sentence."""
    if suggestion.startswith(("def ", "class ", "from ", "import ")):
        return f"add `{suggestion}`"
    return f"try `{suggestion}`" if _is_command(suggestion) else suggestion


def most_helpful(targets: Iterable[TargetReport]) -> str | None:
    """The one line that would reach most of what was not; None where no target has any."""
    # a line of code is for one file, a command for all
    wanted = Counter(
        (target.suggestion, "" if _is_command(target.suggestion) else file_of(target.target))
        for target in targets
        if not target.ok and target.suggestion
    )
    if not wanted:
        return None
    (line, file), amount = max(wanted.items(), key=lambda each: (each[1], _is_command(each[0][0])))
    where = f" in {file}" if line.startswith("def ") else ""
    models = "1 more model" if amount == 1 else f"{amount} more models"
    return f"`{line}`{where} would reach {models}"


def _is_command(suggestion: str) -> bool:
    return suggestion.startswith(("pip ", "python ", "stablelint "))
