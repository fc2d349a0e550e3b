"""Command lines that a script asks for while it is imported: the defaults of its parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def raised_by_parser(error: SystemExit) -> bool:
    """Whether a parser of arguments ended the process."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == argparse.__file__:
            return True
        trace = trace.tb_next
    return False


@contextmanager
def instead_of_arguments() -> Iterator[None]:
    """While active, parsers give their defaults; what is required is None."""

    def known(
        parser: argparse.ArgumentParser, _args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        found = argparse.Namespace() if namespace is None else namespace
        for action in parser._actions:
            if action.dest == argparse.SUPPRESS or action.default == argparse.SUPPRESS or hasattr(found, action.dest):
                continue
            value = action.default
            if isinstance(value, str):  # as the parser itself does
                value = parser._get_value(action, value)
            setattr(found, action.dest, value)
        for name, value in parser._defaults.items():
            if not hasattr(found, name):
                setattr(found, name, value)
        return found, []

    def all_known(parser: argparse.ArgumentParser, _args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        return known(parser, _args, namespace)[0]

    kind: Any = argparse.ArgumentParser
    saved = kind.parse_args, kind.parse_known_args
    kind.parse_args, kind.parse_known_args = all_known, known
    try:
        yield
    finally:
        kind.parse_args, kind.parse_known_args = saved
