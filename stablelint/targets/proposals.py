"""First guesses at the arguments of a forward pass: from the signature's names and annotations and from the layers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from stablelint.targets.annotations import axes_of, like_named, sizes_of, with_axes
from stablelint.targets.by_name import (
    IDS,
    IMAGES,
    LABELS,
    LENGTHS,
    MASKS,
    STATES,
    TIMES,
    annotated_ids,
    contained,
    secondary,
)
from stablelint.targets.facts import Facts
from stablelint.targets.guess import LENGTH, SEQUENCE_BATCH, Guess, Proposal
from stablelint.targets.hints import Hint, hinted
from stablelint.targets.layers import attribute, entries, image, image_batch, sides
from stablelint.targets.reading import facts_of, passed_on
from stablelint.targets.told import told

#: Attributes that tell the length of a sequence; it is not only a limit.
_LENGTH_NAMES = ("seq_len", "seq_length", "context_len", "context_length", "input_len", "input_length", "window_size")
_LIBRARIES = ("torch.", "torchvision.", "timm.", "transformers.")
_DATA_ELSEWHERE = {"number", "lengths", "open_ones", "open_false", "classes"}


def from_hints(model: nn.Module, hints: Sequence[Hint]) -> list[Proposal]:
    """Proposals with the shapes of a call that was seen; its arguments that are optional are filled, too."""
    if not hints:
        return []
    wanted = parameters_to_fill(model)
    named = {each.name for each in hints if each.name is not None}
    optional = [
        each.replace(kind=each.KEYWORD_ONLY, default=each.empty)
        for each in inspect.signature(model.forward).parameters.values()
        if each.name in named and each.name not in {one.name for one in wanted}
    ]
    wanted = [*wanted, *optional]
    if not wanted:
        return []
    facts = read(model, wanted)
    tables = [module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)]
    main = _main_parameter(wanted, facts)
    guesses = list(_main_guesses(main, facts[main.name], None, model, tables))
    return hinted(
        hints, wanted, main, guesses, lambda each, guess: secondary(each, facts[each.name], guess, model, tables)
    )


def proposals(model: nn.Module) -> list[Proposal]:
    """What to try first, best first; never empty."""
    wanted = parameters_to_fill(model)
    if not wanted:
        return [Proposal(())]
    facts = read(model, wanted)
    tables = [module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)]
    found: list[Proposal] = []
    main = _main_parameter(wanted, facts)
    axes = {each.name: axes_of(each, model) for each in wanted}
    guesses = list(_main_guesses(main, facts[main.name], axes[main.name], model, tables))
    if _nothing_needed(model, facts):
        found.append(Proposal(()))
    for guess in guesses:
        sizes = sizes_of(axes[main.name], guess)
        carrier = _carrier(guess)
        others = [
            (each, _with_names(secondary(each, facts[each.name], carrier, model, tables), axes[each.name], sizes))
            for each in wanted
            if each is not main
        ]
        found += _combinations(wanted, main, guess, others)
    if _all_optional(model):
        found.append(Proposal(()))
    return list(dict.fromkeys(found))


def read(model: nn.Module, wanted: Sequence[inspect.Parameter]) -> dict[str, Facts]:
    """What the source tells of the parameters; nothing for the models of a library, which tell by other means."""
    names = tuple(each.name for each in wanted)
    if f"{type(model).__module__}.".startswith(_LIBRARIES) and type(model) is not nn.Sequential:
        return {name: Facts() for name in names}
    return facts_of(model.forward, names)


def _carrier(guess: Guess) -> Guess:
    """The tensor of a container that tells the batch and the length."""
    while guess.parts:
        guess = guess.parts[0][1]
    return guess


def _all_optional(model: nn.Module) -> bool:
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return False
    return all(
        each.default is not each.empty or each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in parameters
    )


def _nothing_needed(model: nn.Module, facts: Mapping[str, Facts]) -> bool:
    """Whether all arguments are optional and the first is a state or a number: the model makes a tensor of its own."""
    only = next(iter(facts))
    plain = STATES.fullmatch(only) or only.lower() in ("l", "length", "rate", "n", "size")
    return bool(_all_optional(model) and plain and not facts[only].told())


def parameters_to_fill(model: nn.Module) -> list[inspect.Parameter]:
    """The required parameters of forward; for a model that requires none, the one that carries its data.

    A forward of ``*args`` that hands them on to a part of the model has that part's parameters.
    """
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):
        return [inspect.Parameter("x", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters = list(signature.parameters.values())
    plain = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    required = [each for each in plain if each.default is each.empty]
    if required:
        return required
    told_name = getattr(model, "main_input_name", None)  # transformers
    for each in plain:
        if each.name == told_name:
            return [each.replace(kind=each.KEYWORD_ONLY)]
    if plain:
        known = [each for each in plain if IDS.fullmatch(each.name) or IMAGES.fullmatch(each.name)]
        return [(known or plain)[0].replace(kind=inspect.Parameter.KEYWORD_ONLY)]
    variadic = [each for each in parameters if each.kind is each.VAR_POSITIONAL]
    inner = passed_on(model) if variadic else None
    if inner is not None:
        return parameters_to_fill(inner)
    return [each.replace(kind=each.POSITIONAL_OR_KEYWORD) for each in variadic]


def value_for(name: str, main: Guess, model: nn.Module) -> Guess:
    """A guess for a parameter that was left out and that the model asks for."""
    tables = [module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)]
    facts = facts_of(model.forward, (name,))[name]
    facts.uses.discard("none")
    return secondary(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY), facts, main, model, tables)[0]


def _main_parameter(wanted: list[inspect.Parameter], facts: Mapping[str, Facts]) -> inspect.Parameter:
    elsewhere = (TIMES, LENGTHS, MASKS, LABELS, STATES)
    data = [each for each in wanted if not any(known.fullmatch(each.name) for known in elsewhere)]
    data = [each for each in data if each.annotation not in (int, float, bool, "int", "float", "bool")] or data
    carrying = [each for each in data if not _DATA_ELSEWHERE & facts[each.name].uses or facts[each.name].feeds]
    reaching = [each for each in wanted if any(not feed.position for feed in facts[each.name].feeds)]
    return next(iter(carrying or data or reaching or wanted))


def _with_names(guesses: list[Guess], axes: tuple[str, ...] | None, sizes: Mapping[str, int]) -> list[Guess]:
    return guesses if axes is None else like_named(guesses, axes, sizes)


def _main_guesses(
    parameter: inspect.Parameter,
    facts: Facts,
    axes: tuple[str, ...] | None,
    model: nn.Module,
    tables: list[int],
) -> Iterator[Guess]:
    library = library_guesses(model)
    layered = [*library, *entries(model)]
    read_off = (
        [] if library else [*contained(parameter.name, facts, None, model), *_lengthened(facts, parameter, model)]
    )
    named = list(_by_name(parameter, model, tables))
    found = [*read_off, *named]
    found += [each for each in layered if not each.floating or not named or len(each.shape) > 1]
    found += list(_from_parameters(model))
    found += [
        Guess("normal", (SEQUENCE_BATCH, LENGTH, 24)),
        Guess("normal", (16, 24)),
        image(3, 32),
        image(1, 28),
        Guess("ids", (SEQUENCE_BATCH, LENGTH), min(tables, default=100)),
        Guess("normal", (16,)),
    ]
    if facts.rank is not None or facts.least > 1:  # a stable order: what has the axes that the source names is first
        found.sort(key=lambda each: not each.parts and not _has_axes(each, facts))
    if _is_real(facts):
        found.sort(key=lambda each: each.integers)
    if axes is not None:
        found = [*with_axes(found, axes), *(each for each in found if len(each.shape) != len(axes))]
    # One guess per layer first, then the further sizes of each: the right layer matters more than the right size.
    seen: set[Any] = set()
    first: list[Guess] = []
    for each in found:
        key = (each.kind, len(each.shape), each.shape[1] if len(each.shape) > 1 else 0)
        if key not in seen:
            seen.add(key)
            first.append(each)
    first = first[:8]
    yield from dict.fromkeys([*first[:2], *[each for each in found if each.shape[1:2] == first[0].shape[1:2]][:12]])
    yield from (each for each in dict.fromkeys([*first, *found]) if each not in first[:2])


def _lengthened(facts: Facts, parameter: inspect.Parameter, model: nn.Module) -> list[Guess]:
    """What the source tells, for sequences also with the length that the model holds."""
    found = told(parameter.name, facts, model, None)
    length = attribute(model, _LENGTH_NAMES, 2, 4096)
    if length is None:
        return found
    sequences = [
        replace(each, shape=(each.shape[0], length, *each.shape[2:]))
        for each in found
        if (len(each.shape) == 2 and each.kind == "ids") or len(each.shape) == 3
    ]
    return [*sequences, *found]


def _has_axes(guess: Guess, facts: Facts) -> bool:
    rank = len(guess.shape)
    return rank == facts.rank if facts.rank is not None else rank >= facts.least


def _is_real(facts: Facts) -> bool:
    """Whether the source calculates with the argument and looks nothing up by it."""
    looked_up = "index" in facts.uses or any(isinstance(each.layer, nn.Embedding) for each in facts.feeds)
    return "float" in facts.uses and not looked_up


def library_guesses(model: nn.Module) -> list[Guess]:
    """What timm and torchvision say about the input of their models."""
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    size = config.get("input_size") if isinstance(config, dict) else None
    if isinstance(size, tuple | list) and all(isinstance(each, int) for each in size):
        return [Guess("normal", (image_batch(size[-1]), *size))]
    home = type(model).__module__
    if home.startswith("torchvision.models.video"):
        return [Guess("normal", (2, 3, 16, side, side)) for side in (112, 224)]
    if home.startswith("torchvision.models.optical_flow"):
        return [image(3, 128)]
    if home.startswith("torchvision.models"):
        return [image(3, 224), image(3, 299)]
    return []


def _by_name(parameter: inspect.Parameter, model: nn.Module, tables: list[int]) -> Iterator[Guess]:
    if annotated_ids(parameter) or (IDS.fullmatch(parameter.name) and tables):
        yield Guess("ids", (SEQUENCE_BATCH, LENGTH), tables[0] if tables else 100)
    if IMAGES.fullmatch(parameter.name):
        channels = [each.in_channels for each in model.modules() if isinstance(each, nn.Conv2d)]
        yield from library_guesses(model)
        yield from (image(channels[0] if channels else 3, side) for side in sides(model)[:3])


def _from_parameters(model: nn.Module) -> Iterator[Guess]:
    """Models that hold bare matrices: one of the two sizes of the first is the input's."""
    for parameter in model.parameters():
        if parameter.ndim == 2 and not isinstance(parameter, nn.UninitializedParameter):
            for size in dict.fromkeys((parameter.shape[0], parameter.shape[1])):
                yield Guess("normal", (16, size))
            return


def _combinations(
    wanted: list[inspect.Parameter],
    main: inspect.Parameter,
    guess: Guess,
    others: list[tuple[inspect.Parameter, list[Guess]]],
) -> Iterator[Proposal]:
    """The first guess of every parameter, then each other guess of one parameter at a time."""
    base = {main.name: guess} | {each.name: guesses[0] for each, guesses in others}
    keywords = frozenset(each.name for each in wanted if each.kind is each.KEYWORD_ONLY)
    changes: list[dict[str, Guess]] = [{}] + [{each.name: other} for each, guesses in others for other in guesses[1:]]
    for change in changes:
        guesses = base | change
        yield Proposal(tuple((each.name, guesses[each.name]) for each in wanted), keywords)


def detection_inputs(model: nn.Module, seed: int) -> tuple[Any, ...] | None:
    """Images and targets for torchvision's detectors, which train on lists; None for any other model."""
    if not type(model).__module__.startswith("torchvision.models.detection"):
        return None
    generator = torch.Generator().manual_seed(seed)
    side, box = 128, torch.tensor([[10.0, 10.0, 90.0, 100.0]])
    images = [torch.rand(3, side, side, generator=generator) for _ in range(2)]
    target = {"boxes": box, "labels": torch.tensor([1]), "masks": torch.ones(1, side, side, dtype=torch.uint8)}
    target["keypoints"] = torch.tensor([[50.0, 50.0, 1.0]]).expand(1, 17, 3)
    return images, [{key: value.clone() for key, value in target.items()} for _ in images]
