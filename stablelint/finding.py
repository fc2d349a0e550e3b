"""What rules yield, what users read, and what a run hands to a renderer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from stablelint.site import Site

Fact = float | int | str | bool | None


class Level(IntEnum):
    """How bad a finding is; only an error says that the gradient is harmed."""

    NOTE = 0
    WARNING = 1
    ERROR = 2

    def __str__(self) -> str:
        return self.name.lower()


class Standing(StrEnum):
    """What is known of the symptom that a cause foretells."""

    PREDICTED = "predicted"  # computed from the graph, not measured
    CONFIRMED = "confirmed"  # measured by the probe, or itself a measurement
    CLEARED = "cleared"  # the probe looked and did not find the symptom
    NOT_PROBED = "not probed"  # neither predicted nor measured


@dataclass(frozen=True, slots=True)
class Hit:
    """What a rule yields: one place, what was found there with its number, and what to do about it.

    ``span`` holds the indices of the ops that the hit is about; the judge looks for the predicted symptom there.
    ``modules`` lists module paths that share the hit (30 layers built by one line are one hit).
    ``predicts`` narrows the rule's ``predicts=`` when it names several symptoms. ``level`` is set by symptoms,
    which know how bad their number is, and by causes for a hit that does no harm and so explains no symptom.
    """

    site: Site
    message: str
    fix: str | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    span: tuple[int, ...] = ()
    modules: tuple[str, ...] = ()
    predicts: str | None = None
    level: Level | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A hit after judgement: what a report shows."""

    code: str
    name: str
    level: Level
    message: str
    site: Site
    standing: Standing
    facts: Mapping[str, Fact] = field(default_factory=dict)
    fix: str | None = None
    evidence: str | None = None
    modules: tuple[str, ...] = ()

    @property
    def sort_key(self) -> tuple[str, int, int, str, str, str]:
        """By place, then by code: the order of a report, the same in every run."""
        return (
            self.site.file or "",
            self.site.line or 0,
            self.site.column or 0,
            self.code,
            self.site.module,
            self.message,
        )


@dataclass(frozen=True, slots=True)
class Point:
    """What is predicted for one value of an argument; ``reason`` is the sentence why nothing can be.

    ``level`` is that of the worst finding, ``codes`` are the rules that have it; None where there are no findings.
    """

    value: int
    signals: Mapping[str, Fact] | None = None
    level: Level | None = None
    codes: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Sweep:
    """How a target's signals scale with one integer argument; ``reason`` is the sentence why that cannot be said.

    ``present`` is the value that the target has as it is, None where it is not known.
    """

    argument: str
    present: int | None = None
    points: tuple[Point, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class TargetReport:
    """Everything that a run found out about one target.

    ``status`` is "ok", "failed" (a model that somebody would call the file's was not reached: exit code 2), or
    "skipped" (a class that is no main model of its file, or of a file that a sweep found, was not reached).
    ``reason`` is the sentence that explains either, ``suggestion`` the line that would help most. ``signals`` is the
    summary of :meth:`stablelint.signals.Signals.summary`. ``remarks`` are facts about the run itself that a user
    should know (inferred inputs, guessed branches).

    ``models`` are the classes that the target stands for: that of the model, and those of its parts that its file
    defines. ``arguments`` is the call that built it (``UNet(n_channels=3, n_classes=1)``), ``origin`` where its values
    come from ("the call in train.py:102"), ``guessed`` the names of values that nothing told. ``tried`` are the steps
    that led here, for ``--explain-target``.
    """

    target: str
    status: str = "ok"
    reason: str | None = None
    findings: tuple[Finding, ...] = ()
    signals: Mapping[str, Fact] | None = None
    what_if: tuple[Sweep, ...] = ()
    remarks: tuple[str, ...] = ()
    seconds: float | None = None
    models: tuple[str, ...] = ()
    arguments: str | None = None
    origin: str | None = None
    guessed: tuple[str, ...] = ()
    suggestion: str | None = None
    tried: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the target could be checked."""
        return self.status == "ok"

    def count(self, level: Level) -> int:
        """How many findings have exactly this level."""
        return sum(finding.level is level for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Report:
    """All targets of one run.

    ``files`` is how many whole files were looked into, ``searched`` are the folders that they were found below: a
    file that defines no model has no target.
    """

    targets: tuple[TargetReport, ...] = ()
    probed: bool = False
    files: int = 0
    searched: tuple[str, ...] = ()

    def count(self, level: Level) -> int:
        """How many findings have exactly this level."""
        return sum(target.count(level) for target in self.targets)

    @property
    def failed(self) -> tuple[TargetReport, ...]:
        """The targets that should have been checked and could not be."""
        return tuple(target for target in self.targets if target.status == "failed")

    @property
    def skipped(self) -> tuple[TargetReport, ...]:
        """The targets that were not reached, which is no failure of the run."""
        return tuple(target for target in self.targets if target.status == "skipped")
