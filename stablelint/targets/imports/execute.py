"""Running a user's file statement by statement; what fails or takes long is left out and remembered."""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.util
import logging
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import Any

from stablelint.targets.imports.needed import bound, wanted
from stablelint.targets.imports.placeholder import Placeholder, is_placeholder

_SECONDS = 10.0
_SECONDS_OF_IMPORTS = 120.0
#: What only writes messages is replaced by Python's own logger.
_LOGGER = re.compile(r"_?(log|logger|LOG|LOGGER)")
_missing: dict[str, list[str]] = {}


class TooLong(BaseException):
    """A statement ran longer than it may."""


@dataclass(frozen=True)
class LeftOut:
    """A statement that was not run to its end: where, the names that it would have bound, and why."""

    file: str
    line: int
    names: tuple[str, ...]
    why: str


_MODULES: dict[str, list[LeftOut]] = {}


def left_out(module: ModuleType) -> tuple[LeftOut, ...]:
    """The statements of a module that failed while it was loaded."""
    return tuple(_MODULES.get(module.__name__, ()))


def missing(module: ModuleType) -> tuple[str, ...]:
    """The packages that a module imports and that are stood in for."""
    return tuple(dict.fromkeys(_missing.get(module.__name__, ())))


def run(module: ModuleType, source: bytes, file: str, *, everything: bool = False) -> None:
    """Fill ``module`` from its source; raises SyntaxError for what is no Python, and nothing else.

    ``everything`` is for a file that another one imports.
    """
    tree = ast.parse(source, file)
    _MODULES[module.__name__] = []
    _missing[module.__name__] = []
    runs = wanted(tree, everything=everything)
    flags = _future_flags(tree)
    for index, node in enumerate(tree.body):
        if index in runs:
            _statement(module, node, file, flags)


def _statement(module: ModuleType, node: ast.stmt, file: str, flags: int) -> None:
    namespace = vars(module)
    _without_absent_decorators(node, namespace)
    slow = isinstance(node, ast.Import | ast.ImportFrom | ast.ClassDef | ast.FunctionDef | ast.Try | ast.If)
    try:
        with _limited(_SECONDS_OF_IMPORTS if slow else _SECONDS), _lenient_options():
            exec(compile(ast.Module([node], []), file, "exec", flags=flags, dont_inherit=True), namespace)
        return
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        problem = error
    if _stand_in(module, node):
        return
    if isinstance(node, ast.If | ast.With | ast.Try) and _pieces(module, node, file, flags):
        return
    for name in bound(node):
        if _LOGGER.fullmatch(name):
            namespace[name] = logging.getLogger(module.__name__)
            return
    why = f"raises {' '.join(f'{type(problem).__name__}: {problem}'.split())[:200]}"
    if isinstance(problem, SystemExit):
        why = f"calls sys.exit({'' if problem.code is None else repr(problem.code)})"
    if isinstance(problem, TooLong):
        why = f"takes more than {_SECONDS:.0f} s"
    _MODULES[module.__name__].append(LeftOut(file, _line(problem, node, file), tuple(bound(node)), why))


def _line(error: BaseException, node: ast.stmt, file: str) -> int:
    """The innermost line of the file that led to the error."""
    lines = [line or 0 for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    return lines[-1] if lines else node.lineno


def _pieces(module: ModuleType, node: ast.If | ast.With | ast.Try, file: str, flags: int) -> bool:
    """A block that fails as a whole: its imports and definitions one by one."""
    found = False
    for each in node.body:
        if isinstance(each, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign):
            _statement(module, each, file, flags)
            found = True
    return found


def _stand_in(module: ModuleType, node: ast.stmt) -> bool:
    """Bind what an import statement would have bound to placeholders, one alias at a time."""
    if not isinstance(node, ast.Import | ast.ImportFrom):
        return False
    namespace = vars(module)
    for alias in node.names:
        if alias.name == "*":
            continue
        single: ast.stmt
        if isinstance(node, ast.Import):
            single, dotted = ast.Import([alias]), alias.name
        else:
            single = ast.ImportFrom(node.module, [alias], node.level)
            dotted = f"{'.' * node.level}{node.module or ''}.{alias.name}"
        name = alias.asname or (alias.name.partition(".")[0] if isinstance(node, ast.Import) else alias.name)
        code = compile(ast.Module([ast.fix_missing_locations(ast.copy_location(single, node))], []), "<import>", "exec")
        try:
            exec(code, namespace)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as problem:
            top = getattr(problem, "name", None) or dotted.lstrip(".")
            top = (
                top.partition(".")[0]
                if isinstance(problem, ModuleNotFoundError)
                else dotted.partition(".")[0] or dotted
            )
            if _LOGGER.fullmatch(name):
                namespace[name] = logging.getLogger(module.__name__)
                continue
            installed = isinstance(problem, ModuleNotFoundError) and not _is_there(top)
            why = "it is not installed" if installed else f"it cannot be imported ({type(problem).__name__}: {problem})"
            namespace[name] = Placeholder(dotted.lstrip("."), why)
            _missing[module.__name__].append(top)
    return True


def _is_there(top: str) -> bool:
    with contextlib.suppress(ImportError, ValueError):
        return importlib.util.find_spec(top) is not None
    return False


def _without_absent_decorators(node: ast.stmt, namespace: dict[str, Any]) -> None:
    """A decorator of a package that is not there is taken off, in a class also those of its methods."""
    for each in ast.walk(node):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            each.decorator_list = [
                decorator
                for decorator in each.decorator_list
                if not any(
                    isinstance(name, ast.Name) and is_placeholder(namespace.get(name.id))
                    for name in ast.walk(decorator)
                )
            ]


def _future_flags(tree: ast.Module) -> int:
    import __future__

    flags = 0
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            for alias in node.names:
                flags |= getattr(__future__, alias.name).compiler_flag
    return flags


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise TooLong in what runs longer; only in the main thread, where signals arrive."""
    if threading.current_thread() is not threading.main_thread() or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _lenient_options() -> Iterator[None]:
    """Options that a script requires are None: nobody typed them here."""
    error = argparse.ArgumentParser.error

    def lenient(_parser: argparse.ArgumentParser, message: str) -> Any:
        raise _RequiredError(message)

    parse = argparse.ArgumentParser.parse_known_args

    def parse_known_args(parser: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> Any:
        try:
            return parse(parser, [] if args is None else args, namespace)
        except _RequiredError:
            values = argparse.Namespace()
            for action in parser._actions:
                if action.dest is not argparse.SUPPRESS and action.default is not argparse.SUPPRESS:
                    default = action.default
                    if isinstance(default, str) and action.type is not None:
                        with contextlib.suppress(Exception):
                            default = action.type(default)  # type: ignore[operator]
                    setattr(values, action.dest, default)
            return values, []

    argparse.ArgumentParser.error = lenient  # type: ignore[method-assign,assignment]
    argparse.ArgumentParser.parse_known_args = parse_known_args  # type: ignore[assignment]
    try:
        yield
    finally:
        argparse.ArgumentParser.error = error  # type: ignore[method-assign]
        argparse.ArgumentParser.parse_known_args = parse  # type: ignore[method-assign]


class _RequiredError(Exception):
    """A parser asks for an option."""


def forget(names: list[str]) -> None:
    """Forget what was noted of modules that are no longer loaded."""
    for name in names:
        _MODULES.pop(name, None)
        _missing.pop(name, None)
        sys.modules.pop(name, None)
