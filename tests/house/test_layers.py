"""Who may import whom. The table is the architecture diagram: low layers first, torch only where it says so."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

WORDS = {"errors", "site", "finding", "rule", "inputs", "garbage"}
EVIDENCE = {"graph", "signals"}
RULES = {"causes", "symptoms"}
STEPS = {"judge", "suppress", "baseline", "report"}
TORCH = {"trace", "predict", "probe", "targets"}  # the only layers that import torch when they are imported

MAY_IMPORT: dict[str, set[str]] = {
    # the words
    "errors": set(),
    "site": set(),
    "finding": {"site"},
    "rule": {"finding"},
    "inputs": set(),
    "garbage": set(),
    "whatif": {"errors"},
    "feed": {"errors", "inputs"},
    # the evidence, and what is told from it
    "graph": WORDS,
    "signals": WORDS | {"graph"},
    "causes": WORDS | EVIDENCE,
    "symptoms": WORDS | EVIDENCE,
    "rulebook": WORDS | RULES,
    "judge": WORDS | EVIDENCE,
    "suppress": WORDS | {"rulebook"},
    "baseline": WORDS | {"rulebook"},
    "report": WORDS | {"signals"},
    "config": WORDS | {"rulebook"},
    # what runs models
    "trace": WORDS | EVIDENCE,
    "predict": WORDS | EVIDENCE,
    "probe": WORDS | EVIDENCE | {"trace", "feed"},
    "targets": WORDS | {"trace", "feed"},
    # one run, and who asks for it
    "api": WORDS | EVIDENCE | RULES | STEPS | TORCH | {"rulebook", "config", "whatif"},
    "jobs": WORDS
    | EVIDENCE
    | STEPS
    | TORCH
    | {"rulebook", "config", "whatif", "feed", "api"},  # the parent names them by path only
    "options": {"report"},
    "warm": WORDS | TORCH | {"api", "jobs"},  # as it names this
    "ranks": set(),
    "cli": WORDS | {"report", "options", "ranks", "rulebook", "config", "api"},
    "pytest_stablelint": WORDS | {"feed", "report", "suppress", "rulebook", "config", "api"},
}


def modules() -> Iterator[tuple[str, Path]]:
    """Each source file with its layer; the package's own ``__init__`` is the front door and belongs to none."""
    for package in ("stablelint", "pytest_stablelint"):
        for path in sorted((ROOT / package).rglob("*.py")):
            relative = path.relative_to(ROOT / package)
            if package == "pytest_stablelint":
                yield package, path
            elif relative != Path("__init__.py"):
                yield relative.parts[0].removesuffix(".py"), path


def imports(path: Path, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything that is imported, wherever in the file."""
    here = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*here[: -node.level], node.module or ""]).strip(".") if node.level else node.module or ""
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


every_module = pytest.mark.parametrize(
    ("name", "path"), [pytest.param(name, path, id=str(path.relative_to(ROOT))) for name, path in modules()]
)


def layer(name: str) -> str | None:
    """The layer that an imported name belongs to; None for what is not ours or is the front door."""
    top, _, rest = name.partition(".")
    if top == "pytest_stablelint":
        return top
    inner = rest.partition(".")[0]
    return inner if top == "stablelint" and inner in MAY_IMPORT else None


@pytest.mark.parametrize(
    ("name", "path"), [pytest.param(*found, id=str(found[1].relative_to(ROOT))) for found in modules()]
)
def test_a_module_imports_only_what_its_layer_may(name: str, path: Path) -> None:
    assert name in MAY_IMPORT, f"{name} has no row in the table"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for line, imported in imports(path, tree):
        target = layer(imported)
        allowed = target is None or target == name or target in MAY_IMPORT[name]
        assert allowed, f"{path.relative_to(ROOT)}:{line}: {name} may not import {imported}"


def at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: neither bodies of functions nor ``if TYPE_CHECKING:``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from at_import(node)


@pytest.mark.parametrize(
    ("name", "path"), [pytest.param(*found, id=str(found[1].relative_to(ROOT))) for found in modules()]
)
def test_torch_is_imported_only_where_models_run(name: str, path: Path) -> None:
    body = ast.Module(body=list(at_import(ast.parse(path.read_text(encoding="utf-8")))), type_ignores=[])
    direct = [node for node in body.body if isinstance(node, ast.Import | ast.ImportFrom)]
    for line, imported in imports(path, ast.Module(body=direct, type_ignores=[])):
        heavy = imported.partition(".")[0] in {"torch", "torchvision", "timm", "transformers"}
        assert name in TORCH or not heavy, (
            f"{path.relative_to(ROOT)}:{line}: {name} may not import torch at module level"
        )


def test_everything_but_the_layers_that_run_models_loads_without_torch() -> None:
    """The same, by its effect, so that no detour through another module is missed."""
    light = sorted({name for name, _ in modules()} - TORCH - {"api", "pytest_stablelint"})
    code = f"import importlib, sys; [importlib.import_module('stablelint.' + name) for name in {light}]"
    code += "; import pytest_stablelint.plugin; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_table_is_a_hierarchy() -> None:
    """No layer may import one that may import it."""
    for name, below in MAY_IMPORT.items():
        for other in below - {name}:
            assert name not in MAY_IMPORT[other], f"{name} and {other} may import each other"
