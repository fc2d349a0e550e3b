"""From a request to models that can be checked, each with inputs; every failure is one sentence."""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import nn

from stablelint.errors import BuildTargetError, InputTargetError, TargetError
from stablelint.inputs import Inputs
from stablelint.targets.attempt import Attempts
from stablelint.targets.discover import Found, discover, named
from stablelint.targets.inputs import Maker, check_example, example, infer
from stablelint.targets.library import library_factory
from stablelint.targets.loading import entered, importable, load_file, load_module, sentence, settle
from stablelint.targets.spec import Request, split

if TYPE_CHECKING:
    from stablelint.trace import Origins

# Weights and inputs drawn from one seed would be the same numbers.
_INPUT_SEED = 1_000_003


@dataclass
class Built:
    """A model with its inputs; ``rebuild(seed)`` gives a fresh model and fresh inputs."""

    name: str
    model: nn.Module
    inputs: Inputs
    origins: Origins | None
    remarks: tuple[str, ...]
    rebuild: Callable[[int], tuple[nn.Module, Inputs]]


@dataclass
class Candidate:
    """A model that can be built; ``build`` raises BuildTargetError or InputTargetError."""

    name: str
    build: Callable[[], Built]


@dataclass
class _Source:
    """Where a candidate comes from, and whether it has the file for itself."""

    name: str
    found: Found
    module: ModuleType | None
    imported: Origins | None
    folders: tuple[Path, ...] = field(default_factory=entered)
    shared: bool = False
    first: tuple[nn.Module, Origins | None] | TargetError | None = field(default=None, repr=False)


def candidates(request: Request) -> list[Candidate]:
    """Import what the request names and find its models; user code runs.

    Raises ImportTargetError or BuildTargetError. A file that was found below a directory may hold no model: then the
    list is empty.
    """
    settle()
    parts = split(request.spec)
    if parts.kind in ("torchvision", "timm"):
        assert parts.name is not None
        importable(Path.cwd())
        make = library_factory(parts.kind, parts.name)
        return [_candidate(_Source(request.spec, Found(parts.name, "factory", make, make), None, None))]
    # Models at module level are built by the import.
    with _observed(None) as origins:
        module = load_module(parts.source) if parts.kind == "module" else load_file(Path(parts.source))
    text = _text(module)
    if parts.name is not None:
        found = named(module, parts.name, text, parts.source)
        return [_candidate(_Source(f"{parts.source}:{found.name}", found, module, origins))]
    every = [_Source(f"{parts.source}:{each.name}", each, module, origins) for each in discover(module, text or "")]
    sources = _without_parts(every)
    for source in sources:
        source.shared = len(sources) > 1
    if not sources and not request.swept:
        raise BuildTargetError(
            f"{parts.source} defines no model that can be built without arguments; add `def build(): return ...`"
        )
    return [_candidate(source) for source in sources]


def _candidate(source: _Source) -> Candidate:
    return Candidate(source.name, lambda: _built(source))


def _built(source: _Source) -> Built:
    importable(*source.folders)
    if isinstance(source.first, TargetError):
        raise source.first
    model, origins = source.first or _construct(source, 0)
    source.first = None
    attempts = Attempts(model, lambda: _construct(source, 0, observe=False)[0])
    maker, remark = _maker(source, model, attempts)
    remarks = (remark,) if remark else ()
    inputs = _inputs(source, maker, 0, model)
    _materialise(model, inputs)

    def rebuild(seed: int) -> tuple[nn.Module, Inputs]:
        fresh, _ = _construct(source, seed, observe=False)
        made = _inputs(source, maker, seed, fresh)
        _materialise(fresh, made)
        return fresh, made

    return Built(source.name, model, inputs, origins, remarks, rebuild)


def _maker(source: _Source, model: nn.Module, attempts: Attempts) -> tuple[Maker, str | None]:
    given = example(model, source.found.value, source.module, source.name.rpartition(":")[0])
    if given is not None:
        inputs = _inputs(source, given.make, 0, model)
        try:
            check_example(attempts, inputs, given, source.name)
        except InputTargetError:
            # One example_inputs() in a file of several models need not be meant for all of them.
            if not source.shared or "of the model" in given.where:
                raise
        else:
            return given.make, None
    return infer(model, attempts, source.name, in_file=source.module is not None)


def _construct(source: _Source, seed: int, *, observe: bool = True) -> tuple[nn.Module, Origins | None]:
    """A fresh model and what was observed at its building; without ``observe`` an instance is copied."""
    found = source.found
    seed_everything(seed)
    with sentence(BuildTargetError, "while the model is built", source.name):
        if found.kind == "instance":
            return (found.value if observe else copy.deepcopy(found.value)), source.imported
        with _observed(source.imported) if observe else nullcontext() as origins:
            model = found.make()
    if not isinstance(model, nn.Module):
        raise BuildTargetError(f"{source.name} returns a {type(model).__name__}, not an nn.Module")
    return model, origins


def _inputs(source: _Source, maker: Maker, seed: int, model: nn.Module) -> Inputs:
    seed_everything(_INPUT_SEED + seed)
    with sentence(InputTargetError, "while example inputs are made", source.name):
        return maker(_INPUT_SEED + seed, model)


def _without_parts(sources: list[_Source]) -> list[_Source]:
    """Leave out models that only appear as parts of another one; needs them built when there are several."""
    if len(sources) < 2:
        return sources
    for source in sources:
        try:
            source.first = _construct(source, 0)
        except TargetError as error:
            source.first = error
    kept = []
    models = [source.first[0] if isinstance(source.first, tuple) else None for source in sources]
    for source, model in zip(sources, models, strict=True):
        others = [each for each in models if each is not None and each is not model]
        if source.found.kind == "class":
            kind = source.found.value
            inside = any(type(part) is kind for other in others if type(other) is not kind for part in other.modules())
            built_elsewhere = any(type(other) is kind for other in others)
            base = model is None and any(isinstance(other, kind) for other in others)
            if inside or built_elsewhere or base:
                continue
        elif (
            source.found.kind in ("annotated", "returning", "instance") and model is not None and _is_bare_layer(model)
        ):
            continue
        if source.found.kind != "factory" and model is not None and not any(True for _ in model.parameters()):
            continue
        kept.append(source)
    return kept or sources[:1]


def _is_bare_layer(model: nn.Module) -> bool:
    return type(model).__module__.startswith("torch.nn.") and not any(True for _ in model.children())


def _materialise(model: nn.Module, inputs: Inputs) -> None:
    """Give lazy layers their shapes by one real pass."""
    if any(isinstance(each, nn.UninitializedParameter) for each in model.parameters()):
        with torch.no_grad(), sentence(InputTargetError, "in its forward pass", "the model"):
            model(*inputs.args, **inputs.kwargs)


def seed_everything(seed: int) -> None:
    """Seed torch, Python's random and numpy's global generator."""
    torch.manual_seed(seed)
    random.seed(seed)
    try:
        import numpy
    except ImportError:
        return
    numpy.random.seed(seed % 2**32)


def _observed(origins: Origins | None) -> AbstractContextManager[Origins]:
    from stablelint.trace import observe_build

    return observe_build(origins)


def _text(module: ModuleType) -> str | None:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):
        return None
