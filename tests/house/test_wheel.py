"""What is shipped: exactly two packages, with the pages of the rules inside."""

from __future__ import annotations

import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is needed to build the wheel here")
    folder = tmp_path_factory.mktemp("wheel")
    (path,) = builder.WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return zipfile.ZipFile(path)


def test_the_top_level_is_the_two_packages(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"stablelint", "pytest_stablelint"}


def test_every_page_and_the_type_marker_are_inside(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {f"stablelint/rules/{path.name}" for path in (ROOT / "rules").glob("*.md")} <= names
    assert {"stablelint/py.typed", "pytest_stablelint/py.typed"} <= names
    assert not [name for name in names if name.startswith("tests/") or "__pycache__" in name]


def test_metadata_names_the_entry_points_and_the_licence(wheel: zipfile.ZipFile) -> None:
    info = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")).rpartition("/")[0]
    entry_points = wheel.read(f"{info}/entry_points.txt").decode()
    assert "stablelint = stablelint.cli:main" in entry_points
    assert "stablelint = pytest_stablelint.plugin" in entry_points
    metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert metadata["License-Expression"] == "MIT"
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
