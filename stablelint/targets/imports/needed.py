"""Which statements of a file its definitions need; a script's own work is left out."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator

_BUILTINS = frozenset(dir(builtins))
_EFFECTS = ("sys.path", "warnings.", "logging.", "random.seed", "torch.manual_seed", "torch.set_", "np.random.seed")
_OURS = {"example_inputs", "example_loss"}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)


def wanted(tree: ast.Module, *, everything: bool = False) -> set[int]:
    """The indices of the top-level statements that are run; with ``everything`` all names count as needed.

    Those of a file that others import may be: a file of constants defines nothing itself.
    """
    if not is_script(tree):
        return {index for index, node in enumerate(tree.body) if not is_main_guard(node)}
    needs = _needed_names(tree)
    if everything:
        needs |= {name for node in tree.body for name in bound(node)}
    return {index for index, node in enumerate(tree.body) if _runs(node, needs)}


def is_script(tree: ast.Module) -> bool:
    """Whether importing the file does work: a loop, or a call of one of its own functions for its effect."""
    own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    needs = _needed_names(tree)
    for node in tree.body:
        if isinstance(node, ast.For | ast.While) and not _fills(node, needs):
            return True
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _root(node.value.func) in own:
            return True
        if isinstance(node, ast.With) and not any(isinstance(each, _DEFINITIONS) for each in node.body):
            return True
    return False


def _runs(node: ast.stmt, needs: set[str]) -> bool:
    if isinstance(node, (*_DEFINITIONS, *_IMPORTS, ast.Global, ast.Pass)):
        return True
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Delete):
        return (
            bool(set(bound(node)) & _OURS)
            or bool(set(bound(node)) & needs)
            or set_in(node, needs)
            or _may_be_model(node)
            or _is_plain(node)
        )
    if isinstance(node, ast.Expr):
        return _mutates(node.value, needs)
    if is_main_guard(node):
        return False
    if isinstance(node, ast.If | ast.Try | ast.With):
        inside = [each for each in ast.walk(node) if isinstance(each, ast.stmt) and each is not node]
        return any(isinstance(each, (*_DEFINITIONS, *_IMPORTS)) or set(bound(each)) & needs for each in inside)
    if isinstance(node, ast.For | ast.While):
        return _fills(node, needs)
    return False


def is_main_guard(node: ast.stmt) -> bool:
    """``if __name__ == "__main__":``"""
    return isinstance(node, ast.If) and any(
        isinstance(each, ast.Name) and each.id == "__name__" for each in ast.walk(node.test)
    )


def bound(node: ast.AST) -> Iterator[str]:
    """The names that a statement binds at its own level."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from (each.id for each in ast.walk(target) if isinstance(each, ast.Name) and _stores(each))
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        if isinstance(node.target, ast.Name):
            yield node.target.id
    elif isinstance(node, _DEFINITIONS):
        yield node.name
    elif isinstance(node, _IMPORTS):
        for alias in node.names:
            yield alias.asname or (alias.name.partition(".")[0] if isinstance(node, ast.Import) else alias.name)
    elif isinstance(node, ast.For | ast.AsyncFor):
        yield from (each.id for each in ast.walk(node.target) if isinstance(each, ast.Name))
    elif isinstance(node, ast.With):
        for item in node.items:
            if isinstance(item.optional_vars, ast.Name):
                yield item.optional_vars.id


def _stores(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def set_in(node: ast.stmt, needs: set[str]) -> bool:
    """Whether a statement sets a field or an item of a needed name: ``args.cuda = ...``."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return any(isinstance(each, ast.Attribute | ast.Subscript) and _root(each) in needs for each in targets)


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _mutates(value: ast.expr, needs: set[str]) -> bool:
    """``parser.add_argument(...)``, ``sys.path.append(...)``; not ``main()``, nor methods of what is not needed."""
    if not isinstance(value, ast.Call):
        return False
    text = ast.unparse(value.func)
    if text.startswith(_EFFECTS):
        return True
    return isinstance(value.func, ast.Attribute) and _root(value.func) in needs


def _may_be_model(node: ast.stmt) -> bool:
    """``net = nn.Sequential(...)``: an instance that the file keeps."""
    value = getattr(node, "value", None)
    while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in ("to", "cuda"):
        value = value.func.value
    if not isinstance(value, ast.Call):
        return False
    name = ast.unparse(value.func)
    return name.startswith(("nn.", "torch.nn.")) and name.rpartition(".")[2] in (
        "Sequential",
        "ModuleList",
        "DataParallel",
    )


def _is_plain(node: ast.stmt) -> bool:
    """``WIDTH = 64``: a value without calls."""
    value = getattr(node, "value", None)
    return value is not None and not any(isinstance(each, ast.Call | ast.Await | ast.Yield) for each in ast.walk(value))


def _fills(node: ast.For | ast.While, needs: set[str]) -> bool:
    """A short loop that only fills needed names: a registry, a table."""
    if isinstance(node, ast.While) or sum(1 for _ in ast.walk(node)) > 80:
        return False
    inside = [each for each in ast.walk(node) if isinstance(each, ast.stmt) and each is not node]
    return any(set(bound(each)) & needs - set(bound(node)) or set_in(each, needs) for each in inside)


def _needed_names(tree: ast.Module) -> set[str]:
    """Names that definitions read, and in turn what the assignments that give these read."""
    needs: set[str] = set()
    for node in tree.body:
        for each in ast.walk(node):
            if isinstance(each, _DEFINITIONS):
                needs |= set(_read(each))
        if isinstance(node, ast.Assign | ast.AnnAssign) and _may_be_model(node):
            needs |= set(_read(node))
    statements = [node for node in tree.body if not isinstance(node, _DEFINITIONS) and not is_main_guard(node)]
    while True:
        more = set(needs)
        for node in statements:
            inner = [each for each in ast.walk(node) if isinstance(each, ast.stmt)]
            touches = any(set(bound(each)) & needs or set_in(each, needs) for each in inner)
            if touches or (isinstance(node, ast.Expr) and _mutates(node.value, needs)):
                more |= set(_read(node))
        if more == needs:
            return needs
        needs = more


def _read(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load) and each.id not in _BUILTINS:
            yield each.id
