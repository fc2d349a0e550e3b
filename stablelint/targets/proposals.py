"""First guesses at the arguments of a forward pass: from the signature's names and annotations and from the layers."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from stablelint.targets.annotations import axes_of, like_named, sizes_of, with_axes
from stablelint.targets.guess import LENGTH, SEQUENCE_BATCH, Guess, Proposal
from stablelint.targets.layers import classes, entries, image, image_batch, sides

_IDS = re.compile(r"(.*_)?(ids?|idx|indices|tokens?|words|text|src|tgt|trg|source|target_seq|seqs?|chars?|codes)(_in)?")
_IMAGES = re.compile(r"im|ims|img\d?|imgs|images?\d?|pixel_values|pixels|frames?|photo|picture")
_TIMES = re.compile(r"ts?|times?|timesteps?|time_steps?|noise_levels?|sigmas?|steps?|log_snr")
_LENGTHS = re.compile(r".*(lens?|lengths?)")
_MASKS = re.compile(r".*mask")
_LABELS = re.compile(r"y|ys|labels?|targets?|class_ids?|class_labels?|classes|gt|answers?|same|similar|truth")
_STATES = re.compile(r"h|h0|hx|hidden|state|hidden_state|h_prev|prev_hidden")
_ANNOTATED_IDS = ("LongTensor", "IntTensor", "Int[", "Int64[", "Long[")


def proposals(model: nn.Module) -> list[Proposal]:
    """What to try first, best first; never empty."""
    wanted = parameters_to_fill(model)
    if not wanted:
        return [Proposal(())]
    tables = [module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)]
    found: list[Proposal] = []
    main = _main_parameter(wanted)
    axes = {each.name: axes_of(each, model) for each in wanted}
    for guess in _main_guesses(main, axes[main.name], model, tables):
        sizes = sizes_of(axes[main.name], guess)
        others = [
            (each, _with_names(_secondary(each, guess, model, tables), axes[each.name], sizes))
            for each in wanted
            if each is not main
        ]
        found += _combinations(wanted, main, guess, others)
    return list(dict.fromkeys(found))


def parameters_to_fill(model: nn.Module) -> list[inspect.Parameter]:
    """The required parameters of forward; for a model that requires none, the one that carries its data."""
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):
        return [inspect.Parameter("x", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters = list(signature.parameters.values())
    plain = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    required = [each for each in plain if each.default is each.empty]
    if required:
        return required
    told = getattr(model, "main_input_name", None)  # transformers
    for each in plain:
        if each.name == told:
            return [each.replace(kind=each.KEYWORD_ONLY)]
    if plain:
        known = [each for each in plain if _IDS.fullmatch(each.name) or _IMAGES.fullmatch(each.name)]
        return [(known or plain)[0].replace(kind=inspect.Parameter.KEYWORD_ONLY)]
    variadic = [each for each in parameters if each.kind is each.VAR_POSITIONAL]
    return [each.replace(kind=each.POSITIONAL_OR_KEYWORD) for each in variadic]


def value_for(name: str, main: Guess, model: nn.Module) -> Guess:
    """A guess for a parameter that was left out and that the model asks for."""
    tables = [module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)]
    return _secondary(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY), main, model, tables)[0]


def _main_parameter(wanted: list[inspect.Parameter]) -> inspect.Parameter:
    for each in wanted:
        if not any(known.fullmatch(each.name) for known in (_TIMES, _LENGTHS, _MASKS, _LABELS, _STATES)):
            return each
    return wanted[0]


def _with_names(guesses: list[Guess], axes: tuple[str, ...] | None, sizes: Mapping[str, int]) -> list[Guess]:
    return guesses if axes is None else like_named(guesses, axes, sizes)


def _main_guesses(
    parameter: inspect.Parameter, axes: tuple[str, ...] | None, model: nn.Module, tables: list[int]
) -> Iterator[Guess]:
    layered = [*library_guesses(model), *entries(model)]
    found = list(_by_name(parameter, model, tables))
    found += [each for each in layered if not each.floating or not found or len(each.shape) > 1]
    found += list(_from_parameters(model))
    found += [
        Guess("normal", (SEQUENCE_BATCH, LENGTH, 24)),
        Guess("normal", (16, 24)),
        image(3, 32),
        image(1, 28),
        Guess("ids", (SEQUENCE_BATCH, LENGTH), min(tables, default=100)),
        Guess("normal", (16,)),
    ]
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
    annotation = str(parameter.annotation)
    if any(word in annotation for word in _ANNOTATED_IDS) or (_IDS.fullmatch(parameter.name) and tables):
        yield Guess("ids", (SEQUENCE_BATCH, LENGTH), tables[0] if tables else 100)
    if _IMAGES.fullmatch(parameter.name):
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


def _secondary(parameter: inspect.Parameter, main: Guess, model: nn.Module, tables: list[int]) -> list[Guess]:
    """Guesses for a further parameter, given the main one."""
    name, batch = parameter.name, main.shape[0] if main.shape else SEQUENCE_BATCH
    length = main.shape[1] if len(main.shape) > 1 else LENGTH
    scalar = _scalar(parameter)
    if scalar is not None:
        return [scalar]
    like_main = Guess("ids", main.shape, main.high) if main.kind == "ids" else Guess("normal", main.shape)
    ids = Guess("ids", (batch, length), min(tables, default=2))
    if name == "edge_index":
        return [Guess("ids", (2, 4 * batch), batch)]
    if name.startswith(("adj", "affinity")):
        return [Guess("ones", (batch, batch)), Guess("ones", (batch, length, length))]
    if _TIMES.fullmatch(name):
        return [Guess("ids", (batch,), min([1000, *tables])), Guess("normal", (batch,)), Guess("normal", (batch, 1))]
    if _LENGTHS.fullmatch(name):
        return [Guess("full", (batch,), length)]
    if _MASKS.fullmatch(name):
        padding = [Guess("ones_long", (batch, length)), Guess("ones", (batch, length)), Guess("false", (batch, length))]
        pairs = [Guess("ones", (length, length)), Guess("ones_long", (batch, 1, length, length))]
        if "pad" in name:
            return [padding[2], padding[0], *pairs]
        return [padding[0], *pairs, *padding[1:]] if main.kind == "ids" else [*pairs, *padding]
    if _LABELS.fullmatch(name):
        outputs = classes(model)
        label = Guess("ids", (batch,), max(2, min([outputs, *tables[-1:]])))
        values = [Guess("normal", (batch, outputs)), Guess("normal", (batch,)), like_main]
        return [like_main, label, *values] if main.kind == "ids" else [label, *values]
    if _STATES.fullmatch(name):
        cells = [each.hidden_size for each in model.modules() if isinstance(each, nn.RNNCellBase | nn.RNNBase)]
        return [Guess("normal", (batch, size)) for size in cells[:1]] + [like_main]
    if _IMAGES.fullmatch(name):
        return [like_main if len(main.shape) == 4 else image(3, 32)]
    if _IDS.fullmatch(name) and (tables or main.kind == "ids"):
        return [ids, like_main]
    return [like_main, Guess("normal", (batch, main.shape[-1] if main.shape else 1)), Guess("normal", (batch,)), ids]


def _scalar(parameter: inspect.Parameter) -> Guess | None:
    annotation: Any = parameter.annotation
    by_type = {bool: False, "bool": False, int: 1, "int": 1, float: 1.0, "float": 1.0}
    if isinstance(annotation, type | str) and annotation in by_type:
        return Guess("value", value=by_type[annotation])
    if type(None) in typing.get_args(annotation) or (isinstance(annotation, str) and annotation.endswith("| None")):
        return Guess("value", value=None)
    return None


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
