"""Which statements of a user's file its models need; nothing is executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from stablelint.targets.imports.models import Models
from stablelint.targets.imports.names import Scopes, at_top, bound, changed, dotted, read, root

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)
_BLOCKS = (ast.Try, ast.TryStar, ast.With, ast.AsyncWith, ast.Match)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
# Calls for their effect on what models are made of, or on what is said; all others are left alone.
_EFFECTS = (
    *("sys.path.", "sys.setrecursionlimit", "warnings.", "logging.", "random.seed", "np.random.seed", "os.chdir"),
    *(
        "numpy.random.seed",
        "os.environ.",
        "matplotlib.use",
        "torch.manual_seed",
        "torch.seed",
        "torch.cuda.manual_seed",
    ),
    *("torch.set_", "torch.random.", "torch.use_deterministic_algorithms", "torch.backends.", "torch.autograd.set_"),
    *("torch._dynamo.", "torch.serialization.", "site.addsitedir"),
)
_MODEL_METHODS = {
    *("apply", "eval", "train", "to", "cuda", "cpu", "half", "float", "double", "load_state_dict", "requires_grad_"),
    *("init_weights", "reset_parameters", "initialize", "add_module", "register_buffer", "register_parameter"),
}
_IN_PLACE = ("nn.init.", "torch.nn.init.", "init.")
_TRAINING = {"backward", "step", "zero_grad", "fit"}
# Calls that only make a value out of values.
_VALUES = {
    *("int", "float", "str", "bool", "list", "dict", "tuple", "set", "frozenset", "range", "len", "min", "max", "sum"),
    *("abs", "round", "zip", "enumerate", "sorted", "torch.device", "Path", "pathlib.Path", "namedtuple", "TypeVar"),
    *(
        "collections.namedtuple",
        "typing.TypeVar",
        "NewType",
        "partial",
        "functools.partial",
        "OrderedDict",
        "math.sqrt",
    ),
    *("os.path.join", "os.path.dirname", "os.path.abspath", "os.getenv", "os.environ.get", "re.compile", "isinstance"),
    *(
        "torch.cuda.is_available",
        "logging.getLogger",
        "os.path.exists",
        "collections.OrderedDict",
        "ParamSpec",
        "object",
    ),
}


@dataclass
class Selection:
    """Which statements of a file are executed.

    ``needed`` are the names that definitions and models read, also through other names; ``instances`` those that seem
    to hold a model.
    """

    models: Models
    needed: frozenset[str]
    instances: frozenset[str]
    _chosen: set[int] = field(repr=False, default_factory=set)

    def runs(self, node: ast.stmt) -> bool:
        """Whether a statement of the file (or of a block in it) is executed."""
        if isinstance(node, ast.If):
            return not is_script_guard(node) and any(self.runs(each) for each in (*node.body, *node.orelse))
        return id(node) in self._chosen


def select(tree: ast.Module, source: str, *, everything: bool = False) -> Selection:
    """Choose among the statements of a file: imports, definitions, and what these and models need.

    ``tree`` may have other imports than its ``source``.

    With ``everything`` all names that are assigned count as needed: another file may import them.
    """
    models = Models(tree)
    scopes = Scopes(source, "<source>")
    units = [_Unit(node, tests, scopes) for node, tests in _units(tree.body, frozenset())]
    instances: set[str] = set()
    for unit in units:
        if isinstance(unit.node, ast.Assign | ast.AnnAssign) and models.seems(unit.node.value, instances):
            instances |= set(unit.bound)
    needed: set[str] = set()
    if everything:
        needed |= {name for unit in units if isinstance(unit.node, _ASSIGNMENTS) for name in unit.bound}
    chosen: set[int] = set()
    defined = frozenset(name for unit in units if isinstance(unit.node, _DEFINITIONS) for name in unit.bound)
    fixed = frozenset(models.imported) | defined
    counted: set[int] = set()
    grew = True
    while grew:
        grew = False
        for unit in units:
            if id(unit.node) in counted:
                continue
            if id(unit.node) not in chosen and not _wanted(unit, models, needed, instances, fixed):
                continue
            chosen.add(id(unit.node))
            if unit.gives_needs(needed):
                counted.add(id(unit.node))
                grew = grew or not unit.needs <= needed
                needed |= unit.needs
                # What is chosen because of its own names may make those of others wanted.
    return Selection(models, frozenset(needed), frozenset(instances), chosen)


def is_script_guard(node: ast.If) -> bool:
    """``if __name__ == "__main__":``, also with further conditions."""
    tests = node.test.values if isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.And) else [node.test]
    return any(
        isinstance(test, ast.Compare)
        and "__name__" in read(test)
        and any("__main__" in ast.dump(each) for each in (test.left, *test.comparators))
        for test in tests
    )


class _Unit:
    """One statement with the names that decide about it; ``tests`` are those of the conditions that it stands under."""

    def __init__(self, node: ast.stmt, tests: frozenset[str], scopes: Scopes) -> None:
        self.node = node
        self.bound = bound(node)
        self.changed = changed(node)
        self.needs = scopes.read(node) | tests
        self.returns: bool | None = None
        self.constant = isinstance(node, ast.Assign | ast.AnnAssign) and _is_constant(node)

    def gives_needs(self, needed: set[str]) -> bool:
        """Whether what this statement reads is needed too: not for functions that nobody calls for their value."""
        node = self.node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if self.returns is None and node.name not in needed:
                self.returns = _returns(node)
            return node.name in needed or bool(self.returns)
        return not self.constant or bool(needed.intersection(self.bound))


def _units(body: list[ast.stmt], tests: frozenset[str]) -> Iterator[tuple[ast.stmt, frozenset[str]]]:
    """The statements that are executed one by one, those in the branches of ``if`` among them."""
    for node in body:
        if isinstance(node, ast.If):
            if not is_script_guard(node):
                inner = tests | read(node.test)
                yield from _units(node.body, inner)
                yield from _units(node.orelse, inner)
        else:
            yield node, tests


def _wanted(unit: _Unit, models: Models, needed: set[str], instances: set[str], fixed: frozenset[str]) -> bool:
    node = unit.node
    if isinstance(node, (*_IMPORTS, *_DEFINITIONS)) or type(node).__name__ == "TypeAlias":
        return True
    names = needed | instances
    if isinstance(node, _ASSIGNMENTS):
        if unit.constant or needed.intersection(unit.bound) or (names | fixed) & unit.changed:
            return True
        return bool(instances.intersection(unit.bound)) and models.seems(node.value, instances)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return _is_wanted_call(node.value, needed, instances, fixed - models.imported.keys())
    if isinstance(node, _BLOCKS):
        inner = [each for each in at_top(node) if each is not node]
        if any(isinstance(each, (*_IMPORTS, *_DEFINITIONS)) for each in inner):
            return True
        return bool(names.intersection(unit.bound)) or bool((needed - fixed) & unit.changed)
    if isinstance(node, _LOOPS):
        calls = {
            each.func.attr
            for each in ast.walk(node)
            if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute)
        }
        if calls & _TRAINING:
            return False
        return bool((needed - fixed) & (unit.changed | set(unit.bound)))
    return False


def is_effect(call: ast.Call) -> bool:
    """Whether a call is known for an effect on what models are made of, or on what is said."""
    return (dotted(call.func) or "").startswith((*_EFFECTS, *_IN_PLACE))


def _is_wanted_call(call: ast.Call, needed: set[str], instances: set[str], defined: frozenset[str]) -> bool:
    name = dotted(call.func)
    if name is not None and name.startswith(_IN_PLACE):
        return any(root(each) in instances for each in call.args)
    if is_effect(call):
        return True
    owner = root(call.func)
    if owner is None or owner in defined or not isinstance(call.func, ast.Attribute):
        return False
    if owner in instances:
        return call.func.attr in _MODEL_METHODS
    # Whether an imported name is a module, whose functions are not called, is seen when it is there.
    return owner in needed


def _is_constant(node: ast.Assign | ast.AnnAssign) -> bool:
    """Whether a value is made of literals and names, by calls at most that only make values."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if node.value is None or not all(isinstance(each, ast.Name | ast.Tuple) for each in targets):
        return False
    for each in at_top(node.value):
        if isinstance(each, ast.Call) and dotted(each.func) not in _VALUES:
            return False
        if isinstance(each, ast.Await | ast.Yield | ast.YieldFrom):
            return False
    return True


def _returns(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(
        isinstance(each, ast.Yield) or (isinstance(each, ast.Return) and each.value is not None)
        for each in ast.walk(node)
    )
