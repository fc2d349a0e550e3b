"""Cached functions that are found after most modules have been looked through for good."""

from __future__ import annotations

import functools
import sys
import types

import pytest
from torch import nn

from stablelint.trace import caches


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_known", "_sizes", "_settled"):
        monkeypatch.setattr(caches, name, type(getattr(caches, name))())
    caches.settle()


def module(name: str) -> types.ModuleType:
    made = types.ModuleType(name)
    made.cached = functools.lru_cache(lambda: None)  # type: ignore[attr-defined]
    made.cached.__module__ = name
    return made


@pytest.mark.usefixtures("settled")
def test_later_modules_are_looked_through_also_below_those_that_were_imported_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    later = module("later_than_settled")
    monkeypatch.setitem(sys.modules, later.__name__, later)
    for again in ("functools", "types"):
        found = sys.modules.pop(again)
        sys.modules[again] = found
    assert any(each is later.cached for each in caches._reachable(nn.Linear(2, 2)))


@pytest.mark.usefixtures("settled")
def test_what_was_there_is_known_without_another_look(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(space: object) -> list[object]:
        raise AssertionError(space)

    monkeypatch.setattr(caches, "_defined", look)
    assert any(str(each.__module__).startswith("torch") for each in caches._reachable(nn.Linear(2, 2)))
