"""Settings: ``[tool.stablelint]`` of the nearest pyproject.toml, and the command line over it."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stablelint import rulebook
from stablelint.errors import UsageError, did_you_mean
from stablelint.finding import Level
from stablelint.rule import Rule, Threshold

FAIL_ON: Mapping[str, Level] = {"error": Level.ERROR, "warning": Level.WARNING}


@dataclass(frozen=True)
class Config:
    """What to check, with which rules, and what a run may cost.

    ``select``, ``extend_select`` and ``ignore`` hold codes, beginnings of codes (``SL4``) or names; an empty
    ``select`` stands for all rules. ``fail_on`` is the lowest level that makes the run fail (exit code 1).
    ``timeout`` is in seconds and ``memory`` in GiB, both per target; no ``memory`` stands for what the machine has
    free. ``deep`` measures more and switches ``probe`` on. ``checkpoint`` holds the weights of the one model that is
    checked. ``source`` is the file that was read.
    """

    select: tuple[str, ...] = ()
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    thresholds: Mapping[str, Mapping[str, Threshold]] = field(default_factory=dict)
    fail_on: Level = Level.ERROR
    probe: bool = False
    deep: bool = False
    seeds: int = 3
    timeout: float = 300.0
    memory: float | None = None
    targets: tuple[str, ...] = ()
    checkpoint: Path | None = None
    source: Path | None = None

    def enabled(self, rule: Rule) -> bool:
        """Whether ``rule`` runs: all rules or those of ``select``, and ``extend_select``, less ``ignore``."""
        chosen = not self.select or _names(rule, self.select) or _names(rule, self.extend_select)
        return chosen and not _names(rule, self.ignore)

    def require_one_model(self, names: Sequence[str]) -> None:
        """UsageError when a checkpoint is given for several targets or models."""
        if self.checkpoint is not None and len(names) > 1:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise UsageError(f"a checkpoint holds the weights of one model, and there are {len(names)}: {shown}")

    def settings(self, rule: Rule) -> Mapping[str, Threshold]:
        """The thresholds that the user set for ``rule``, by the name of the parameter."""
        return self.thresholds.get(rule.name, {})

    def merged(
        self,
        *,
        select: Iterable[str] | None = None,
        extend_select: Iterable[str] | None = None,
        ignore: Iterable[str] | None = None,
        **settings: Any,
    ) -> Config:
        """This configuration with the command line over it; None leaves a setting as it is.

        ``select`` replaces everything that the file says about the choice of rules, so that a rule that was asked
        for runs; ``extend_select`` and ``ignore`` add to the file's. UsageError for values that make no sense.
        """
        base = self if select is None else replace(self, select=tuple(select), extend_select=(), ignore=())
        merged = replace(
            base,
            extend_select=(*base.extend_select, *(extend_select or ())),
            ignore=(*base.ignore, *(ignore or ())),
            **{name: value for name, value in settings.items() if value is not None},
        )
        if merged.deep and not merged.probe:
            if settings.get("probe") is False and settings.get("deep"):
                raise UsageError("deep measurements need the probe")
            # the probe was switched off for this run, or it was never asked for and deep does
            merged = replace(merged, deep=False) if settings.get("probe") is False else replace(merged, probe=True)
        for word in (*merged.select, *merged.extend_select, *merged.ignore):
            rulebook.matching(word)
        for name in ("seeds", "timeout", "memory"):
            value = getattr(merged, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} must be above 0, not {value}")
        return merged


def load(path: Path | None = None, *, start: Path | None = None) -> Config:
    """Read ``path``, or the nearest pyproject.toml with [tool.stablelint] from ``start`` (the current folder) upward.

    UsageError names the file and the key for whatever cannot be read or is not known.
    """
    if path is not None:
        if (table := _table(path)) is None:
            raise UsageError(f"{path} has no [tool.stablelint]")
        return _config(path, table)
    for folder in (start or Path.cwd(), *(start or Path.cwd()).parents):
        candidate = folder / "pyproject.toml"
        if candidate.is_file() and (table := _table(candidate)) is not None:
            return _config(candidate, table)
    return Config()


def _names(rule: Rule, words: Iterable[str]) -> bool:
    return any(
        word in ("ALL", rule.name) or (word.startswith("SL") and rule.code.startswith(word))
        for word in map(rulebook.normal, words)
    )


def _table(path: Path) -> object:
    """The [tool.stablelint] table of a file, None where it has none."""
    try:
        with path.open("rb") as file:
            tool = tomllib.load(file).get("tool", {})
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    return tool.get("stablelint") if isinstance(tool, dict) else None


def _config(path: Path, table: object) -> Config:
    def refuse(key: str, why: str) -> UsageError:
        return UsageError(f"{path}: [tool.stablelint] {key}: {why}")

    if not isinstance(table, dict):
        raise UsageError(f"{path}: tool.stablelint must be a table")
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _READERS:
            raise refuse(key, f"unknown key{did_you_mean(key, _READERS)}")
        try:
            values[_field(key)] = _READERS[key](value)
        except (ValueError, UsageError) as error:
            raise refuse(key, str(error)) from error
    values["targets"] = tuple(_from_here(spec, path.parent) for spec in values.get("targets", ()))
    if "checkpoint" in values:
        values["checkpoint"] = Path(os.path.relpath(path.parent / values["checkpoint"]))
    try:
        return Config(source=path).merged(**values)
    except UsageError as error:
        raise UsageError(f"{path}: [tool.stablelint] {error}") from error


def _field(key: str) -> str:
    return "thresholds" if key == "rules" else key.replace("-", "_")


def _strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("must be a list of strings")
    return tuple(value)


def _selection(value: object) -> tuple[str, ...]:
    words = _strings(value)
    for word in words:
        rulebook.matching(word)
    return words


def _fail_on(value: object) -> Level:
    if value not in FAIL_ON:
        raise ValueError(f"must be one of {', '.join(FAIL_ON)}, not {value!r}")
    return FAIL_ON[str(value)]


def _like(default: Threshold) -> Callable[[object], Threshold]:
    """A reader that accepts what has the type of ``default``; an integer passes for a float."""
    kind = type(default)

    def read(value: object) -> Threshold:
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind or value != value:
            article = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a string"}
            raise ValueError(f"must be {article[kind.__name__]}, not {value!r}")
        assert isinstance(value, (bool, int, float, str))
        return value

    return read


def _rule_tables(value: object) -> Mapping[str, Mapping[str, Threshold]]:
    if not isinstance(value, dict):
        raise ValueError("must hold one table for each rule")
    read: dict[str, dict[str, Threshold]] = {}
    for word, settings in value.items():
        rule = rulebook.find(word)
        if not isinstance(settings, dict):
            raise ValueError(f"{word} must be a table of thresholds")
        for key, setting in settings.items():
            name = key.replace("-", "_")
            if name not in rule.thresholds:
                raise ValueError(f'{word} has no threshold "{key}"{did_you_mean(name, rule.thresholds)}')
            try:
                read.setdefault(rule.name, {})[name] = _like(rule.thresholds[name])(setting)
            except ValueError as error:
                raise ValueError(f"{word}: {key} {error}") from error
    return read


_READERS: Mapping[str, Callable[[object], Any]] = {
    "select": _selection,
    "extend-select": _selection,
    "ignore": _selection,
    "fail-on": _fail_on,
    "probe": _like(Config.probe),
    "deep": _like(Config.deep),
    "seeds": _like(Config.seeds),
    "timeout": _like(Config.timeout),
    "memory": _like(1.0),
    "targets": _strings,
    "checkpoint": _like(""),
    "rules": _rule_tables,
}


def _from_here(spec: str, folder: Path) -> str:
    """A target of the file as seen from the current folder: paths are relative to the file that names them."""
    path, colon, name = spec.partition(":")
    if not (folder / path).exists():
        return spec
    return os.path.relpath(folder / path) + colon + name
