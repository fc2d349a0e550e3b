"""Objects that stand for settings whose fields are asked one by one: ``config.width``, ``cfg["width"]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

_NOTHING = object()


class GuessedSettings(dict[str, Any]):
    """Settings that answer any question, and remember the answers.

    ``ask(field, default)`` gives a value or raises KeyError. Fields are read as attributes or as items; ``in``,
    ``hasattr`` and ``get`` tell only what is ``given`` or known elsewhere.
    """

    def __init__(self, given: dict[str, Any], ask: Callable[[str, bool], Any]) -> None:
        super().__init__(given)
        object.__setattr__(self, "_ask", ask)

    def _answer(self, name: str, *, must: bool) -> Any:
        value = self._ask(name, must)
        self[name] = value
        return value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self.keys():
            return dict.__getitem__(self, name)
        try:
            return self._answer(name, must=True)
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __missing__(self, name: str) -> Any:
        return self._answer(name, must=True)

    def __contains__(self, name: object) -> bool:
        return self._told(name)

    def _told(self, name: object) -> bool:
        if dict.__contains__(self, name):
            return True
        if isinstance(name, str):
            try:
                self._answer(name, must=False)
            except KeyError:
                return False
            return True
        return False

    def get(self, name: Any, default: Any = None) -> Any:
        """The field where it is told, else ``default``."""
        return dict.__getitem__(self, name) if self._told(name) else default

    def pop(self, name: Any, default: Any = _NOTHING) -> Any:
        """The field, which stays."""
        if default is not _NOTHING:
            return self.get(name, default)
        return self[name]

    def __deepcopy__(self, memo: dict[int, Any]) -> GuessedSettings:
        return GuessedSettings(dict(self), self._ask)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self.keys()))

    def __reduce__(self) -> Any:
        return (dict, (dict(self),))

    def to_dict(self) -> dict[str, Any]:
        """The fields that are known so far."""
        return dict(self)
