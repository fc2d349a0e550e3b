"""What stands for a package that is missing: it can be named, and says so when something uses it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from stablelint.targets.imports.folders import is_users
from stablelint.targets.spec import shown

NOT_INSTALLED = "is not installed"
_MADE = "(...)"
_MOVES = {"to", "cuda", "cpu", "eval", "train", "half", "float", "requires_grad_"}


@dataclass(frozen=True)
class Reason:
    """Why something is missing: the package or module (``tiktoken``), and the rest of the sentence about it."""

    package: str
    text: str = NOT_INSTALLED

    @property
    def absent(self) -> bool:
        """Whether a package is missing that could be installed."""
        return self.text == NOT_INSTALLED

    def __str__(self) -> str:
        """``tiktoken is not installed``."""
        return f"{self.package} {self.text}"


class PlaceholderUse(ModuleNotFoundError):  # noqa: N818 (what user code did)
    """Code used what is missing; ``what`` is the end of the sentence: ``tiktoken.Encoding, which is not installed``."""

    def __init__(self, message: str, what: str, reason: Reason) -> None:
        super().__init__(message, name=reason.package)
        self.what = what
        self.reason = reason


#: What was touched: the reason, and the user's file that did it.
_touches: list[tuple[Reason, str]] = []


def marker() -> int:
    """Where :func:`touched` shall begin."""
    return len(_touches)


def touched(since: int = 0, file: str | None = None) -> tuple[Reason, ...]:
    """What user code (of ``file``) has touched of packages that are missing since a :func:`marker`, each once."""
    return tuple(dict.fromkeys(reason for reason, by in _touches[since:] if file is None or by == file))


def touch(reason: Reason, file: str | None = None) -> None:
    """Remember that user code touched what is missing; nothing is when we ourselves or a library looked at it."""
    by = file or _place()[0]
    if by is not None:
        _touches.append((reason, by))


class SilentLogger(logging.Logger):
    """In place of a logger that could not be made: it says nothing, which changes no model."""

    def __init__(self, name: str = "missing") -> None:
        super().__init__(name, level=logging.CRITICAL + 1)
        self.addHandler(logging.NullHandler())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._nothing

    def _nothing(self, *_args: Any, **_kwargs: Any) -> None:
        """What other logging packages offer beyond Python's own."""


def stand_in_for(path: str, reason: Reason) -> Any:
    """What takes the place of a missing object: a placeholder, or a silent logger for what is called like one."""
    if path.rpartition(".")[2].lower().strip("_") in ("log", "logger"):
        return SilentLogger()
    return Placeholder(path, reason)


class Placeholder:
    """Something of a missing package: attributes, items and objects are placeholders too, uses raise PlaceholderUse."""

    __slots__ = ("_path", "_reason")

    def __init__(self, path: str, reason: Reason) -> None:
        object.__setattr__(self, "_path", path)
        object.__setattr__(self, "_reason", reason)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"{self!r} has no {name}")
        touch(self._reason)
        return Placeholder(f"{self._path}.{name}", self._reason)

    def __setattr__(self, name: str, value: Any) -> None:
        touch(self._reason)

    def __delattr__(self, name: str) -> None:
        touch(self._reason)

    def __getitem__(self, key: Any) -> Placeholder:
        touch(self._reason)
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        touch(self._reason)

    def __or__(self, other: Any) -> Any:
        return self

    def __ror__(self, other: Any) -> Any:
        return self

    def __instancecheck__(self, instance: Any) -> bool:
        touch(self._reason)
        return False

    def __subclasscheck__(self, kind: type) -> bool:
        touch(self._reason)
        return False

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        from stablelint.targets.imports.standin import stand_in

        return (stand_in(self._path, self._reason, bases),)

    def __copy__(self) -> Placeholder:
        return self

    def __deepcopy__(self, memo: Any) -> Placeholder:
        return self

    def __reduce__(self) -> tuple[type[Placeholder], tuple[str, Reason]]:
        return Placeholder, (self._path, self._reason)

    def __eq__(self, other: Any) -> bool:
        # typing and dataclasses compare types with each other; a version or a setting is another matter.
        if isinstance(other, str | bytes | int | float | complex | tuple | list | dict | set):
            raise self._used()
        return other is self

    def __hash__(self) -> int:
        return hash((self._path, self._reason))

    def __repr__(self) -> str:
        return f"<stand-in for {self._path}>"

    def __call__(self, *_args: Any, **_kwargs: Any) -> Placeholder:
        """Raise PlaceholderUse, unless this seems to be a class: an object that nothing uses does no harm.

        A metric or a tokenizer that a constructor keeps is a placeholder too, also when it is moved to a device.
        """
        owner, _, last = self._path.rpartition(".")
        if owner.endswith(_MADE) and last in _MOVES:
            touch(self._reason)
            return Placeholder(owner, self._reason)
        if not (last[:1].isupper() and any(each.islower() for each in last)) or last.endswith(_MADE):
            raise self._used()
        touch(self._reason)
        return Placeholder(self._path + _MADE, self._reason)

    def _used(self) -> PlaceholderUse:
        file, line = _place()
        if file is not None:
            _touches.append((self._reason, file))
        what = f"{self._path}, which {self._reason.text}"
        if self._path.split(".")[0] != self._reason.package.split(".")[0]:
            what = f"{self._path}: {self._reason}"
        where = f"{shown(file)}:{line}" if file is not None else "it"
        return PlaceholderUse(f"{where} uses {what}", what, self._reason)


def _place() -> tuple[str | None, int]:
    """File and line of the user code that is running, None when a library or we came in between."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    file = frame.f_code.co_filename
    return (file, frame.f_lineno) if is_users(file) else (None, 0)


def _refusing() -> Callable[..., NoReturn]:
    def refuse(self: Placeholder, *_args: Any) -> NoReturn:
        raise self._used()

    return refuse


for _name in (
    *("bool", "iter", "next", "len", "contains", "enter", "exit", "aenter", "aiter", "anext", "await"),
    *("int", "float", "complex", "index", "bytes", "str", "format", "fspath", "round", "neg", "pos", "abs", "invert"),
    *("lt", "le", "gt", "ge", "and", "rand", "xor", "rxor", "lshift", "rshift"),
    *(side + op for op in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul") for side in ("", "r")),
):
    setattr(Placeholder, f"__{_name}__", _refusing())
