"""Which names a statement binds, changes and reads; nothing is executed."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterator

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def dotted(node: ast.expr) -> str | None:
    """``a.b.c`` of an attribute of a name, None for any other expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def root(node: ast.expr) -> str | None:
    """The name that an expression of attributes, items and calls starts from: ``a`` of ``a.b(1)[2].c``."""
    while True:
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
            node = node.value
        elif isinstance(node, ast.Call):
            node = node.func
        else:
            return None


def at_top(node: ast.AST) -> Iterator[ast.AST]:
    """A statement and what is in it, without the bodies of functions and classes."""
    yield node
    if isinstance(node, (*_DEFINITIONS, ast.Lambda)):
        return
    if isinstance(node, ast.comprehension):  # its targets are its own
        yield from at_top(node.iter)
        return
    for child in ast.iter_child_nodes(node):
        yield from at_top(child)


def bound(node: ast.stmt) -> tuple[str, ...]:
    """The names that a statement binds where it stands, each once, in order."""
    names: dict[str, None] = {}
    for each in at_top(node):
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            names[each.id] = None
        elif isinstance(each, _DEFINITIONS):
            names[each.name] = None
        elif isinstance(each, ast.Import | ast.ImportFrom):
            names.update((alias.asname or alias.name.partition(".")[0], None) for alias in each.names)
    names.pop("*", None)
    return tuple(names)


def changed(node: ast.stmt) -> frozenset[str]:
    """The names whose objects a statement changes: by assigning to attributes or items, or by calling a method."""
    names = set()
    for each in at_top(node):
        if isinstance(each, ast.Attribute | ast.Subscript) and isinstance(each.ctx, ast.Store | ast.Del):
            names.add(root(each))
        elif isinstance(each, ast.Expr) and isinstance(each.value, ast.Call):
            function = each.value.func
            if isinstance(function, ast.Attribute):
                names.add(root(function))
    return frozenset(name for name in names if name is not None)


class Scopes:
    """The names of the module that the definitions of a file read, from the compiler's own tables (a walk is slow)."""

    def __init__(self, source: str, file: str) -> None:
        tables = symtable.symtable(source, file, "exec").get_children()
        self.tables = {(table.get_name(), table.get_lineno()): table for table in tables}

    def read(self, node: ast.stmt) -> frozenset[str]:
        """As :func:`read`."""
        table = self.tables.get((node.name, node.lineno)) if isinstance(node, _DEFINITIONS) else None
        if table is None:
            return read(node)
        if isinstance(node, ast.ClassDef):
            around: set[str] = set().union(*map(read, (*node.decorator_list, *node.bases, *node.keywords)))
        else:
            assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            around, _ = _of_function(node, own=False)
        return frozenset(around.union(_globals(table)))


def _globals(table: symtable.SymbolTable) -> Iterator[str]:
    if isinstance(table, symtable.Function):
        yield from table.get_globals()
    else:
        yield from (name for name in table.get_identifiers() if table.lookup(name).is_global())
    for child in table.get_children():
        yield from _globals(child)


def read(node: ast.AST) -> frozenset[str]:
    """The names of the module that a statement reads, also later: in the bodies of its functions."""
    if isinstance(node, FunctionNode):
        outside, local = _of_function(node)
        inner: set[str] = set()
        children: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else [*node.body]
        for child in children:
            inner |= read(child)
        return frozenset(outside | (inner - local))
    if isinstance(node, ast.Name):
        return frozenset() if isinstance(node.ctx, ast.Store) else frozenset((node.id,))
    found: set[str] = set()
    for child in ast.iter_child_nodes(node):
        found |= read(child)
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        found.add(node.target.id)
    return frozenset(found)


def _of_function(node: FunctionNode, *, own: bool = True) -> tuple[set[str], set[str]]:
    """What a function reads where it is defined, and (with ``own``) the names that are its own."""
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
    local = {each.arg for each in every}
    around: list[ast.expr | None] = [*arguments.defaults, *arguments.kw_defaults, *(each.annotation for each in every)]
    if not isinstance(node, ast.Lambda):
        around += [*node.decorator_list, node.returns]
    if own and not isinstance(node, ast.Lambda):
        shared = {name for each in ast.walk(node) if isinstance(each, ast.Global) for name in each.names}
        local |= {name for child in node.body for name in bound(child)} - shared
    outside: set[str] = set()
    for each in around:
        if each is not None:
            outside |= read(each)
    return outside, local
