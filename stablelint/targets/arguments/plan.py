"""What a search for arguments starts from, where it stands, and what it comes to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stablelint.targets.arguments.show import shown_call
from stablelint.targets.callplan import Call
from stablelint.targets.evidence.calls import CallSite


@dataclass(frozen=True)
class Plan:
    """A call that constructs a model: where its values come from, and the names of those that were guessed."""

    call: Call
    origin: str
    guessed: tuple[str, ...] = ()
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The call as a user would write it; settings objects have the fields that were asked for."""
        return shown_call(self.call, self.fields)


@dataclass(frozen=True)
class Start:
    """What is known before anything is guessed."""

    origin: str
    known: Mapping[str, Any] = field(default_factory=dict)
    loose: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


@dataclass
class State:
    """Values that are guessed, by path (``width``, ``config.width``), and the values that could stand there."""

    start: Start
    values: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, list[Any]] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)

    def changed(self, path: str, value: Any) -> State:
        """The same with another value at one path."""
        return State(self.start, {**self.values, path: value}, dict(self.choices), dict(self.told))

    def key(self) -> str:
        """What tells two states apart."""
        return self.start.origin + repr(sorted((path, repr(value)) for path, value in self.values.items()))


def fields_of(state: State) -> dict[str, dict[str, Any]]:
    """The fields of settings objects by parameter."""
    found: dict[str, dict[str, Any]] = {name: dict(given) for name, given in state.start.loose.items()}
    for path, value in state.values.items():
        name, dot, key = path.partition(".")
        if dot:
            found.setdefault(name, {})[key] = value
    return found


def start_of(site: CallSite) -> Start:
    """What a call in the repository tells."""
    return Start(site.where, site.known, site.loose, site.unknown)


def positional(function: Callable[..., Any], kwargs: dict[str, Any]) -> Call:
    """Positional-only arguments by position."""
    args = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.POSITIONAL_ONLY and name in kwargs:
            args.append(kwargs.pop(name))
    return Call(function, tuple(args), kwargs)


def defaults_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Parameters that may be left out, with their defaults; through ``**kwargs`` also those of the bases."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    found = {name: each.default for name, each in parameters.items() if each.default is not each.empty}
    variadic = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    for base in inspect.getmro(function)[1:] if variadic and inspect.isclass(function) else ():
        if base.__module__.startswith("torch.") or "__init__" not in vars(base):
            continue
        more = inspect.signature(base).parameters
        found |= {
            name: None if each.default is each.empty else each.default
            for name, each in more.items()
            if name not in found and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        }
    return found
