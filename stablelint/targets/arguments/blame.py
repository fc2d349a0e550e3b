"""Which guessed argument an error speaks of, and what else that argument might be."""

from __future__ import annotations

import ast
import contextlib
import inspect
import linecache
import re
import textwrap
import traceback
from collections.abc import Iterable, Iterator, Sequence
from types import FrameType
from typing import Any

_MOST_BLAMED = 4
_MOST_FRAMES = 8
_SIZES = (64, 8, 16, 32, 4, 128, 3, 1, 2)
_WANTS_LIST = re.compile(
    r"not iterable|not subscriptable|has no len|cannot unpack|not enough values|no attribute 'append'"
)
_WANTS_NUMBER = re.compile(
    r"'(list|tuple|str|NoneType|type|dict)' object cannot be interpreted as an integer|unsupported operand|must be int|"
    r"can only concatenate|can't multiply sequence|integer argument expected|'<' not supported|new\(\): data must be"
)
_WANTS_CALLABLE = re.compile(
    r"not callable|has no attribute '(parameters|to|forward|weight|register|children|modules)'"
)
_SIZE = re.compile(
    r"divisib|must be (a )?(multiple|equal|greater|less|positive|even|odd|in)|size|shape|mismatch|should", re.I
)


def blamed(error: BaseException, paths: Iterable[str], defaults: Iterable[str] = ()) -> list[str]:
    """The paths whose last name stands in the statements that failed, innermost statement first.

    Where none of them does, those of ``defaults`` that do; where neither, the last of the paths.
    """
    known: dict[str, list[str]] = {}
    for path in paths:
        known.setdefault(path.rpartition(".")[2], []).append(path)
    found: list[str] = []
    for frame, line in _frames(error):
        for name in _names(frame, line):
            found += known.get(name, [])
    text = str(error)
    for name, several in known.items():
        if len(name) > 2 and re.search(rf"\b{re.escape(name)}\b", text):
            found = [*several, *found]
    if not found:
        spare = set(defaults)
        found = [name for frame, line in _frames(error) for name in _names(frame, line) if name in spare]
    if not found:
        found = [path for several in known.values() for path in several][-_MOST_BLAMED:]
    return list(dict.fromkeys(found))[:_MOST_BLAMED]


def moves(error: BaseException, path: str, value: Any, choices: Sequence[Any]) -> list[Any]:
    """Other values for a path, likeliest first."""
    text = str(error)
    keys = _keys(error, path) if isinstance(error, KeyError) else []
    compared = _compared(error, path.rpartition(".")[2])
    rest = [each for each in choices if type(each) is not type(value) or each != value]
    if keys:
        return keys[:3]
    if isinstance(value, str) and (_WANTS_NUMBER.search(text) or _WANTS_LIST.search(text)):
        with contextlib.suppress(ValueError, SyntaxError):  # an option that the script evaluates itself
            return [ast.literal_eval(value), *_of(rest, int | float)[:2]]
    if _WANTS_LIST.search(text) and not isinstance(value, list | tuple):
        return [*_of(rest, list | tuple), *([[value] * 4, [value] * 2] if isinstance(value, int) else []), *rest[:1]][
            :3
        ]
    if _WANTS_CALLABLE.search(text) and not callable(value):
        return [each for each in rest if callable(each)][:4]
    if _WANTS_NUMBER.search(text) and not isinstance(value, int | float):
        return _of(rest, int | float)[:3]
    if compared and (isinstance(value, str) or not isinstance(value, int | float)):
        return [each for each in compared if each != value][:4]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int) and (_SIZE.search(text) or isinstance(error, AssertionError)):
        same = [each for each in rest if isinstance(each, int) and not isinstance(each, bool)]
        return list(dict.fromkeys(each for each in [*same[:3], *_SIZES] if each != value))[:5]
    return rest[:3]


def _of(values: Iterable[Any], kinds: Any) -> list[Any]:
    return [each for each in values if isinstance(each, kinds) and not isinstance(each, bool)]


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """Frames outside torch and this package, innermost first."""
    found = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if "/stablelint/" not in file and "/torch/" not in file:
            found.append((frame, line))
    yield from reversed(found[-_MOST_FRAMES:])


def _statement(frame: FrameType, line: int) -> ast.AST | None:
    """The smallest statement of the frame's function at a line; of a compound one only its head."""
    try:
        lines, first = inspect.getsourcelines(frame.f_code)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, IndentationError):
        text = linecache.getline(frame.f_code.co_filename, line).strip()
        try:
            return ast.parse(text)
        except SyntaxError:
            return None
    wanted = line - first + 1
    best: ast.stmt | None = None
    for node in ast.walk(tree):
        inside = isinstance(node, ast.stmt) and node.lineno <= wanted <= (node.end_lineno or node.lineno)
        if inside and not isinstance(node, ast.FunctionDef | ast.ClassDef):
            assert isinstance(node, ast.stmt)
            if best is None or (node.end_lineno or 0) - node.lineno <= (best.end_lineno or 0) - best.lineno:
                best = node
    if isinstance(best, ast.If | ast.While):
        return best.test
    return best.iter if isinstance(best, ast.For) else best


def _names(frame: FrameType, line: int) -> list[str]:
    node = _statement(frame, line)
    if node is None:
        return []
    names = []
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            names.append(each.id)
        elif isinstance(each, ast.Attribute):
            names.append(each.attr)
        elif isinstance(each, ast.Constant) and isinstance(each.value, str):
            names.append(each.value)
    return names


def _keys(error: BaseException, path: str) -> list[Any]:
    """The keys of the dict in which something was looked for in vain."""
    for frame, line in _frames(error):
        node = _statement(frame, line)
        for each in ast.walk(node) if node is not None else ():
            if isinstance(each, ast.Subscript) and path.rpartition(".")[2] in ast.unparse(each.slice):
                try:
                    owner = eval(ast.unparse(each.value), frame.f_globals, frame.f_locals)
                except Exception:  # what raised once may raise again
                    continue
                if isinstance(owner, dict):
                    return list(owner)
    return []


def _compared(error: BaseException, name: str) -> list[str]:
    """Texts that the functions which failed compare a name with."""
    found: list[str] = []
    for frame, _ in _frames(error):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(frame.f_code)))
        except (OSError, TypeError, SyntaxError, IndentationError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and name in ast.unparse(node.left):
                for each in node.comparators:
                    items = each.elts if isinstance(each, ast.List | ast.Tuple | ast.Set) else [each]
                    found += [
                        item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)
                    ]
    return list(dict.fromkeys(found))
