"""From a request to models that can be checked, each with inputs; every failure is one sentence."""

from __future__ import annotations

import inspect
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from torch import nn

from stablelint.errors import BuildTargetError, InputTargetError, TargetError, did_you_mean
from stablelint.feed import second_argument
from stablelint.inputs import Inputs
from stablelint.targets.arguments.search import Search
from stablelint.targets.attempt import Attempts
from stablelint.targets.callplan import Call
from stablelint.targets.checkpoint import fill
from stablelint.targets.classes import is_abstract, main_classes, module_classes, stands_for
from stablelint.targets.discover import Found, discover, named, no_model, no_values, searched
from stablelint.targets.downloads import remark as absent_weights
from stablelint.targets.evidence.reader import Reader
from stablelint.targets.imports.left_out import stood_in_for
from stablelint.targets.imports.placeholder import PlaceholderUse, marker, touched
from stablelint.targets.inputs import Loss, Maker, check_example, example, example_loss, from_library, infer
from stablelint.targets.library import library_model
from stablelint.targets.loading import importable, load_file, load_module, require, settle
from stablelint.targets.methods import remark_of
from stablelint.targets.seen import seen_inputs
from stablelint.targets.size import most_parameters, ran_out, too_large
from stablelint.targets.source import Built, Candidate, First, Source, construct, made_inputs, materialise, observed
from stablelint.targets.spec import LIBRARIES, Parts, Request, split

#: How many ways to construct a class are tried when its forward pass accepts no inputs.
_MOST_PLANS = 4


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
        return [_candidate(Source(request.spec, found, None, None, library=library, real=real, checkpoint=checkpoint))]
    # Models at module level are built by the import.
    with observed(None) as origins:
        loaded = load_module(parts.source) if parts.kind == "module" else load_file(Path(parts.source))
    module, text = loaded.module, loaded.source
    reader = Reader(module, Path(module.__file__ or parts.source))

    def source(found: Found, *, main: bool = True) -> Source:
        name = f"{parts.source}:{found.name}"
        fixed = {"real": real, "checkpoint": checkpoint, "main": main, "reader": reader}
        return Source(name, found, module, origins, **fixed)  # type: ignore[arg-type]

    if parts.name is not None:
        require(loaded, parts.name, parts.source)
        found = _called(module, parts, text) if parts.called else named(module, parts.name, text, parts.source)
        return [_candidate(source(found))]
    sources = _without_parts([source(each) for each in discover(module, text or "")])
    for each in sources:
        each.shared = len(sources) > 1
    if not sources and not module_classes(module) and not request.swept:
        raise BuildTargetError(no_model(parts.source, loaded.left_out, loaded.missing))
    return [_candidate(each) for each in sources]


def parts_of(request: Request, found: list[Candidate], reached: set[str], *, real: bool = False) -> list[Candidate]:
    """The module classes of the file that nothing which was checked stands for; ``reached`` are those that it does.

    Main classes come first; a class whose candidate is in ``found`` has had its turn.
    """
    parts = split(request.spec)
    if parts.kind in LIBRARIES or parts.name is not None or any(each.found.kind == "factory" for each in found):
        return []
    loaded = load_module(parts.source) if parts.kind == "module" else load_file(Path(parts.source))
    module, text = loaded.module, loaded.source
    had = {each.found.value for each in found}
    main = main_classes(module, loaded.tree)
    reader = Reader(module, Path(module.__file__ or parts.source))
    rest = [each for each in module_classes(module) if each not in had]
    candidates = []
    for kind in sorted(rest, key=lambda each: each not in main):  # stable
        found_ = searched(kind.__name__, kind, module, text)
        name = f"{parts.source}:{kind.__name__}"
        made = Source(name, found_, module, None, real=real, main=kind in main, reader=reader, shared=True)
        candidates.append(_candidate(made))
    return [each for each in candidates if each.found.name not in reached]


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


def _candidate(source: Source) -> Candidate:
    def changed(**fields: object) -> Candidate:
        return _candidate(replace(source, first=None, **fields))  # type: ignore[arg-type]

    def build() -> Built:
        try:
            if source.found.kind == "searched":
                return _built_by_search(source)
            try:
                return _built(source)
            except BuildTargetError as error:
                # A constructor may refuse its own defaults.
                if source.found.kind != "class" or source.reader is None:
                    raise
                return _built_by_search(source, error)
        except TargetError as error:
            raise _explained(error) from error.__cause__

    return Candidate(source.name, build, source.found, source.library, changed, source.main)


def _explained(error: TargetError) -> TargetError:
    """The error with what would help: a package to install."""
    cause = error.__cause__
    if isinstance(cause, PlaceholderUse) and cause.reason.absent and error.suggestion is None:
        error.suggestion = f"pip install {cause.name}"
    return error


def _built_by_search(source: Source, problem: TargetError | None = None) -> Built:
    """A class or factory that needs arguments: with the first that are found for which its forward pass runs.

    ``problem`` is what is wrong with it when it is called without.
    """
    assert source.reader is not None

    def tried(call: Call) -> Source:
        return replace(source, found=replace(source.found, kind="class", make=call), first=None)

    function = source.found.value
    if inspect.isclass(function) and is_abstract(function):
        raise BuildTargetError(f"{source.name} is abstract: what it leaves to subclasses cannot be checked")
    search = Search(function, source.reader, lambda call: construct(tried(call), 0, allocate=False)[0])
    for _, plan in zip(range(_MOST_PLANS), search.plans(), strict=False):
        try:
            built = _built(tried(plan.call))
        except TargetError as error:
            problem = problem or error
            search.tried.append(f"{plan.shown}: {error}")
            search.failed(error.__cause__ or error)
        else:
            return replace(built, plan=plan, tried=tuple(search.tried))
    failure = problem or BuildTargetError(no_values(source.name, function, search.error))
    failure.tried = tuple(search.tried)
    if failure.suggestion is None and not isinstance(search.error, PlaceholderUse):
        failure.suggestion = f"def build(): return {source.name.rpartition(':')[2]}(...)"
    raise failure from (failure.__cause__ or search.error)


def _built(source: Source) -> Built:
    importable(*source.folders)
    since = marker()
    if isinstance(source.first, TargetError):
        raise source.first
    model, origins, remarks = source.first or _build(source)
    source.first = None
    attempts = Attempts(model, lambda: construct(source, 0, observe=False)[0])
    maker, remark, loss = _maker(source, model, attempts)
    remarks += tuple(filter(None, [remark_of(model)]))
    inputs = made_inputs(source, maker, 0, model)
    materialise(model, inputs)

    if source.checkpoint is not None:
        assert origins is not None  # the first build is observed
        remarks += fill(model, origins, source.checkpoint, source.name)

    def rebuild(seed: int) -> tuple[nn.Module, Inputs]:
        if source.checkpoint is not None:  # trained weights and random ones have no common mean
            return model, made_inputs(source, maker, seed, model)
        fresh, _ = construct(source, seed, observe=False)
        made = made_inputs(source, maker, seed, fresh)
        materialise(fresh, made)
        return fresh, made

    remarks += ((remark,) if remark else ()) + absent_weights(source.absent)
    remarks += stood_in_for(source.module, (*source.touched, *touched(since)))
    models = stands_for(model, source.module)
    released = bool(source.absent) and source.checkpoint is None
    built = Built(source.name, model, inputs, origins, remarks, rebuild, loss, models, released=released)
    if any(each.is_meta for each in model.parameters()) and source.virtual is None and source.library is None:
        built.allocated = lambda: _built(replace(source, first=None, virtual=False))
    return built


def _build(source: Source) -> First:
    """The first model of a source: allocated, unless it may stay without weights and is too large for them."""
    library = source.library
    remarks = (library.remark,) if library is not None and library.remark else ()
    if (source.virtual or (library is not None and library.virtual)) and not source.real:
        return *construct(source, 0, allocate=False), remarks
    if library is None and source.virtual is None and source.found.kind != "instance" and not source.real:
        with suppress(BuildTargetError):  # what asks for the values of its weights gets them
            return *construct(source, 0, allocate=False), remarks
    most = most_parameters(real=source.real)
    if library is not None and library.virtual and _count(construct(source, 0, allocate=False)[0]) > most:
        raise BuildTargetError(too_large(source.name, most))
    try:
        return *construct(source, 0, most=most), remarks
    except BuildTargetError as error:
        if not ran_out(error):
            raise
    if source.real:
        raise BuildTargetError(too_large(source.name, most))
    model, origins = construct(source, 0, allocate=False)
    return model, origins, (*remarks, f"checked without allocating its {_count(model) / 1e9:.1f} billion parameters")


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _maker(source: Source, model: nn.Module, attempts: Attempts) -> tuple[Maker, str | None, Loss | None]:
    """What makes inputs, a remark about them, and the user's loss."""
    loss = example_loss(model, source.found.value, source.module, source.name)
    given = example(model, source.found.value, source.module, source.name.rpartition(":")[0], loss)
    if given is not None:
        try:
            inputs = made_inputs(source, given.make, 0, model)
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
    in_file, seen = source.module is not None, seen_inputs(source.found.value, source.reader)
    if seen:
        with suppress(InputTargetError):  # a call may stand for another way to use the model
            return *infer(model, attempts, source.name, in_file=in_file, hints=seen), loss
    return *infer(model, attempts, source.name, in_file=in_file), loss


def _without_parts(sources: list[Source]) -> list[Source]:
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
