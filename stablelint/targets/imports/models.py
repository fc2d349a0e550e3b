"""Whether an expression seems to be a model, by its text; nothing is executed."""

from __future__ import annotations

import ast

from stablelint.targets.imports.names import dotted, root

_PASSED_THROUGH = {
    "to",
    "cuda",
    "cpu",
    "eval",
    "train",
    "half",
    "float",
    "double",
    "bfloat16",
    "requires_grad_",
    "apply",
}
_WRAPPERS = {"DataParallel", "DistributedDataParallel", "compile", "script", "Sequential"}
_LIBRARIES = ("torchvision.models", "timm", "transformers", "segmentation_models_pytorch", "torchvision")
# CamelCase names of other things that scripts make at module level.
_OTHERS = (
    *("Dataset", "Loader", "Writer", "Scheduler", "LR", "Tokenizer", "Logger", "Parser", "Env", "Config", "Compose"),
    *(
        "Sampler",
        "Adam",
        "AdamW",
        "SGD",
        "RMSprop",
        "Trainer",
        "Callback",
        "Path",
        "Namespace",
        "Lock",
        "Queue",
        "Pool",
    ),
)
_OTHER_PACKAGES = {
    *("numpy", "pandas", "matplotlib", "argparse", "pathlib", "collections", "logging", "os", "sys", "tqdm", "wandb"),
    *("datetime", "time", "random", "gym", "gymnasium", "PIL", "sklearn", "datasets", "tokenizers", "typing", "yaml"),
}
_OTHER_MODULES = ("torch.optim", "torch.utils", "torchvision.datasets", "torchvision.transforms", "torch.distributions")


class Models:
    """What a file's own text says about models: its classes, its functions that return one, what it imports."""

    def __init__(self, tree: ast.Module) -> None:
        nodes = [node for each in tree.body for node in (each, *_inside(each))]
        self.imported = dict(pair for node in nodes for pair in _imports(node))
        self.classes: set[str] = set()
        for node in nodes:
            if isinstance(node, ast.ClassDef) and self._is_model_class(node):
                self.classes.add(node.name)
        self.functions: set[str] = set()
        for node in nodes:
            if isinstance(node, ast.FunctionDef) and self._gives_model(node):
                self.functions.add(node.name)

    def seems(self, value: ast.expr | None, known: frozenset[str] | set[str] = frozenset()) -> bool:
        """Whether ``value`` seems to be a model, or several; ``known`` are names that hold one."""
        if isinstance(value, ast.Tuple | ast.List):
            return any(self.seems(each, known) for each in value.elts)
        if isinstance(value, ast.IfExp):
            return self.seems(value.body, known) or self.seems(value.orelse, known)
        if not isinstance(value, ast.Call):
            return False
        function = value.func
        if isinstance(function, ast.Attribute) and function.attr in _PASSED_THROUGH:
            inner = function.value
            return (isinstance(inner, ast.Name) and inner.id in known) or self.seems(inner, known)
        last = (dotted(function) or "").rpartition(".")[2]
        if last in _WRAPPERS and value.args:
            first = value.args[0]
            if (isinstance(first, ast.Name) and first.id in known) or self.seems(first, known):
                return True
        start = root(function)
        if start in self.classes or (isinstance(function, ast.Name) and start in self.functions):
            return True
        name = dotted(function)
        return name is not None and self._imported_model(name)

    def uncertain(self, value: ast.expr) -> str | None:
        """The name of the function of a call that may make a model, where only that function can tell."""
        while (
            isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in _PASSED_THROUGH
        ):
            value = value.func.value
        if not isinstance(value, ast.Call) or root(value.func) in self.classes | self.functions:
            return None
        return dotted(value.func)

    def _imported_model(self, name: str) -> bool:
        start, _, rest = name.partition(".")
        origin = self.imported.get(start)
        if origin is None:
            return False
        path = f"{origin}.{rest}" if rest else origin
        last = path.rpartition(".")[2]
        if path.startswith("torch.nn.") and not path.startswith("torch.nn.utils"):
            return last[:1].isupper() and last not in ("Parameter", "ParameterList", "ParameterDict")
        if path.startswith("torch.jit.load"):
            return False
        if path.startswith(_OTHER_MODULES) or path.partition(".")[0] in _OTHER_PACKAGES or last.endswith(_OTHERS):
            return False
        if path.startswith(_LIBRARIES):
            return True
        if path.startswith("torch."):
            return False
        camel = last[:1].isupper() and not last.isupper()
        factory = any(word in path.lower() for word in ("model", "net")) and last[:1].islower()
        return camel or factory

    def _is_model_class(self, node: ast.ClassDef) -> bool:
        if any(isinstance(each, ast.FunctionDef) and each.name == "forward" for each in node.body):
            return True
        names = [dotted(base) or "" for base in node.bases]
        return any(name in self.classes or name.endswith("Module") or self._imported_model(name) for name in names)

    def _gives_model(self, node: ast.FunctionDef) -> bool:
        if node.returns is not None and (dotted(node.returns) or "").endswith("Module"):
            return True
        holding: set[str] = set()
        for each in ast.walk(node):
            if isinstance(each, ast.Assign) and self.seems(each.value, holding):
                holding |= {target.id for target in each.targets if isinstance(target, ast.Name)}
        returned = [each.value for each in ast.walk(node) if isinstance(each, ast.Return)]
        return any(
            self.seems(each, holding) or (isinstance(each, ast.Name) and each.id in holding) for each in returned
        )


def _inside(node: ast.stmt) -> list[ast.stmt]:
    """The statements in the blocks of a statement, but for definitions."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return []
    found: list[ast.stmt] = []
    for block in ("body", "orelse", "finalbody"):
        for each in getattr(node, block, []):
            found += [each, *_inside(each)]
    for handler in getattr(node, "handlers", []):
        for each in handler.body:
            found += [each, *_inside(each)]
    return found


def _imports(node: ast.stmt) -> list[tuple[str, str]]:
    if isinstance(node, ast.Import):
        return [
            (each.asname or each.name.partition(".")[0], each.name if each.asname else each.name.partition(".")[0])
            for each in node.names
        ]
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        start = "." * node.level + module
        return [(each.asname or each.name, f"{start}.{each.name}") for each in node.names]
    return []
