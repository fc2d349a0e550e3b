"""A target with another value of one argument: of its factory or class, of a configuration, or of the model's class.

What has the argument is looked for in this order: the call that gives the model (with the fields of settings objects
among its arguments), the configuration of a library's model, and the constructor of the model's own class, wherever
the factory calls it.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from torch import nn

from stablelint.errors import BuildTargetError, TargetError, did_you_mean
from stablelint.targets.build import candidates
from stablelint.targets.callplan import Call, holds_settings
from stablelint.targets.source import Built, Candidate
from stablelint.targets.spec import LIBRARIES, Request, split

_DEEPEST = 3
_LISTED = 6


@dataclasses.dataclass(frozen=True)
class Variation:
    """``at(value)`` gives the candidates for a value, to be tried in this order; the first allocates no weights."""

    present: int | None
    at: Callable[[int], list[Candidate]]


def vary(request: Request, target: str, argument: str) -> Variation:
    """What ``argument`` of the target of this name is now, and the target with other values.

    Raises TargetError with one sentence when the target has no such argument or the argument is no integer.
    """
    candidate = next((each for each in candidates(request) if each.name == target), None)
    if candidate is None:
        raise BuildTargetError(f"{target} was not found again")
    known: dict[str, Any] = {}
    for arguments, at in _places(request, candidate):
        names = flat(arguments)
        path = _find(names, argument, target)
        if path is not None:
            present = names[path]
            if present is not None and not _is_integer(present):
                raise BuildTargetError(f"{argument} of {target} is {_shown(present)}, not an integer")
            return Variation(present, functools.partial(at, path))
        known = names | known
    raise BuildTargetError(_unknown(target, argument, known))


#: Arguments with their present values, and the candidates for a value of the one that a dotted name means.
_Place = tuple[Mapping[str, Any], Callable[[str, int], list[Candidate]]]


def _places(request: Request, candidate: Candidate) -> Iterator[_Place]:
    found = candidate.found
    if found.kind == "instance":
        raise BuildTargetError(
            f"{candidate.name} is a model that the file has built: name a factory or a class to change its arguments"
        )
    if isinstance(found.make, Call):
        call = found.make

        def at_call(path: str, value: int) -> list[Candidate]:
            return _candidates(candidate, changed_call(call, path, value), _named(candidate, path, value))

        yield arguments_of(call), at_call
    library = candidate.library
    if library is not None:

        def at_spec(path: str, value: int) -> list[Candidate]:
            (changed,) = candidates(Request(_spec(request, path, value)))
            return [changed] if library.virtual else [changed.changed(virtual=True), changed]

        yield library.arguments, at_spec
    kind = type(_built([candidate.changed(virtual=True), candidate]).model)
    if kind is found.value or kind.__module__.startswith("torch.nn."):
        return
    seen: dict[str, Any] = {}

    def note(bound: inspect.BoundArguments) -> None:
        seen.update(list(bound.arguments.items())[1:])  # but for self

    _built(_candidates(candidate, _make_with(found.make, kind, note), candidate.name))
    if seen:

        def at_constructor(path: str, value: int) -> list[Candidate]:
            def change(bound: inspect.BoundArguments) -> None:
                bound.arguments |= with_field(dict(bound.arguments), path, value)

            return _candidates(candidate, _make_with(found.make, kind, change), _named(candidate, path, value))

        yield seen, at_constructor


def _candidates(candidate: Candidate, make: Callable[[], Any], name: str) -> list[Candidate]:
    """First without weights; a model that cannot be built or run like that may be with them."""
    found = dataclasses.replace(candidate.found, make=make)
    return [candidate.changed(found=found, name=name, virtual=virtual) for virtual in (True, False)]


def _named(candidate: Candidate, path: str, value: int) -> str:
    return f"{candidate.name} with {path}={value}"


def _built(tries: list[Candidate]) -> Built:
    """The first that can be built; raises the error of the last."""
    for each in tries[:-1]:
        with suppress(TargetError):
            return each.build()
    return tries[-1].build()


def _spec(request: Request, path: str, value: int) -> str:
    parts = split(request.spec)
    assert parts.kind in LIBRARIES
    query = "&".join(f"{key}={each!r}" for key, each in {**dict(parts.kwargs), path: value}.items())
    return f"{parts.kind}:{parts.name}?{query}"


def arguments_of(call: Call) -> dict[str, Any]:
    """All arguments of a call by name, defaults included; none where the signature cannot be read."""
    bound = _bound(call.function, *call.args, **call.kwargs)
    return {} if bound is None else dict(bound.arguments)


def changed_call(call: Call, path: str, value: object) -> Call:
    """The call with another value of an argument, or of a field of the settings that an argument is."""
    bound = _bound(call.function, *call.args, **call.kwargs)
    assert bound is not None
    bound.arguments |= with_field(dict(bound.arguments), path, value)
    return Call(call.function, bound.args, bound.kwargs)


def flat(arguments: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Arguments and the fields of those that are settings, by dotted name."""
    names: dict[str, Any] = {}
    for name, value in arguments.items():
        names[f"{prefix}{name}"] = value
        inside = _fields(value) if depth < _DEEPEST else None
        if inside:
            names |= flat(inside, f"{prefix}{name}.", depth + 1)
    return names


def with_field(value: Any, path: str, new: object) -> Any:
    """A copy of settings (or of a dict) with another value at a dotted name; what is given stays as it is."""
    name, _, rest = path.partition(".")
    if isinstance(value, Call) and name in arguments_of(value):
        return changed_call(value, path, new)
    if isinstance(value, Call):
        value = value()
    inner = new
    if rest:
        inner = with_field(value[name] if isinstance(value, Mapping) else getattr(value, name), rest, new)
    if isinstance(value, Mapping):
        return {**value, name: inner}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        initial = {field.name for field in dataclasses.fields(value) if field.init}
        if name in initial:
            return dataclasses.replace(value, **{name: inner})
    value = copy.copy(value)
    setattr(value, name, inner)
    return value


def _bound(function: Callable[..., Any], *args: Any, **kwargs: Any) -> inspect.BoundArguments | None:
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return None
    bound.apply_defaults()
    return bound


def _fields(value: Any) -> Mapping[str, Any] | None:
    """The fields of a settings object or a dict; None for anything else."""
    if isinstance(value, Call):
        value = value()
    if isinstance(value, Mapping):
        return {key: each for key, each in value.items() if isinstance(key, str)}
    if isinstance(value, (type, nn.Module)) or callable(value):
        return None
    if holds_settings(type(value)) or isinstance(value, types.SimpleNamespace):
        return {key: each for key, each in getattr(value, "__dict__", {}).items() if not key.startswith("_")}
    return None


def _find(names: Mapping[str, Any], argument: str, target: str) -> str | None:
    """The dotted name that a user means: as it is, else the only one of the least depth that ends in it."""
    if argument in names:
        return argument
    ending = [name for name in names if name.endswith(f".{argument}")]
    if not ending:
        return None
    least = min(name.count(".") for name in ending)
    nearest = [name for name in ending if name.count(".") == least]
    if len(nearest) > 1:
        raise BuildTargetError(f"{argument} of {target} may be {' or '.join(nearest)}: write which")
    return nearest[0]


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"a {type(value).__name__}"


def _unknown(target: str, argument: str, known: Mapping[str, Any]) -> str:
    integers = [name for name, value in known.items() if _is_integer(value)]
    if not integers:
        return f"{target} takes no integer argument, so {argument} cannot be varied"
    last = {name.rpartition(".")[2] for name in integers}
    near = did_you_mean(argument, {*integers, *last})
    listed = ", ".join(integers[:_LISTED]) + (", ..." if len(integers) > _LISTED else "")
    return f"{target} has no argument {argument}" + (near or f"; its integers are {listed}")


def _make_with(
    make: Callable[[], Any], kind: type[nn.Module], change: Callable[[inspect.BoundArguments], None]
) -> Callable[[], Any]:
    """``make``, with the arguments of the model's own constructor changed on their way."""

    def changed() -> Any:
        with _intercepted(kind, change):
            return make()

    return changed


@contextmanager
def _intercepted(kind: type[nn.Module], change: Callable[[inspect.BoundArguments], None]) -> Iterator[None]:
    """``change`` sees and may replace the arguments of every ``kind(...)`` that is no part of another one."""
    original: Callable[..., None] = kind.__init__
    own = "__init__" in vars(kind)
    running = False

    @functools.wraps(original)
    def init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        nonlocal running
        bound = _bound(original, self, *args, **kwargs)
        if running or type(self) is not kind or bound is None:
            original(self, *args, **kwargs)
            return
        running = True
        try:
            change(bound)
            original(*bound.args, **bound.kwargs)
        finally:
            running = False

    kind.__init__ = init  # type: ignore[method-assign]
    try:
        yield
    finally:
        if own:
            kind.__init__ = original  # type: ignore[method-assign]
        else:
            del kind.__init__
