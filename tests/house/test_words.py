"""Facts that stand in two places and must agree: names, errors, versions, sizes."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import stablelint
from stablelint import errors

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("stablelint", "pytest_stablelint", "tests", "examples")
    for path in (ROOT / folder).rglob("*.py")
]


def test_public_names() -> None:
    assert sorted(stablelint.__all__) == ["Inputs", "__version__"]
    assert all(hasattr(stablelint, name) for name in stablelint.__all__)


def test_the_drawn_tree_of_errors_is_the_tree_of_classes() -> None:
    drawn: dict[str, str | None] = {}
    path: list[str] = []
    for indent, name in re.findall(r"^    ([ │├└─]*)([A-Z]\w+)  ", errors.__doc__ or "", re.MULTILINE):
        depth = len(indent) // 4
        path = [*path[:depth], name]
        drawn[name] = path[depth - 1] if depth else None
    classes = [
        value for value in vars(errors).values() if isinstance(value, type) and value.__module__ == errors.__name__
    ]
    parents = {value.__name__: value.__base__ for value in classes}
    assert drawn == {name: None if base is Exception else base.__name__ for name, base in parents.items()}


def test_the_version_is_the_same_everywhere() -> None:
    assert importlib.metadata.version("stablelint") == stablelint.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[^\]]*)\] - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    assert "## [Unreleased]" in changelog
    assert not released or released[0] == stablelint.__version__


def test_no_file_is_longer_than_people_read() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {path: length for path, length in lengths.items() if length > 320} == {}


def test_rules_holds_pages_and_no_python() -> None:
    assert list((ROOT / "rules").rglob("*.py")) == []
    assert all(path.parent == ROOT / "rules" for path in (ROOT / "rules").rglob("*.md"))
