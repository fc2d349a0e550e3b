"""Finding arguments with which a class can be constructed: what calls and settings tell first, the rest guessed."""

from __future__ import annotations

import inspect
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from stablelint.targets.arguments.blame import blamed, moves
from stablelint.targets.arguments.classes import modules_for, related_classes, works_on_images
from stablelint.targets.arguments.makers import calls_of_makers
from stablelint.targets.arguments.objects import GuessedSettings
from stablelint.targets.arguments.options import Surroundings, holds_settings_by_use, options
from stablelint.targets.arguments.plan import Plan, Start, State, defaults_of, fields_of, positional, start_of
from stablelint.targets.arguments.show import shown_call
from stablelint.targets.arguments.usage import Use, uses
from stablelint.targets.callplan import Call, holds_settings, made, required_parameters, resolved_hints
from stablelint.targets.evidence.calls import call_sites
from stablelint.targets.evidence.fold import Unknown
from stablelint.targets.evidence.reader import Reader
from stablelint.targets.imports.placeholder import PlaceholderUse

_MOST_TRIES = 40
_MOST_TRIES_OF_ONE = 16
_MOST_SECONDS = 12.0
#: All classes of a file together may take so long; then each gets the least.
_MOST_OF_FILE, _LEAST_SECONDS = 30.0, 1.5
_MOST_STARTS = 5
_MOST_OPTIONS = 10


class Search:
    """Calls of ``function`` that construct a model, best first.

    ``construct(call)`` makes the model or raises. Between two plans :meth:`failed` may say why the last one was no use.
    At most 40 attempts and 12 seconds.
    """

    def __init__(
        self, function: Callable[..., Any], reader: Reader, construct: Callable[[Call], nn.Module], *, depth: int = 0
    ) -> None:
        self.function = function
        self.reader = reader
        self.construct = construct
        self.depth = depth
        self.tried: list[str] = []
        self.error: BaseException | None = None
        self._uses = uses(function)
        self._around = Surroundings(related_classes(function, reader.module), works_on_images(function, reader.module))
        self._queue: deque[State] = deque()
        self._current: State | None = None
        self._seen: set[str] = set()
        self._deadline = time.monotonic() + min(_MOST_SECONDS, max(_LEAST_SECONDS, _MOST_OF_FILE - reader.searched))

    def plans(self) -> Iterator[Plan]:
        """Plans whose model was constructed; ends when nothing more is worth trying."""
        began = time.monotonic()
        try:
            yield from self._named()
            yield from self._plans()
        finally:
            self.reader.searched += time.monotonic() - began

    def _named(self) -> Iterator[Plan]:
        """What a class makes of itself where the repository asks it to."""
        for call, where in calls_of_makers(self.function, self.reader):
            try:
                self.construct(call)
            except Exception as error:
                self.error = self.error or error.__cause__ or error
            else:
                yield Plan(call, where)
                return

    def _plans(self) -> Iterator[Plan]:
        tries = 0
        for start in self.starts():
            self._queue = deque([State(start)])
            own = 0
            while self._queue and tries < _MOST_TRIES and own < _MOST_TRIES_OF_ONE:
                if time.monotonic() > self._deadline:
                    return
                state = self._queue.popleft()
                tries, own = tries + 1, own + 1
                plan = self._try(state)
                if plan is not None:
                    yield plan

    def failed(self, error: BaseException) -> None:
        """The model of the last plan was no use: what may mend that is tried next."""
        if self._current is not None:
            self._mend(self._current, error, first=True)

    def starts(self) -> list[Start]:
        """Calls that exist, complete ones first; settings that tell all that is required; nothing."""
        sites = []
        for site in call_sites(self.function, self.reader):
            sites.append(site)
            if len(sites) >= 3 * _MOST_STARTS or time.monotonic() > self._deadline - _MOST_SECONDS / 2:
                break
        sites.sort(key=lambda each: (not each.own, len(each.unknown)))  # stable: nearest first
        found = [start_of(each) for each in sites]
        found += self._from_settings()
        found.append(Start("its signature"))
        distinct: dict[str, Start] = {}
        for each in found:
            distinct.setdefault(repr((each.known, each.loose, each.unknown)), each)
        starts = list(distinct.values())
        return [*starts[:_MOST_STARTS], *(each for each in starts[_MOST_STARTS:] if each.origin == "its signature")]

    def _from_settings(self) -> list[Start]:
        """A dict, YAML file or the like that has a value for every required argument."""
        wanted = {each.name for each in required_parameters(self.function) or () if each.name != "self"}
        if len(wanted) < 2:
            return []
        for source in self.reader.settings.best(wanted, self.function.__name__):
            if all(source.values.get(name) is not None for name in wanted):
                signature = inspect.signature(self.function).parameters
                known = {name: value for name, value in source.values.items() if name in signature}
                return [Start(source.where, known)]
        return []

    # ---- one attempt

    def _try(self, state: State) -> Plan | None:
        try:
            call = self._call(state)
        except Unknown as error:
            self.error = self.error or error
            return None
        key = state.key()
        if key in self._seen:
            return None
        self._seen.add(key)
        self._current = state
        try:
            self.construct(call)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            cause = error.__cause__ or error
            self.tried.append(f"{shown_call(call)}: {type(cause).__name__}: {' '.join(str(cause).split())[:160]}")
            if self.error is None or state.start.known:
                self.error = cause
            self._mend(state, cause)
            return None
        self.tried.append(f"{shown_call(call)}: built ({state.start.origin})")
        guessed = tuple(path for path in state.values if path not in state.told)
        return Plan(call, self._origin(state), guessed, fields_of(state))

    def _origin(self, state: State) -> str:
        told = list(dict.fromkeys(state.told.values()))
        if state.start.origin == "its signature" and told:
            return told[0]
        return state.start.origin

    def _mend(self, state: State, error: BaseException, *, first: bool = False) -> None:
        if isinstance(error, PlaceholderUse):  # no other argument brings the package
            self._queue.clear()
            return
        better = self._opened(state, error)
        known = [name for name in state.start.known if name in self._parameters()]
        known = [name for name in known if not holds_settings_by_use(name, self._uses.get(name, ()))]
        paths = [*state.values, *known]
        defaults = {name: value for name, value in defaults_of(self.function).items() if name not in paths}
        for path in blamed(error, paths, defaults):
            value = state.values.get(path, state.start.known.get(path, defaults.get(path)))
            choices = state.choices.get(path) or self._choices(path)
            better += [state.changed(path, other) for other in moves(error, path, value, choices)[:_MOST_OPTIONS]]
        self._queue = deque([*better, *self._queue] if first or better else self._queue)

    def _opened(self, state: State, error: BaseException) -> list[State]:
        """Settings that a call gives and that lack a field: the same, with further fields guessed."""
        if not isinstance(error, AttributeError | KeyError):
            return []
        found = []
        for name, value in state.start.known.items():
            if holds_settings_by_use(name, self._uses.get(name, ())):
                value = made(value)
                given = dict(value) if isinstance(value, dict) else dict(getattr(value, "__dict__", {}))
                known = {key: each for key, each in state.start.known.items() if key != name}
                start = replace(state.start, known=known, loose={**state.start.loose, name: given})
                found.append(State(start, dict(state.values), dict(state.choices), dict(state.told)))
        return found

    def _choices(self, path: str) -> list[Any]:
        """Further values for what a call or a default gives."""
        if path.count("."):
            return options(path.rpartition(".")[2], [], None, self._around, lambda _name, _annotation: [])
        return options(path, self._uses.get(path, []), None, self._around, lambda _name, _annotation: [])

    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        try:
            return inspect.signature(self.function).parameters
        except (TypeError, ValueError):
            return {}

    # ---- from a state to a call

    def _call(self, state: State) -> Call:
        start, hints = state.start, resolved_hints(self.function)
        kwargs: dict[str, Any] = {}
        for name, parameter in self._parameters().items():
            if name in state.values:
                kwargs[name] = state.values[name]
            elif name in start.known:
                kwargs[name] = start.known[name]
            elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            elif parameter.default is not parameter.empty and name not in start.loose:
                if name in start.unknown and parameter.default is None and not self._optional(name):
                    kwargs[name] = self._guess(name, parameter, hints, state)
            else:
                kwargs[name] = self._guess(name, parameter, hints, state)
        if any(each.kind is each.VAR_KEYWORD for each in self._parameters().values()):
            kwargs |= {name: value for name, value in state.values.items() if "." not in name and name not in kwargs}
            kwargs |= {name: value for name, value in start.known.items() if name not in kwargs}
        return positional(self.function, kwargs)

    def _optional(self, name: str) -> bool:
        """Whether an argument that a call gives without a known value may as well be left out."""
        return any(use.kind == "compared" and use.detail is None for use in self._uses.get(name, ()))

    def _guess(self, name: str, parameter: inspect.Parameter, hints: Mapping[str, Any], state: State) -> Any:
        annotation = hints.get(name, parameter.annotation)
        annotation = None if annotation is parameter.empty else annotation
        uses_of = self._uses.get(name, [])
        if inspect.isclass(annotation) and holds_settings(annotation) and annotation not in (dict,):
            return self._settings_class(name, annotation, state)
        if name in state.start.loose or holds_settings_by_use(name, uses_of):
            return self._settings_object(name, state)
        value = self._setting_of_file(name, uses_of)
        if value is not None:
            state.values[name], state.told[name] = value
        else:
            self._choose(name, name, uses_of, annotation, state)
        return state.values[name]

    def _setting_of_file(self, name: str, uses_of: list[Use]) -> tuple[Any, str] | None:
        """What the repository says under this very name, in a place that knows a further argument of the class."""
        others = {each.name for each in required_parameters(self.function) or ()} - {name}
        if any(use.kind in ("called", "parameters", "later called", "later parameters") for use in uses_of):
            return None
        for source in self.reader.settings.best({name, *others}, self.function.__name__)[:3]:
            value = source.values.get(name)
            plain = isinstance(value, int | float | str) and not isinstance(value, bool)
            if plain and (not others or any(source.values.get(each) is not None for each in others)):
                return value, source.where
        return None

    def _choose(self, path: str, name: str, uses_of: list[Use], annotation: Any, state: State) -> None:
        found = options(name, uses_of, annotation, self._around, self._modules)
        if not found:
            raise Unknown(f"no value for {path}")
        state.choices[path] = found[1:]
        state.values[path] = found[0]

    def _modules(self, name: str, annotation: Any) -> list[Any]:
        return modules_for(name, annotation, self.function, self.reader, self._planned)

    def _planned(self, kind: type) -> Call | None:
        """A call that constructs another class of the user's, for an argument that is a module."""
        if self.depth >= 2:
            return None
        required = required_parameters(kind)
        if not required:
            return None if required is None else Call(kind)
        inner = Search(kind, self.reader, self.construct, depth=self.depth + 1)
        inner._deadline = min(self._deadline, inner._deadline)
        plan = next(inner.plans(), None)
        return None if plan is None else plan.call

    def _settings_class(self, name: str, kind: type, state: State) -> Call:
        """A class of settings with its required fields guessed."""
        site = next(iter(call_sites(kind, self.reader)), None)
        kwargs: dict[str, Any] = dict(site.known) if site is not None else {}
        hints = resolved_hints(kind)
        for parameter in required_parameters(kind) or ():
            path = f"{name}.{parameter.name}"
            if path in state.values:
                kwargs[parameter.name] = state.values[path]
            elif parameter.name not in kwargs:
                self._choose(path, parameter.name, [], hints.get(parameter.name), state)
                kwargs[parameter.name] = state.values[path]
        return Call(kind, (), kwargs)

    def _settings_object(self, name: str, state: State) -> Call:
        """An object that answers for each field when it is asked: from the repository, else a guess."""
        given = dict(state.start.loose.get(name, {}))
        fields = {use.detail for use in self._uses.get(name, ()) if use.kind in ("attribute", "key")}
        best = self.reader.settings.best(fields, self.function.__name__)[:1] if fields else []

        def ask(key: str, must: bool) -> Any:
            path = f"{name}.{key}"
            if path in state.values:
                return state.values[path]
            for source in best:
                if source.values.get(key) is not None:
                    state.told[path] = source.where
                    state.values[path] = source.values[key]
                    return source.values[key]
            if not must:
                raise KeyError(key)
            try:
                state.values[path] = self.reader.settings.value(key, name, self.reader.own)
                state.told[path] = self.reader.settings.used[key]
            except Unknown:
                self._choose(path, key, [], None, state)
            return state.values[path]

        return Call(GuessedSettings, (given, ask))
