"""Inputs of a transformers model from its configuration."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from stablelint.inputs import Inputs

_BATCH = 2
_LENGTH = 32
_DECODER_LENGTH = 16
_AUDIO_SAMPLES = 16_000
#: Ids below this are special tokens in most vocabularies.
_FIRST_ID = 5

_Shape = tuple[str, tuple[int, ...], int]  # name, shape, number of ids (0: floats)


def inputs_from_config(config: Any, model: nn.Module) -> list[tuple[Callable[[int], Inputs], str]]:
    """Makers of inputs with a description, best first: of all modalities, of the main one, and the model's own dummies.

    Labels are left out: the output to be judged is that of the network, not its loss.
    """
    parameters = inspect.signature(model.forward).parameters
    entries = [each for each in _entries(config, model) if each[0] in parameters]
    if not entries:
        return []
    cache = {"use_cache": False} if "use_cache" in parameters else {}
    images = _image_tokens(config, entries)
    choices = [entries]
    main = [each for each in entries if each[0] in (getattr(model, "main_input_name", ""), "decoder_input_ids")]
    text = [each for each in entries if each[0] in ("input_ids", "decoder_input_ids")]
    choices += [choice for choice in (main, text) if choice and choice not in choices]
    found: list[tuple[Callable[[int], Inputs], str]] = []
    for choice in choices:
        described = ", ".join(f"{name} = {'int' if ids else 'float'}{list(shape)}" for name, shape, ids in choice)
        found.append((partial(_make, choice, images if choice is entries else None, cache), described))
    dummies = type(model).__dict__.get("dummy_inputs")
    if dummies is not None:
        found.append((lambda _: Inputs(**_dummies(model), **cache), "dummy_inputs of the model"))
    return found


def code(inputs: Inputs) -> str:
    """The function to paste into the user's file for such inputs."""
    pairs = ", ".join(f'"{name}": {_expression(value)}' for name, value in inputs.kwargs.items())
    return f"def example_inputs(): return {{{pairs}}}"


def _expression(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return repr(value)
    if value.is_floating_point():
        return f"torch.randn({', '.join(map(str, value.shape))})"
    high = int(value.max()) + 1
    alike = (value == value[:1, :1]).all(0).cumprod(0) if value.ndim == 2 else value.new_zeros(1)
    count = int(alike.sum())  # ids that stand for the patches of an image come first, all the same
    if count < 2:
        return f"torch.randint(0, {high}, {tuple(value.shape)})"
    rows, columns = value.shape
    same = f"torch.full(({rows}, {count}), {int(value[0, 0])})"
    return f"torch.cat([{same}, torch.randint(0, {high}, ({rows}, {columns - count}))], 1)" if columns > count else same


def _dummies(model: Any) -> dict[str, Any]:
    return dict(model.dummy_inputs)


def only_text(described: str) -> bool:
    """Whether inputs hold nothing but ids, which need no trial: the configuration says all about them."""
    return "float" not in described and "dummy" not in described


def _make(entries: list[_Shape], images: tuple[int, int] | None, cache: dict[str, Any], seed: int) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    made: dict[str, Any] = {}
    for name, shape, ids in entries:
        if ids:
            low = min(_FIRST_ID, ids // 2)
            made[name] = torch.randint(low, ids, shape, generator=generator)
        else:
            made[name] = torch.randn(shape, generator=generator)
    if images is not None:
        token, count = images
        text = made["input_ids"]
        text[text == token] = 0
        made["input_ids"] = torch.cat([text.new_full((len(text), count), token), text], 1)
    return Inputs(**made, **cache)


def _entries(config: Any, model: nn.Module) -> list[_Shape]:
    text, vision = _part(config, "text_config"), _part(config, "vision_config")
    found: list[_Shape] = []
    vocabulary = _number(text, "vocab_size") or _number(config, "vocab_size")
    if vocabulary:
        longest = _number(text, "max_position_embeddings", "n_positions", "max_seq_len") or _LENGTH
        length = _only_length(config) or (min(_LENGTH, longest) if longest > 0 else _LENGTH)  # -1: no limit
        found.append(("input_ids", (_BATCH, length), vocabulary))
        if getattr(config, "is_encoder_decoder", False):
            decoder = _number(_part(config, "decoder"), "vocab_size") or vocabulary
            found.append(("decoder_input_ids", (_BATCH, min(_DECODER_LENGTH, length)), decoder))
    channels = _number(vision, "num_channels", "in_channels") or 3
    height, width = _image_size(vision)
    frames = _number(vision, "num_frames")
    if frames and "Video" in type(model).__name__ + str(getattr(config, "model_type", "")).title():
        found.append(("pixel_values", (_BATCH, frames, channels, height, width), 0))
    else:
        found.append(("pixel_values", (_BATCH, channels, height, width), 0))
    found.append(("input_values", _audio(config), 0))
    bins = _number(config, "num_mel_bins", "input_feat_per_channel", "feature_size") or 80
    positions = _number(config, "max_source_positions")
    if "whisper" in str(getattr(config, "model_type", "")):
        found.append(("input_features", (_BATCH, bins, 2 * (positions or 1500)), 0))
    else:
        found.append(("input_features", (_BATCH, 128, bins), 0))
    names = {each[0] for each in found}
    main = getattr(model, "main_input_name", "input_ids")
    if main in names and main != "input_ids" and "text_config" not in vars(config):
        found = [each for each in found if each[0] in (main, "decoder_input_ids")]
    elif main == "input_ids" or "text_config" in vars(config):
        media = ["pixel_values"] if hasattr(config, "vision_config") else []
        media += ["input_features", "input_values"] if hasattr(config, "audio_config") else []
        found = [each for each in found if each[0] in ("input_ids", "decoder_input_ids", *media)]
    return found


def _only_length(config: Any) -> int | None:
    """The length of all sequences in training where positions are factors of a grid."""
    grid = getattr(config, "axial_pos_shape", None)
    return math.prod(grid) if grid and getattr(config, "axial_pos_embds", False) else None


def _audio(config: Any) -> tuple[int, ...]:
    """A waveform, or for models on spectrograms (time, mel bins)."""
    length, bins = _number(config, "max_length"), _number(config, "num_mel_bins")
    spectrogram = "spectrogram" in str(getattr(config, "model_type", ""))
    return (_BATCH, length, bins) if length and bins and spectrogram else (_BATCH, _AUDIO_SAMPLES)


def _image_tokens(config: Any, entries: list[_Shape]) -> tuple[int, int] | None:
    """The id that stands for an image patch in the text, and how many there must be: one for each patch."""
    names = {each[0] for each in entries}
    token = _number(config, "image_token_index", "image_token_id")
    vision = _part(config, "vision_config")
    patch = _number(vision, "patch_size")
    if token is None or not patch or not {"input_ids", "pixel_values"} <= names:
        return None
    height, width = _image_size(vision)
    return token, (height // patch) * (width // patch)


def _part(config: Any, name: str) -> Any:
    found = getattr(config, name, None)
    return config if found is None else found


def _number(config: Any, *names: str) -> int | None:
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _image_size(vision: Any) -> tuple[int, int]:
    size = getattr(vision, "image_size", None)
    if isinstance(size, (tuple, list)) and len(size) == 2:
        return int(size[0]), int(size[1])
    return (size, size) if isinstance(size, int) and size > 0 else (224, 224)
