"""From a request to models that can be checked, each with inputs; every failure is one sentence."""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import nn

from stablelint.errors import BuildTargetError, InputTargetError, TargetError, did_you_mean
from stablelint.feed import second_argument
from stablelint.inputs import Inputs
from stablelint.targets.attempt import Attempts
from stablelint.targets.callplan import Call
from stablelint.targets.checkpoint import fill
from stablelint.targets.discover import Found, discover, named, no_model
from stablelint.targets.inputs import Loss, Maker, check_example, example, example_loss, from_library, infer, input_seed
from stablelint.targets.library import LibraryModel, library_model
from stablelint.targets.lightning import network
from stablelint.targets.loading import entered, importable, load_file, load_module, sentence, settle
from stablelint.targets.methods import remark_of, through
from stablelint.targets.size import most_parameters, ran_out, too_large
from stablelint.targets.spec import LIBRARIES, Parts, Request, split

if TYPE_CHECKING:
    from stablelint.trace import Origins


@dataclass
class Built:
    """A model with its inputs; ``rebuild(seed)`` gives a fresh model and fresh inputs.

    The weights of a model that need not be run may be on meta, never allocated: ``origins.provenance`` then knows
    their distributions. ``rebuild`` always allocates. With a checkpoint it gives the same model and only fresh inputs.
    ``loss`` is the user's, None without one.
    """

    name: str
    model: nn.Module
    inputs: Inputs
    origins: Origins | None
    remarks: tuple[str, ...]
    rebuild: Callable[[int], tuple[nn.Module, Inputs]]
    loss: Loss | None = None


@dataclass
class Candidate:
    """A model that can be built; ``build`` raises BuildTargetError or InputTargetError.

    ``changed`` gives another candidate of the same place, with other fields of its source: ``found``, ``name``, or
    ``virtual``, which leaves the weights of any model on meta. ``library`` is None for a model of the user's.
    """

    name: str
    build: Callable[[], Built]
    found: Found
    library: LibraryModel | None
    changed: Callable[..., Candidate]


@dataclass
class _Source:
    """Where a candidate comes from, and whether it has the file for itself."""

    name: str
    found: Found
    module: ModuleType | None
    imported: Origins | None
    folders: tuple[Path, ...] = field(default_factory=entered)
    shared: bool = False
    real: bool = False
    virtual: bool = False
    checkpoint: Path | None = None
    library: LibraryModel | None = None
    first: _First | TargetError | None = field(default=None, repr=False)


#: A model, what was observed at its building, and what to say about it.
_First = tuple[nn.Module, "Origins | None", tuple[str, ...]]


def candidates(request: Request, *, real: bool = False, checkpoint: Path | None = None) -> list[Candidate]:
    """Import what the request names and find its models; user code runs.

    With ``real`` the models will be run: their weights must be allocated. ``checkpoint`` holds those of the one model
    that is going to be built. Raises ImportTargetError or BuildTargetError. A file that was found below a directory may
    hold no model: then the list is empty.
    """
    settle()
    checkpoint = None if checkpoint is None else checkpoint.resolve()  # user code may leave the folder
    parts = split(request.spec)
    if parts.kind in LIBRARIES:
        assert parts.name is not None
        importable(Path.cwd())
        library = library_model(parts.kind, parts.name, dict(parts.kwargs))
        found = Found(parts.name, "factory", library.make, library.make)
        return [_candidate(_Source(request.spec, found, None, None, library=library, real=real, checkpoint=checkpoint))]
    # Models at module level are built by the import.
    with _observed(None) as origins:
        module = load_module(parts.source) if parts.kind == "module" else load_file(Path(parts.source))
    text = _text(module)
    if parts.name is not None:
        found = _called(module, parts, text) if parts.called else named(module, parts.name, text, parts.source)
        name = f"{parts.source}:{found.name}"
        return [_candidate(_Source(name, found, module, origins, real=real, checkpoint=checkpoint))]
    every = [
        _Source(f"{parts.source}:{each.name}", each, module, origins, real=real, checkpoint=checkpoint)
        for each in discover(module, text or "")
    ]
    sources = _without_parts(every)
    for source in sources:
        source.shared = len(sources) > 1
    if not sources and not request.swept:
        raise BuildTargetError(no_model(parts.source, module))
    return [_candidate(source) for source in sources]


def _called(module: ModuleType, parts: Parts, text: str | None) -> Found:
    """A factory or class with the user's arguments."""
    assert parts.name is not None
    value: object = module
    for part in parts.name.split("."):
        if not hasattr(value, part):
            return named(module, parts.name, text, parts.source)  # raises the sentence
        value = getattr(value, part)
    if isinstance(value, nn.Module) or not callable(value):
        raise BuildTargetError(f"{parts.source}:{parts.name} is a {type(value).__name__}, which takes no arguments")
    kwargs = dict(parts.kwargs)
    try:
        inspect.signature(value).bind(*parts.args, **kwargs)
    except TypeError as error:
        known = list(inspect.signature(value).parameters)
        near = next((hint for key in kwargs if key not in known and (hint := did_you_mean(key, known))), "")
        raise BuildTargetError(f"{parts.source}:{parts.name}{parts.text}: {error}{near}") from None
    except ValueError:  # a signature that cannot be read
        pass
    kind = "class" if inspect.isclass(value) else "factory"
    return Found(f"{parts.name}{parts.text}", kind, Call(value, parts.args, kwargs), value)


def _candidate(source: _Source) -> Candidate:
    def changed(**fields: object) -> Candidate:
        return _candidate(replace(source, first=None, **fields))  # type: ignore[arg-type]

    return Candidate(source.name, lambda: _built(source), source.found, source.library, changed)


def _built(source: _Source) -> Built:
    importable(*source.folders)
    if isinstance(source.first, TargetError):
        raise source.first
    model, origins, remarks = source.first or _build(source)
    source.first = None
    attempts = Attempts(model, lambda: _construct(source, 0, observe=False)[0])
    maker, remark, loss = _maker(source, model, attempts)
    remarks += tuple(filter(None, [remark_of(model)]))
    inputs = _inputs(source, maker, 0, model)
    _materialise(model, inputs)

    if source.checkpoint is not None:
        assert origins is not None  # the first build is observed
        remarks += fill(model, origins, source.checkpoint, source.name)

    def rebuild(seed: int) -> tuple[nn.Module, Inputs]:
        if source.checkpoint is not None:  # trained weights and random ones have no common mean
            return model, _inputs(source, maker, seed, model)
        fresh, _ = _construct(source, seed, observe=False)
        made = _inputs(source, maker, seed, fresh)
        _materialise(fresh, made)
        return fresh, made

    return Built(source.name, model, inputs, origins, remarks + ((remark,) if remark else ()), rebuild, loss)


def _build(source: _Source) -> _First:
    """The first model of a source: allocated, unless it may stay without weights and is too large for them."""
    library = source.library
    remarks = (library.remark,) if library is not None and library.remark else ()
    if (source.virtual or (library is not None and library.virtual)) and not source.real:
        return *_construct(source, 0, allocate=False), remarks
    most = most_parameters(real=source.real)
    if library is not None and library.virtual and _count(_construct(source, 0, allocate=False)[0]) > most:
        raise BuildTargetError(too_large(source.name, most))
    try:
        return *_construct(source, 0, most=most), remarks
    except BuildTargetError as error:
        if not ran_out(error):
            raise
    if source.real:
        raise BuildTargetError(too_large(source.name, most))
    model, origins = _construct(source, 0, allocate=False)
    return model, origins, (*remarks, f"checked without allocating its {_count(model) / 1e9:.1f} billion parameters")


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _maker(source: _Source, model: nn.Module, attempts: Attempts) -> tuple[Maker, str | None, Loss | None]:
    """What makes inputs, a remark about them, and the user's loss."""
    loss = example_loss(model, source.found.value, source.module, source.name)
    given = example(model, source.found.value, source.module, source.name.rpartition(":")[0], loss)
    if given is not None:
        try:
            inputs = _inputs(source, given.make, 0, model)
            check_example(attempts, inputs, given, source.name)
        except InputTargetError:
            # One example_inputs() in a file of several models need not be meant for all of them, nor its loss.
            if not source.shared or "of the model" in given.where:
                raise
            loss = None
        else:
            return given.make, None, loss
    elif second_argument(loss):
        raise InputTargetError(f"example_loss of {source.name} takes a target; give it in example_inputs: (x, target)")
    if source.library is not None and source.library.inputs is not None:
        told = from_library(source.library, model, attempts)
        if told is not None:
            return *told, loss
    return *infer(model, attempts, source.name, in_file=source.module is not None), loss


def _construct(
    source: _Source, seed: int, *, observe: bool = True, allocate: bool = True, most: int | None = None
) -> tuple[nn.Module, Origins | None]:
    """A fresh model and what was observed at its building; without ``observe`` an instance is copied."""
    found = source.found
    seed_everything(seed)
    with sentence(BuildTargetError, "while the model is built", source.name):
        if found.kind == "instance":
            return (found.value if observe else copy.deepcopy(found.value)), source.imported
        observed = _observed(source.imported, allocate=allocate, most=most) if observe else nullcontext()
        with observed as origins:
            model = found.make()
    if not isinstance(model, nn.Module):
        raise BuildTargetError(f"{source.name} returns a {type(model).__name__}, not an nn.Module")
    return through(network(model)), origins


def _inputs(source: _Source, maker: Maker, seed: int, model: nn.Module) -> Inputs:
    seed = input_seed(seed, model)
    seed_everything(seed)
    with sentence(InputTargetError, "while example inputs are made", source.name):
        return maker(seed, model)


def _without_parts(sources: list[_Source]) -> list[_Source]:
    """Leave out models that only appear as parts of another one; needs them built when there are several."""
    if len(sources) < 2:
        return sources
    for source in sources:
        try:
            source.first = _build(source)
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


def _observed(
    origins: Origins | None, *, allocate: bool = True, most: int | None = None
) -> AbstractContextManager[Origins]:
    from stablelint.trace import observe_build

    return observe_build(origins, allocate=allocate, most=most)


def _text(module: ModuleType) -> str | None:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):
        return None
