"""The import statements of a user's file; a placeholder takes the place of what cannot be imported."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Callable
from types import ModuleType

from stablelint.targets.imports import finder
from stablelint.targets.imports.folders import is_users
from stablelint.targets.imports.left_out import Record, record, why
from stablelint.targets.imports.limits import at_most
from stablelint.targets.imports.names import bound, read
from stablelint.targets.imports.placeholder import NOT_INSTALLED, PlaceholderUse, Reason, stand_in_for
from stablelint.targets.imports.relative import is_made_up, readable
from stablelint.targets.spec import shown

_SECONDS = 60.0  # a large library from a cold disk on a busy machine


class Importer:
    """Runs the imports of one file in ``module``; ``execute`` executes one statement there."""

    def __init__(
        self, module: ModuleType, tree: ast.Module, file: str, known: Record, execute: Callable[[ast.stmt], None]
    ) -> None:
        self.module = module
        self.tree = tree
        self.file = file
        self.record = known
        self.execute = execute
        self.namespace = vars(module)

    def run(self, node: ast.Import | ast.ImportFrom) -> None:
        """Bind the names of an import, to placeholders where it fails."""
        if isinstance(node, ast.ImportFrom):
            self._from(node)
            return
        for alias in node.names:
            self._import(ast.copy_location(ast.Import([alias]), node), alias)

    def _import(self, node: ast.Import, alias: ast.alias) -> None:
        error = self._error(node, alias.name)
        if error is None:
            return
        reason = self._reason(alias.name, error)
        top = alias.name.partition(".")[0]
        if alias.asname is not None:
            self._stand_in(alias.asname, alias.name, reason)
        elif top in sys.modules:
            self.namespace[top] = sys.modules[top]
            self.record.stood_in(reason)
        else:
            self._stand_in(top, top, reason)

    def _from(self, node: ast.ImportFrom) -> None:
        name = self._absolute(node)
        error = self._error(node, name)
        if error is None:
            return
        owner = sys.modules.get(name)
        if owner is None or (isinstance(error, ModuleNotFoundError) and error.name == name):
            reason = self._reason(name, error)
            for alias in node.names:
                self._alias(alias, name, reason)
            return
        for alias in node.names:
            single = ast.copy_location(ast.ImportFrom(node.module, [alias], node.level), node)
            again = self._error(single, name)
            if again is not None:
                self._alias(alias, name, self._lost_name(owner, name, alias.name, again))

    def _error(self, node: ast.stmt, name: str) -> BaseException | None:
        """What an import raises, None when it went well."""
        try:
            with finder.wanting(name), at_most(_SECONDS):
                self.execute(node)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return error
        return None

    def _alias(self, alias: ast.alias, owner: str, reason: Reason) -> None:
        if alias.name != "*":
            self._stand_in(alias.asname or alias.name, f"{readable(owner)}.{alias.name}", reason)
            return
        for name in self._undefined():
            self._stand_in(name, f"{readable(owner)}.{name}", reason)

    def _stand_in(self, name: str, path: str, reason: Reason) -> None:
        self.namespace[name] = stand_in_for(path, reason)
        self.record.stood_in(reason)

    def _undefined(self) -> frozenset[str]:
        """Names that the file reads and nothing in it binds: an import of everything may have meant them."""
        known = {name for node in self.tree.body for name in bound(node)}
        return read(self.tree) - known - vars(builtins).keys() - self.namespace.keys()

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = (self.module.__package__ or "").split(".")
        start = parts[: len(parts) - node.level + 1]
        return ".".join([*start, *([node.module] if node.module else [])])

    def _reason(self, name: str, error: BaseException) -> Reason:
        """Why a module cannot be imported."""
        top = name.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and not isinstance(error, PlaceholderUse) and error.name:
            lost = error.name.partition(".")[0]
            if lost != top:
                return Reason(lost, NOT_INSTALLED)
            if error.name == top:
                return Reason(top, NOT_INSTALLED)
            if is_made_up(top) or is_users(_file(top)):
                return Reason(readable(error.name), "cannot be found")
            return Reason(error.name, f"is not part of the installed {top}")
        if isinstance(error, SyntaxError) and is_users(error.filename):
            return Reason(
                readable(name), f"cannot be read: {shown(error.filename or name)}:{error.lineno} is not Python"
            )
        return Reason(readable(name), f"cannot be imported ({why(error)})")

    def _lost_name(self, owner: ModuleType, module: str, name: str, error: BaseException) -> Reason:
        """Why a module that is there does not have a name."""
        file = getattr(owner, "__file__", None)
        if not isinstance(error, ImportError) or (
            isinstance(error, ModuleNotFoundError) and error.name != f"{module}.{name}"
        ):
            return self._reason(f"{module}.{name}", error)
        full = f"{readable(module)}.{name}"
        known = record(file)
        left = known.binding(name) if known is not None else None
        if left is not None:
            return Reason(full, f"is missing, for line {left.line} of {shown(left.file)} was left out ({left.why})")
        if file is None or is_users(file):
            return Reason(full, "cannot be found")
        return Reason(full, f"is not part of the installed {module.partition('.')[0]}")


def _file(name: str) -> str | None:
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file is None and module is not None:
        file = next(iter(getattr(module, "__path__", ())), None)
    return file
