"""Executing a user's file statement by statement; what fails is left out and remembered."""

from __future__ import annotations
import __future__

import ast
import contextlib
import inspect
import traceback
from collections.abc import Callable
from types import CodeType, ModuleType

from stablelint.targets.imports import decorators, defaults, standin
from stablelint.targets.imports.importing import Importer
from stablelint.targets.imports.left_out import ONLY_A_SCRIPT, LeftOut, Record, TooLong, begin, why
from stablelint.targets.imports.limits import at_most
from stablelint.targets.imports.names import at_top, bound, root
from stablelint.targets.imports.placeholder import Placeholder, PlaceholderUse, marker, stand_in_for, touched
from stablelint.targets.imports.selection import Selection, is_effect, is_script_guard, select

_SECONDS = 5.0  # of a statement that makes a value
_MODEL_SECONDS = 30.0  # of one that makes a model, or of a definition
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def execute(module: ModuleType, tree: ast.Module, source: str, file: str, *, imported: bool = False) -> Record:
    """Execute what the definitions and models of a file need in ``module``; never raises for the user's code.

    Of a file that another one imports, what it assigns is needed too.
    """
    record = begin(file)
    since = marker()
    _Execution(module, file, record, tree, select(tree, source, everything=imported)).run()
    record.used = touched(since, file)
    return record


class _Execution:
    """The state of one execution: the module that grows, and what was left out of it."""

    def __init__(self, module: ModuleType, file: str, record: Record, tree: ast.Module, selection: Selection) -> None:
        self.module = module
        self.tree = tree
        self.file = file
        self.record = record
        self.namespace = vars(module)
        self.selection = selection
        self.flags = _future_flags(tree)
        self.importer = Importer(module, tree, file, record, self.exec)

    def run(self) -> None:
        self.module.__doc__ = ast.get_docstring(self.tree, clean=False)
        self.body(self.tree.body)

    def body(self, statements: list[ast.stmt]) -> None:
        for node in statements:
            if isinstance(node, ast.If) and is_script_guard(node):
                self.record.scripts.append(LeftOut(node.lineno, bound(node), ONLY_A_SCRIPT, self.file))
                self.body(node.orelse)
            elif self.selection.runs(node):
                self.statement(node)

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.If):
            self.branch(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            self.importer.run(node)
        elif not self.is_skipped(node):
            self.attempt(node, self.seconds(node))

    def branch(self, node: ast.If) -> None:
        """Look at the condition, then run the branch that it chooses."""
        try:
            with at_most(_SECONDS):
                chosen = bool(eval(self.compiled(node.test), self.namespace))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.leave_out(node, error)
        else:
            self.body(node.body if chosen else node.orelse)

    def attempt(self, node: ast.stmt, seconds: float) -> None:
        """Execute one statement, once more in another way where that may help."""
        try:
            with at_most(seconds):
                self.exec(decorators.dropped(node, self.namespace, self.file))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            again = self.other_way(node, error)
            if again is None:
                self.leave_out(node, error)
                return
            try:
                with at_most(seconds):
                    again()
            except KeyboardInterrupt:
                raise
            except BaseException as second:
                self.leave_out(node, second)

    def other_way(self, node: ast.stmt, error: BaseException) -> Callable[[], None] | None:
        """Another way to execute a statement that raised ``error``, None when there is none."""
        if isinstance(node, _DEFINITIONS) and isinstance(error, PlaceholderUse | NameError):
            bare = decorators.without(node, self.namespace, self.record)
            return None if bare is None else lambda: self.exec(bare)
        if isinstance(error, SystemExit) and defaults.raised_by_parser(error):
            return lambda: self.with_defaults(node)
        inside = [each for each in at_top(node) if isinstance(each, ast.Import | ast.ImportFrom)]
        if inside and not isinstance(error, TooLong) and _from_import(error):
            return lambda: self.with_imports_done(node, inside)
        return None

    def with_defaults(self, node: ast.stmt) -> None:
        with defaults.instead_of_arguments():
            self.exec(node)

    def with_imports_done(self, node: ast.stmt, inside: list[ast.Import | ast.ImportFrom]) -> None:
        """Execute a block again whose handler failed as well: its imports stand in for what is missing."""
        for each in inside:
            self.importer.run(each)
        self.exec(_Without(inside).visit(_copied(node)))

    def exec(self, node: ast.stmt) -> None:
        forward = isinstance(node, ast.ClassDef) and any(
            isinstance(each, ast.FunctionDef) and each.name == "forward" for each in node.body
        )
        with standin.defining(module=True) if forward else contextlib.nullcontext():
            exec(self.compiled(node), self.namespace)

    def compiled(self, node: ast.stmt | ast.expr) -> CodeType:
        expression = isinstance(node, ast.expr)
        whole = ast.Expression(node) if isinstance(node, ast.expr) else ast.Module([node], [])
        code: CodeType = compile(whole, self.file, "eval" if expression else "exec", self.flags, dont_inherit=True)
        return code

    def seconds(self, node: ast.stmt) -> float:
        if isinstance(node, _DEFINITIONS) or any(
            isinstance(each, ast.Import | ast.ImportFrom) for each in at_top(node)
        ):
            return _MODEL_SECONDS
        names = bound(node)
        return _MODEL_SECONDS if any(name in self.selection.instances for name in names) else _SECONDS

    def is_skipped(self, node: ast.stmt) -> bool:
        """Whether only the objects that are there show that a statement is not one to execute."""
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            return self.is_function_of_module(node.value)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            names = set(bound(node))
            if names and names <= self.selection.instances and not names & self.selection.needed:
                name = self.selection.models.uncertain(node.value)
                return name is not None and self.is_no_model(name)
        return False

    def is_function_of_module(self, call: ast.Call) -> bool:
        """A call for its effect that neither changes a model nor is known to change how models are made."""
        owner = root(call.func)
        value = self.namespace.get(owner or "")
        if isinstance(value, Placeholder):
            return True
        known = is_effect(call)
        return not known and isinstance(value, ModuleType | type)

    def is_no_model(self, name: str) -> bool:
        """Whether a class that is called at module level makes something else than a model."""
        value = self.value(name)
        if not inspect.isclass(value):
            return False
        from torch import nn

        return not issubclass(value, nn.Module)

    def value(self, name: str) -> object:
        """What a dotted name of the file means now, None where it means nothing."""
        first, *rest = name.split(".")
        value = self.namespace.get(first)
        for part in rest:
            value = getattr(value, part, None)
        return value

    def line(self, node: ast.stmt, error: BaseException) -> int:
        """The line of a statement that raised, in a class the innermost one."""
        lines = [
            line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == self.file
        ]
        inside = [line for line in lines if node.lineno <= line <= (node.end_lineno or node.lineno)]
        return inside[-1] if inside else node.lineno

    def leave_out(self, node: ast.stmt, error: BaseException) -> None:
        """Remember a statement that failed; what it would have made of something missing is missing too."""
        names = bound(node)
        spare = isinstance(node, ast.Assign) and not self.selection.needed.intersection(names)
        if spare and isinstance(error, NameError):
            return  # a constant of what was not executed: "steps = len(loader)"
        self.record.left_out.append(LeftOut(self.line(node, error), names, why(error), self.file))
        if isinstance(error, PlaceholderUse):
            for name in names:
                self.namespace.setdefault(name, stand_in_for(name, error.reason))


class _Without(ast.NodeTransformer):
    """Replaces imports by nothing, found by their places."""

    def __init__(self, imports: list[ast.Import | ast.ImportFrom]) -> None:
        self.places = {(each.lineno, each.col_offset) for each in imports}

    def visit_Import(self, node: ast.Import) -> ast.stmt:
        return self.passed(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt:
        return self.passed(node)

    def passed(self, node: ast.Import | ast.ImportFrom) -> ast.stmt:
        return ast.copy_location(ast.Pass(), node) if (node.lineno, node.col_offset) in self.places else node


def _copied(node: ast.stmt) -> ast.stmt:
    import copy

    return copy.deepcopy(node)


def _from_import(error: BaseException | None) -> bool:
    """Whether an import failed on the way to an error."""
    for _ in range(10):
        if error is None or isinstance(error, ImportError):
            return error is not None
        error = error.__cause__ or error.__context__
    return False


def _future_flags(tree: ast.Module) -> int:
    flags = 0
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__" and not node.level:
            for alias in node.names:
                feature = getattr(__future__, alias.name, None)
                flags |= feature.compiler_flag if feature is not None else 0
    return flags
