"""Guesses at an argument from what the source of the forward pass tells of it."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from torch import nn

from stablelint.targets.facts import Facts, Feed, taken_back
from stablelint.targets.guess import (
    LARGE_IMAGE_BATCH,
    LENGTH,
    SEQUENCE_BATCH,
    SMALL_IMAGE_BATCH,
    VECTOR_BATCH,
    Guess,
)
from stablelint.targets.layers import entry, image_batch, wanted_width
from stablelint.targets.reading_calls import PART_OF_STATE

_WIDTH = 24
_SIDE = 32
#: Names of an axis that holds few things: heads, channels of an image, coordinates.
_FEW = {"h": 4, "heads": 4, "num_heads": 4, "n_heads": 4, "c": 3, "channels": 3, "ch": 3, "p": 3}
_ONE_PER_SAMPLE = re.compile(
    r"(.*_)?(labels?|targets?|y|class_?ids?|classes|users?|items?|actions?|ts?|times?|timesteps?|steps?|domains?|"
    r"speakers?|genres?|cond|step|movies?|category|categories|style|speaker_ids?|user_ids?|item_ids?)"
)


def told(name: str, facts: Facts, model: nn.Module, main: Guess | None) -> list[Guess]:
    """Guesses that agree with the facts, best first; ``main`` is the guess at the argument that carries the data."""
    found: list[Guess] = []
    for feed in facts.feeds[:6]:
        for guess in _fed(name, feed, model, main):
            shape = taken_back(guess.shape, feed.undo) if guess.kind != "tuple" else guess.shape
            if shape is not None:
                if main is None and len(shape) > len(guess.shape) == 2 and shape[0] == VECTOR_BATCH:
                    shape = (SEQUENCE_BATCH, *shape[1:])  # the layer sees one step of a sequence
                found.append(replace(guess, shape=shape))
    found += _written(facts, main)
    folded = any(isinstance(each, nn.modules.conv._ConvNd) for each in model.modules())  # into images
    found += [
        Guess("normal", (VECTOR_BATCH if main is None else (main.shape or (VECTOR_BATCH,))[0], each))
        for each in facts.elements[:2]
        if facts.rank in (None, 2) and not folded
    ]
    ranked = [each for each in found if facts.rank in (None, len(each.shape)) or each.kind == "tuple"]
    if not ranked and (facts.rank or facts.least > 1 or facts.sizes):
        ranked = _of_rank(name, facts, main)
    return list(dict.fromkeys(_fitted(each, facts) for each in ranked if len(each.shape) >= facts.least or each.parts))


def width(facts: Facts) -> int | None:
    """The number of features, when the first layer tells it without a concatenation."""
    direct = [each for each in facts.feeds if not each.mates and each.position == 0]
    return next((found for each in direct if (found := wanted_width(each.layer))), facts.sizes.get(-1))


def _fed(name: str, feed: Feed, model: nn.Module, main: Guess | None) -> list[Guess]:
    layer, position = feed.layer, feed.position
    batch = main.shape[0] if main is not None and main.shape else None
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and position == 0:
        return _looked_up(name, layer, main)
    if isinstance(layer, nn.RNNBase | nn.RNNCellBase) and position:
        return [_state(layer, main, whole=position != PART_OF_STATE)]
    if isinstance(layer, nn.MultiheadAttention) and position:
        return _attended(layer, position, main)
    if isinstance(layer, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer) and position:
        if isinstance(layer, nn.TransformerDecoderLayer) and position == 1:
            return entry(layer, model)[:1]
        length = main.shape[1] if main is not None and len(main.shape) > 1 else LENGTH
        return [Guess("false", (length, length)), Guess("false", (batch or SEQUENCE_BATCH, length))]
    if position:
        second = getattr(layer, "in2_features", None)
        return [Guess("normal", (batch or VECTOR_BATCH, second))] if second else []
    found = entry(layer, model)
    if feed.mates or feed.beside:
        whole = wanted_width(layer)
        own = _share(feed, whole) if whole is not None else None
        found = [_with_width(each, layer, own) for each in found] if own is not None else []
    if batch is None or feed.undo:
        return found
    if isinstance(layer, nn.RNNBase | nn.MultiheadAttention) and not layer.batch_first:
        return found
    found = [each.resized(0, batch) for each in found if each.shape]
    alike = [each for each in found if main is not None and len(each.shape) == len(main.shape)]
    if main is not None and main.kind == "ids" and len(main.shape) == 2:
        alike = [each for each in found if len(each.shape) == 3]  # features of other tokens
    if main is not None and len(main.shape) == 3 and main.kind == "normal":
        alike = [each.resized(1, main.shape[1]) if isinstance(layer, nn.Linear) else each for each in alike]
    if main is not None and len(main.shape) == 4:
        alike = [
            each if len(each.shape) < 4 else replace(each, shape=(*each.shape[:2], *main.shape[2:])) for each in alike
        ]
    return [*alike, *(each for each in found if each not in alike)][:6]


def _looked_up(name: str, layer: nn.Module, main: Guess | None) -> list[Guess]:
    high = int(layer.num_embeddings)  # type: ignore[arg-type]
    if main is None:
        pair: tuple[int, ...] = (SEQUENCE_BATCH, LENGTH)
        single: tuple[int, ...] = (VECTOR_BATCH,)
    else:
        batch = main.shape[0] if main.shape else SEQUENCE_BATCH
        pair, single = (batch, main.shape[1] if len(main.shape) in (2, 3) and main.kind == "ids" else LENGTH), (batch,)
    if main is not None and main.kind == "ids":
        single = main.shape[:1]
        pair = main.shape if len(main.shape) > 1 else pair
    by_sample = _ONE_PER_SAMPLE.fullmatch(name.lower()) is not None
    if main is not None and main.floating:
        by_sample = len(main.shape) in (2, 4) or (by_sample and not name.lower().endswith("s"))
        pair = (main.shape[0], main.shape[1]) if len(main.shape) == 3 else pair
    if main is not None and main.kind == "ids" and len(main.shape) == 1:
        by_sample = True
    shapes = (single, pair) if by_sample else (pair, single)
    return [Guess("ids", shape, high) for shape in shapes]


def _state(layer: nn.Module, main: Guess | None, *, whole: bool) -> Guess:
    """The state of a recurrent layer: (layers, batch, features), or (batch, features) for a cell."""
    batch = SEQUENCE_BATCH if main is None or not main.shape else main.shape[0]
    shape: tuple[int, ...] = (batch, int(layer.hidden_size))  # type: ignore[arg-type]
    pair = isinstance(layer, nn.LSTM | nn.LSTMCell)
    if isinstance(layer, nn.RNNBase):
        if not layer.batch_first and main is not None and len(main.shape) > 1:
            batch = (
                main.shape[1]
                if (len(main.shape) in (2, 3) and main.kind != "normal") or len(main.shape) == 3
                else batch
            )
        size = int(layer.proj_size or layer.hidden_size)
        shape = (layer.num_layers * (2 if layer.bidirectional else 1), batch, size)
    state = Guess("zeros", shape)
    return Guess("tuple", parts=(("h", state), ("c", state))) if pair and whole else state


def _attended(layer: nn.MultiheadAttention, position: int, main: Guess | None) -> list[Guess]:
    shape = main.shape if main is not None and len(main.shape) == 3 else (SEQUENCE_BATCH, LENGTH, layer.embed_dim)
    batch, length = shape[:2] if layer.batch_first else (shape[1], shape[0])
    if position in (1, 2):
        return [Guess("normal", (*shape[:2], int((layer.kdim, layer.vdim)[position - 1] or layer.embed_dim)))]
    if position == 3:
        return [Guess("false", (batch, length))]
    return [Guess("false", (length, length)), Guess("false", (batch * layer.num_heads, length, length))]


def _share(feed: Feed, whole: int) -> int | None:
    """The features of one of several arguments that stand side by side."""
    rest = whole - feed.beside
    others = [each for each in feed.mates if each is not _owner(feed)]
    known = [width(each) for each in others]
    if all(each is not None for each in known):
        rest -= sum(each for each in known if each is not None)
        return rest if rest > 0 else None
    small = max(1, rest // 4) if len(feed.mates) == 2 else max(1, rest // max(1, len(feed.mates)))
    first = feed.mates[0] is _owner(feed)
    own = rest - small * (len(feed.mates) - 1) if first else small
    return own if own > 0 else None


def _owner(feed: Feed) -> Facts | None:
    return next((each for each in feed.mates if any(one is feed for one in each.feeds)), None)


def _with_width(guess: Guess, layer: nn.Module, size: int) -> Guess:
    axis = 1 if isinstance(layer, nn.modules.conv._ConvNd) else -1
    return guess.resized(axis, size)


def _written(facts: Facts, main: Guess | None) -> list[Guess]:
    """Shapes of what is added to the argument, with the batch in front."""
    batch = SEQUENCE_BATCH if main is None or not main.shape else main.shape[0]
    found = []
    for shape in facts.shapes[:2]:
        sizes = [LENGTH if each is None else each for each in shape]
        if len(sizes) > 2:
            found.append(Guess("normal", (batch, *sizes[1:])))
        elif len(sizes) == 1:
            found += [Guess("normal", (VECTOR_BATCH, *sizes)), Guess("normal", (SEQUENCE_BATCH, LENGTH, *sizes))]
    return found


def _of_rank(name: str, facts: Facts, main: Guess | None) -> list[Guess]:
    """Usual sizes for a number of axes; the names that the author gave to the axes tell heads from channels."""
    named = [axis + 1 if axis >= 0 else max(2, -axis) for axis in facts.sizes]
    rank = facts.rank or max(facts.least, *named, 1)
    if main is not None and len(main.shape) == rank and main.floating:
        shapes: list[tuple[int, ...]] = [main.shape]
    else:
        batch = main.shape[0] if main is not None and main.shape else None
        few = [_FEW.get(each.lower()) for each in facts.axis_names]
        image = facts.axis_names[-1:] and facts.axis_names[-1].lower() in ("w", "width")
        heads = rank == 4 and len(few) == 4 and any(few[2:]) and not image
        usual: dict[int, list[tuple[int, ...]]] = {
            1: [(batch or VECTOR_BATCH,)],
            2: [(batch or VECTOR_BATCH, _WIDTH)],
            3: [(batch or SEQUENCE_BATCH, LENGTH, _WIDTH)],
            4: [(batch or SMALL_IMAGE_BATCH, 3, _SIDE, _SIDE), (batch or SEQUENCE_BATCH, LENGTH, 4, _WIDTH)],
            5: [(batch or LARGE_IMAGE_BATCH, 3, 8, _SIDE, _SIDE), (batch or LARGE_IMAGE_BATCH, 8, 3, _SIDE, _SIDE)],
        }
        shapes = usual.get(rank, [])
        if rank == 4 and not heads:  # attention blocks of which no layer tells the channels
            shapes += [(batch or SMALL_IMAGE_BATCH, each, _SIDE, _SIDE) for each in (64, 32, 128, 256, 512, 16)]
        if heads or re.fullmatch(r"q|k|v|quer(y|ies)|keys?|values?", name.lower()):
            shapes = [*shapes[1:2], *shapes[:1], *shapes[2:]]
    integers = "index" in facts.uses and "float" not in facts.uses
    kind = "ids" if integers else "normal"
    return [Guess(kind, shape, facts.table or 2) for shape in shapes]


def _fitted(guess: Guess, facts: Facts) -> Guess:
    """The guess with the sizes that are told; spatial axes become multiples of what divides them."""
    if guess.parts or not guess.shape:
        return guess
    shape = list(guess.shape)
    rank = len(shape)
    for axis, size in facts.sizes.items():
        if -rank <= axis < rank and axis != 0:
            shape[axis] = size
    for axis, factor in facts.factors.items():
        if -rank <= axis < rank and axis != 0 and shape[axis] % factor:
            shape[axis] = factor * max(1, math.ceil(shape[axis] / factor))
    if rank == 4 and shape[2:] != list(guess.shape[2:]) and shape[2] == shape[3] and guess.kind == "normal":
        shape[0] = min(shape[0], image_batch(shape[2]))
    table = facts.table or guess.high
    return replace(guess, shape=tuple(shape), high=table if guess.kind == "ids" else guess.high)
