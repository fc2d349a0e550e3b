"""What the layers of a model say about the tensor that it wants."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from torch import nn

from stablelint.targets.guess import (
    LARGE_IMAGE_BATCH,
    LENGTH,
    SEQUENCE_BATCH,
    SMALL_IMAGE,
    SMALL_IMAGE_BATCH,
    VECTOR_BATCH,
    Guess,
)

#: Sides of square images, most common first; a model that flattens accepts only one.
SIDES = (32, 28, 64, 224, 16, 96, 128, 256, 299, 48, 8, 84)

_SIDE_NAMES = ("image_size", "img_size", "input_size", "resolution", "input_resolution")
_SEQUENCE_WORDS = ("attn", "attention", "transformer", "lstm", "gru", "rnn", "sequence", "seq2seq", "temporal")
_SEQUENCE_LAYERS = (nn.RNNBase, nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


def image(channels: int, side: int) -> Guess:
    """A batch of square images."""
    return Guess("normal", (image_batch(side), channels, side, side))


def image_batch(side: int) -> int:
    """How many images of this side."""
    return SMALL_IMAGE_BATCH if side <= SMALL_IMAGE else LARGE_IMAGE_BATCH


def is_sequential(model: nn.Module) -> bool:
    """Whether a model looks as if it works on sequences of vectors."""
    return any(
        isinstance(module, _SEQUENCE_LAYERS) or any(word in type(module).__name__.lower() for word in _SEQUENCE_WORDS)
        for module in model.modules()
    )


def entries(model: nn.Module) -> Iterator[Guess]:
    """What the first layers of the model accept, in the order of registration, without repetitions."""
    seen: set[Guess] = set()
    for module in model.modules():
        for guess in entry(module, model):
            if guess not in seen:
                seen.add(guess)
                yield guess


def entry(module: nn.Module, model: nn.Module) -> list[Guess]:
    """Inputs that a layer accepts, best first; nothing for what is not a known layer."""
    width = wanted_width(module)
    if isinstance(module, nn.Embedding):
        return [Guess("ids", (SEQUENCE_BATCH, LENGTH), module.num_embeddings)]
    if isinstance(module, nn.EmbeddingBag):
        return [Guess("ids", (SEQUENCE_BATCH, LENGTH), module.num_embeddings)]
    if width is None:
        return []
    if isinstance(module, nn.Conv1d | nn.ConvTranspose1d | nn.LazyConv1d):
        return [Guess("normal", (SEQUENCE_BATCH, width, length)) for length in (64, 256, 1024)]
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d | nn.BatchNorm3d | nn.LazyConv3d):
        return [Guess("normal", (LARGE_IMAGE_BATCH, width, depth, side, side)) for depth, side in ((8, 32), (16, 64))]
    if isinstance(module, nn.ConvTranspose2d):
        return [Guess("normal", (SMALL_IMAGE_BATCH, width, side, side)) for side in (1, 4, 8, 32)]
    if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.LazyConv2d):
        return [image(width, side) for side in sides(model)]
    if isinstance(module, nn.GroupNorm):
        return [image(width, 32), Guess("normal", (SEQUENCE_BATCH, width, LENGTH))]
    if isinstance(module, nn.RNNCellBase | nn.BatchNorm1d):
        return [Guess("normal", (VECTOR_BATCH, width)), Guess("normal", (SEQUENCE_BATCH, LENGTH, width))]
    sequence = Guess("normal", (SEQUENCE_BATCH, LENGTH, width))
    if isinstance(module, nn.RNNBase | nn.MultiheadAttention):
        return [sequence if module.batch_first else Guess("normal", (LENGTH, SEQUENCE_BATCH, width))]
    if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
        first = module.self_attn.batch_first
        return [sequence if first else Guess("normal", (LENGTH, SEQUENCE_BATCH, width))]
    vector = Guess("normal", (VECTOR_BATCH, width))
    # A layer that works on vectors also accepts the tokens of an unbatched sequence, which would mix the samples.
    return [sequence, vector] if is_sequential(model) else [vector, sequence]


def wanted_width(module: nn.Module) -> int | None:
    """The number of channels or features that a layer wants of its input; None for what has no such number."""
    if isinstance(module, nn.LazyConv1d | nn.LazyConv2d | nn.LazyConv3d):
        return module.in_channels or 3
    if isinstance(module, nn.LazyLinear):
        return module.in_features or 64
    if isinstance(module, nn.Linear):
        return module.in_features
    if isinstance(module, nn.Bilinear):
        return module.in1_features
    if isinstance(module, nn.modules.conv._ConvNd):
        return module.in_channels
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return int(module.input_size)
    if isinstance(module, nn.MultiheadAttention):
        return int(module.embed_dim)
    if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
        return int(module.self_attn.embed_dim)
    if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.instancenorm._InstanceNorm):
        return int(module.num_features) or None
    if isinstance(module, nn.GroupNorm):
        return module.num_channels
    if isinstance(module, nn.LayerNorm):
        return module.normalized_shape[-1]
    return None


def sides(model: nn.Module) -> list[int]:
    """Image sides to try: what the model's own attributes say, then the usual ones."""
    told: list[int] = []
    for _, module in zip(range(50), model.modules(), strict=False):
        if isinstance(module, nn.RNNBase | nn.RNNCellBase):
            continue  # their input_size counts features
        for owner in (module, getattr(module, "config", None), getattr(module, "cfg", None)):
            for name in _SIDE_NAMES:
                value = getattr(owner, name, None)
                value = value[-1] if isinstance(value, tuple | list) and value else value
                if isinstance(value, int) and not isinstance(value, bool) and 4 <= value <= 1024:
                    told.append(value)
    return list(dict.fromkeys([*told, *SIDES]))


def attribute(model: nn.Module, names: Iterable[str], least: int, most: int) -> int | None:
    """The first integer between two bounds that the model, or a configuration that it holds, has under a name."""
    for owner in (
        model,
        *(getattr(model, each, None) for each in ("config", "cfg", "configs", "args", "params", "hparams")),
    ):
        for name in names:
            value = owner.get(name) if isinstance(owner, dict) else getattr(owner, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
                return value
    return None


def scaled_sides(side: int, got: int, wanted: int) -> list[int]:
    """Sides whose flattened image could have ``wanted`` elements, when ``side`` gives ``got``."""
    exact = side * math.sqrt(wanted / got)
    usual = sorted((each for each in SIDES if abs(each - exact) <= 0.15 * exact), key=lambda each: abs(each - exact))
    near = [round(exact), *usual[:2], 4 * math.ceil(exact / 4), round(exact) + 1, round(exact) + 2, round(exact) - 1]
    return [each for each in dict.fromkeys(near) if 1 <= each <= 1024]


def classes(model: nn.Module) -> int:
    """The number of outputs of the last linear layer: what a class label must stay below."""
    return next((each.out_features for each in reversed(list(model.modules())) if isinstance(each, nn.Linear)), 2)
