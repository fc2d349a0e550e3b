"""Guesses at an argument from its name and annotation, given the argument that carries the data."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from stablelint.targets.facts import Facts
from stablelint.targets.guess import LENGTH, SEQUENCE_BATCH, Guess
from stablelint.targets.layers import attribute, classes, image
from stablelint.targets.told import told

IDS = re.compile(r"(.*_)?(ids?|idx|indices|tokens?|words|text|src|tgt|trg|source|target_seq|seqs?|chars?|codes)(_in)?")
IMAGES = re.compile(r"im|ims|img\d?|imgs|images?\d?|pixel_values|pixels|frames?|photo|picture")
TIMES = re.compile(
    r"ts?|times?|timesteps?|time_steps?|noise_levels?|sigmas?|steps?|log_snr|timestep_ids?|diffusion_step"
)
LENGTHS = re.compile(r".*(lens?|lengths?)")
MASKS = re.compile(r".*masks?")
LABELS = re.compile(r"y|ys|labels?|targets?|class_ids?|class_labels?|classes|gt|answers?|same|similar|truth")
STATES = re.compile(
    r"(rnn_|lstm_|gru_|prev_|init_|last_|initial_)?(h|h0|hx|hxs|hc|hiddens?|states?|carry)(_state|_prev|_0)?s?|"
    r"hidden_states?|h_prev|prev_hidden|(decoder|encoder)_hidden"
)
_CACHES = re.compile(r".*(cache|memory|memories|past|past_key_values|mems)(_\w+)?|kv")
_GRAPHS = re.compile(r"adj.*|affinity.*|a_hat|graph|laplacian|support")
_DONE = re.compile(r"dones?|terminals?|episode_starts?|is_first|resets?")
_PLACES = re.compile(r"coo?rd?s|coordinates?|pos|positions?|xyz|points?|points_xyz|x_pos")
_FLAGS = re.compile(
    r"(return|use|is|do|with|output|need|should|apply|only|no)_\w+|verbose|deterministic|training|train|inference|sample|reverse|eval"
)
_ZERO = re.compile(
    r"(start|cur|current|past|input)_?(pos|position|index|idx|len|length)|offset|start|epoch|step_?offset|layer_?idx"
)
_ONE = re.compile(
    r"temperature|temp|tau|rate|scale|alpha|beta|gamma|lambda_?|weight|strength|lam|lambd|eps|guidance(_scale)?|ratio|dropout|p"
)
_STATE_MAKERS = re.compile(
    r"(init|initial|begin|zero|get_initial|get_init|init_zero)_?(hidden|state|states|hidden_state|h|rnn)", re.I
)
_REAL_TIMES = re.compile(r"sigmas?|noise_levels?|log_snr")
_STEP_COUNTS = ("num_timesteps", "timesteps", "n_timesteps", "num_steps", "T", "n_steps", "num_diffusion_timesteps")
_ANNOTATED_IDS = ("LongTensor", "IntTensor", "Int[", "Int64[", "Long[")


def secondary(
    parameter: inspect.Parameter, facts: Facts, main: Guess, model: nn.Module, tables: list[int]
) -> list[Guess]:
    """Guesses for a further parameter, given the main one; never empty."""
    name, batch = parameter.name.lower(), main.shape[0] if main.shape else SEQUENCE_BATCH
    length = main.shape[1] if len(main.shape) > 1 else LENGTH
    scalar = _scalar(parameter)
    if scalar is not None:
        return [scalar]
    nothing = [Guess("value", value=None)] if "none" in facts.uses else []
    if "lengths" in facts.uses or LENGTHS.fullmatch(name):
        along = length if len(main.shape) in (2, 3) else LENGTH
        return [Guess("lengths", (batch,), along), Guess("full", (batch,), along), Guess("numbers", (batch,), along)]
    if STATES.fullmatch(name) or _CACHES.fullmatch(name):
        made = list(_made_states(model, batch, length))
        parts = contained(name, facts, main, model)
        plain = told(name, facts, model, main)
        if made or plain or parts or nothing:
            cells = _by_cells(model, main)
            return [*made, *plain, *parts, *nothing, *(cells if plain or made else [])]
    if MASKS.fullmatch(name):
        return [*nothing, *_masks(name, facts, main, model)]
    found = [*contained(name, facts, main, model), *_decoded(name, told(name, facts, model, main), model)]
    if _GRAPHS.fullmatch(name) and not facts.feeds:
        found = []  # a matrix of numbers that were drawn is no graph
    number = "number" in facts.uses and not facts.told()
    if number or (not found and (_FLAGS.fullmatch(name) or _ZERO.fullmatch(name) or _ONE.fullmatch(name))):
        return [_number(name, model), *_by_name(parameter, facts, main, model, tables)]
    return list(dict.fromkeys([*found, *_by_name(parameter, facts, main, model, tables), *nothing]))


def _decoded(name: str, guesses: list[Guess], model: nn.Module) -> list[Guess]:
    """What a decoder of time series is fed is as long as its start and what it predicts."""
    known, wanted = (attribute(model, (each,), 1, 4096) for each in ("label_len", "pred_len"))
    if "dec" not in name or known is None or wanted is None:
        return guesses
    return [each.resized(1, known + wanted) if len(each.shape) == 3 else each for each in guesses]


def contained(name: str, facts: Facts, main: Guess | None, model: nn.Module) -> list[Guess]:
    """A dict whose keys are read, or a tuple or list whose members reach layers."""
    if facts.keys:
        parts: dict[str, list[Guess]] = {}
        carrier = main
        for key, inner in facts.keys.items():
            parts[key] = _inner(key, inner, carrier, model)
            if carrier is None and parts[key][0].shape:
                carrier = parts[key][0]
        first = {key: each[0] for key, each in parts.items()}
        others = [first | {key: each} for key, found in parts.items() for each in found[1:3]]
        return [Guess("dict", parts=tuple(each.items())) for each in (first, *others)]
    if facts.items and sum(bool(each.feeds) for each in facts.items.values()) > (0 if "pair" in facts.uses else 1):
        count = max(facts.items) + 1
        members = [_inner(name, facts.items.get(at, Facts()), main, model)[0] for at in range(count)]
        return [
            Guess(kind, parts=tuple((str(at), each) for at, each in enumerate(members))) for kind in ("tuple", "list")
        ]
    return []


def _inner(name: str, facts: Facts, main: Guess | None, model: nn.Module) -> list[Guess]:
    tables = [module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)]
    if main is None:
        found = [*contained(name, facts, None, model), *told(name, facts, model, None)]
        if not found and IMAGES.fullmatch(name.lower()):
            return [image(3, 32)]
        return found or [Guess("normal", (SEQUENCE_BATCH, LENGTH, 24))]
    return secondary(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY), facts, main, model, tables)


def _by_name(
    parameter: inspect.Parameter, facts: Facts, main: Guess, model: nn.Module, tables: list[int]
) -> list[Guess]:
    name, batch = parameter.name.lower(), main.shape[0] if main.shape else SEQUENCE_BATCH
    length = main.shape[1] if len(main.shape) > 1 else LENGTH
    real = Guess("normal", main.shape)
    like_main = Guess("ids", main.shape, main.high) if main.kind == "ids" and "float" not in facts.uses else real
    ids = Guess("ids", (batch, length), min(tables, default=2))
    if name == "edge_index" or ("edges" in name and "pair" in facts.uses):
        return [Guess("ids", (2, 4 * batch), batch)]
    if name.startswith("edge_"):
        return [Guess("normal", (4 * batch,)), Guess("normal", (4 * batch, 1))]
    if name in ("batch", "batch_index", "batch_idx"):
        return [Guess("zeros_long", (batch,))]
    if _GRAPHS.fullmatch(name):
        return [Guess("ring", (batch, batch)), Guess("ring", (batch, length, length))][
            :: -1 if len(main.shape) > 2 else 1
        ]
    if TIMES.fullmatch(name) or (name == "x_t" and "index" in facts.uses):
        steps = attribute(model, _STEP_COUNTS, 2, 100_000)
        whole = Guess("ids", (batch,), min([steps or 1000, *tables]) if not facts.told() or tables else steps or 1000)
        reals = [Guess("unit", (batch,)), Guess("unit", (batch, 1))]
        return (
            [*reals, whole] if _REAL_TIMES.fullmatch(name) or "float" in str(parameter.annotation) else [whole, *reals]
        )
    if _DONE.fullmatch(name):
        return [Guess("zeros", (batch,)), Guess("zeros", (batch, 1))]
    if "classes" in facts.uses:
        return [
            Guess("ids", main.shape if main.kind == "ids" else (batch,), classes(model)),
            *_like_pixels(main, model),
        ]
    if "chances" in facts.uses:
        return [Guess("unit", main.shape), Guess("unit", (batch,)), Guess("unit", (batch, 1))]
    if LABELS.fullmatch(name):
        outputs = classes(model)
        label = Guess("ids", (batch,), max(2, min([outputs, *tables[-1:]])))
        values = [Guess("normal", (batch, outputs)), Guess("normal", (batch,)), like_main]
        if not any(True for _ in model.parameters()):  # a loss: the target is like the prediction
            return [Guess("unit", main.shape), Guess("ids", (batch,), length), *values]
        if "float" in facts.uses and "index" not in facts.uses and main.kind != "ids":
            return [*values, label]
        return (
            [like_main, label, *values] if main.kind == "ids" else [label, Guess("one_hot", (batch, outputs)), *values]
        )
    if STATES.fullmatch(name):
        return [
            *_by_cells(model, main),
            real,
            Guess("zeros", (1, *main.shape[:1], main.shape[-1] if main.shape else 1)),
        ]
    if IMAGES.fullmatch(name):
        return [like_main if len(main.shape) == 4 else image(3, 32)]
    if _PLACES.fullmatch(name) and len(main.shape) > 1:
        return [Guess("normal", (batch, length, 3)), Guess("normal", (batch, 3)), like_main]
    if IDS.fullmatch(name) and (tables or main.kind == "ids"):
        return [ids, like_main]
    last = main.shape[-1] if main.shape else 1
    return [like_main, Guess("normal", (batch, last)), Guess("normal", (batch,)), ids, Guess("normal", (batch, 1))]


def _like_pixels(main: Guess, model: nn.Module) -> list[Guess]:
    """A class for each pixel."""
    return [Guess("ids", (main.shape[0], *main.shape[2:]), classes(model))] if len(main.shape) == 4 else []


def _masks(name: str, facts: Facts, main: Guess, model: nn.Module) -> list[Guess]:
    """Masks that leave all open, of the usual shapes."""
    batch = main.shape[0] if main.shape else SEQUENCE_BATCH
    length = main.shape[1] if len(main.shape) > 1 else LENGTH
    fed = told(name, facts, model, main) if facts.feeds else []
    if name == "masks" and any(STATES.fullmatch(each) for each in _names(model)):  # of a recurrent policy
        return [Guess("ones", (batch, 1)), Guess("ones", (batch,))]
    open_kinds = {"open_ones": "true", "open_false": "false", "open_zeros": "zeros"}
    use = next((kind for key, kind in open_kinds.items() if key in facts.uses), None)
    if use is not None:
        shapes = [
            (length, length),
            (batch, 1, length, length),
            (batch, length, length),
            (batch, length),
            (batch, 1, 1, length),
        ]
        ranked = sorted(shapes, key=lambda each: len(each) != facts.rank)
        return [*fed, *(Guess(use, each) for each in ranked), Guess("ones", ranked[0])]
    padding = [Guess("ones_long", (batch, length)), Guess("ones", (batch, length)), Guess("false", (batch, length))]
    pairs = [Guess("ones", (length, length)), Guess("ones_long", (batch, 1, length, length))]
    pixels = (
        [Guess("ones", (batch, 1, *main.shape[2:]))] if len(main.shape) == 4 and main.shape[2] == main.shape[3] else []
    )
    if "pad" in name:
        return [*fed, padding[2], padding[0], *pairs]
    rest = [padding[0], *pairs, *padding[1:]] if main.kind == "ids" else [*pairs, *padding]
    return [*fed, *pixels, *rest, Guess("true", (batch, length)), Guess("true", (length, length))]


def _names(model: nn.Module) -> list[str]:
    try:
        return list(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):
        return []


def _by_cells(model: nn.Module, main: Guess) -> list[Guess]:
    cells = [each for each in model.modules() if isinstance(each, nn.RNNCellBase | nn.RNNBase)]
    batch = main.shape[0] if main.shape else SEQUENCE_BATCH
    found = [Guess("normal", (batch, each.hidden_size)) for each in cells[:1]]
    for each in cells[:1]:
        state = Guess("zeros", (getattr(each, "num_layers", 1), batch, each.hidden_size))
        found += [state, Guess("tuple", parts=(("h", state), ("c", state)))]
    return found


def _made_states(model: nn.Module, batch: int, length: int) -> Iterator[Guess]:
    """What the model's own ``init_hidden(batch)`` gives; zeros of the same shapes."""
    for name in dir(type(model)):
        if _STATE_MAKERS.fullmatch(name) is None:
            continue
        for size in dict.fromkeys((batch, length)):
            try:
                method = getattr(model, name)
                given: dict[str, Any] = {}
                for each in inspect.signature(method).parameters.values():
                    if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
                        given[each.name] = torch.device("cpu") if "device" in each.name else size
                with torch.no_grad():
                    found = _zeros_like(method(*given.values()))
            except Exception:  # a method of this name that wants something else
                continue
            if found is not None:
                yield found


def _zeros_like(value: Any) -> Guess | None:
    if isinstance(value, torch.Tensor):
        return Guess("zeros" if value.is_floating_point() else "zeros_long", tuple(value.shape))
    if isinstance(value, list | tuple) and value:
        parts = [_zeros_like(each) for each in value]
        known = [each for each in parts if each is not None]
        if len(known) == len(parts):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return Guess(kind, parts=tuple((str(at), each) for at, each in enumerate(known)))
    return None


def _number(name: str, model: nn.Module) -> Guess:
    """A Python number or truth value for a name."""
    if _FLAGS.fullmatch(name):
        return Guess("value", value=False)
    if _ZERO.fullmatch(name):
        return Guess("value", value=0)
    if _ONE.fullmatch(name):
        return Guess("value", value=1.0)
    if re.fullmatch(r"l|len|length|max_?len(gth)?|seq_?len(gth)?|size|n|num_\w+|n_\w+|steps|t", name):
        return Guess("value", value=attribute(model, (name,), 1, 4096) or LENGTH)
    return Guess("value", value=1)


def _scalar(parameter: inspect.Parameter) -> Guess | None:
    annotation: Any = parameter.annotation
    by_type = {bool: False, "bool": False, int: 1, "int": 1, float: 1.0, "float": 1.0}
    if isinstance(annotation, type | str) and annotation in by_type:
        value: Any = by_type[annotation]
        zero = type(value) is int and _ZERO.fullmatch(parameter.name.lower())
        return Guess("value", value=0 if zero else value)
    optional = type(None) in typing.get_args(annotation)
    if optional or (
        isinstance(annotation, str) and (annotation.endswith("| None") or annotation.startswith("Optional["))
    ):
        return Guess("value", value=None)
    return None


def annotated_ids(parameter: inspect.Parameter) -> bool:
    """Whether the annotation says that the argument holds integers."""
    return any(word in str(parameter.annotation) for word in _ANNOTATED_IDS)
