"""Give a model the values of a checkpoint, and say what it lacks.

What is allocated gets the values themselves. Of what is on meta, never allocated, the statistics are read: rules and
predictions ask for no more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from stablelint.errors import CheckpointTargetError
from stablelint.targets.checkpoint.files import Checkpoint, Entry
from stablelint.targets.checkpoint.names import match
from stablelint.targets.checkpoint.pieces import WHOLE, sample, tiles
from stablelint.trace import Origins
from stablelint.trace.bindings import storage_of
from stablelint.trace.provenance import Moments
from stablelint.trace.weights import statistics

_NAMED = 3
# Dtypes of torch that no copy converts: codes of quantised tensors, two numbers in a byte.
_UNREADABLE = ("qint8", "quint8", "qint32", "quint4x2", "quint2x4", "float4_e2m1fn_x2")


def fill(model: nn.Module, origins: Origins, path: Path, name: str) -> tuple[str, ...]:
    """Read the checkpoint at ``path`` into the model called ``name``; returns remarks.

    CheckpointTargetError when the file cannot be read, holds nothing of the model, or a tensor of another shape.
    """
    checkpoint = Checkpoint(path)
    tensors = _persistent(model)
    entries = checkpoint.entries
    matching = match(
        {key: tuple(tensor.shape) for key, (tensor, _) in tensors.items()},
        {key: entry.shape for key, entry in entries.items()},
        {entry.group for entry in entries.values()},
    )
    if not matching.pairs:
        raise CheckpointTargetError(_nothing(checkpoint, tensors, name))
    pairs = {key: entries[found] for key, found in matching.pairs.items()}
    encoded = _encoded(pairs, tensors, entries)
    plain = {key: entry for key, entry in pairs.items() if key not in encoded}
    _check_shapes(plain, tensors, checkpoint, name)
    order = {found: place for place, found in enumerate(entries)}
    for key, entry in sorted(plain.items(), key=lambda item: order[item[1].name]):
        tensor, buffer = tensors[key]
        origins.loaded(tensor, _put(tensor, checkpoint, entry, buffer=buffer))
    checkpoint.close()
    where = sorted({entry.group for entry in pairs.values()})
    extra = [key for key, entry in entries.items() if entry.group in where and key not in matching.pairs.values()]
    return tuple(
        _remarks(
            checkpoint.shown,
            ties=(matching.prefix, *matching.others) if matching.others else (),
            encoded=[f"{key} ({entry.dtype})" for key, entry in pairs.items() if key in encoded],
            absent=_absent(tensors, plain, encoded),
            extra=[key for key in extra if not (encoded and _companion(key, encoded, pairs))],
        )
    )


def _persistent(model: nn.Module) -> dict[str, tuple[torch.Tensor, bool]]:
    """What the model's state dict names, tied tensors under each of their names, with whether it is a buffer."""
    found: dict[str, tuple[torch.Tensor, bool]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        before = f"{path}." if path else ""
        passing = getattr(module, "_non_persistent_buffers_set", ())
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            found[before + name] = (parameter, False)
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
            if name not in passing:
                found[before + name] = (buffer, True)
    return {name: item for name, item in found.items() if not is_lazy(item[0]) and item[0].layout is torch.strided}


def _encoded(
    pairs: Mapping[str, Entry], tensors: Mapping[str, tuple[torch.Tensor, bool]], entries: Mapping[str, Entry]
) -> set[str]:
    """Names of weights that the file holds in code: as integers, eight-bit floats with a scale, or no dense tensor."""
    used = {entry.name for entry in pairs.values()}
    scaled = {_split(name)[0] for name in entries if name not in used and "scale" in _split(name)[1]}
    found = set()
    for key, entry in pairs.items():
        tensor, buffer = tensors[key]
        dtype = getattr(torch, entry.dtype, None)
        if not isinstance(dtype, torch.dtype) or entry.dtype in _UNREADABLE:
            found.add(key)
        elif dtype != tensor.dtype and not buffer and (tensor.is_floating_point() or tensor.is_complex()):
            scale = dtype.itemsize == 1 and not scaled.isdisjoint((entry.name, _split(entry.name)[0]))
            if scale or not (dtype.is_floating_point or (dtype.is_complex and tensor.is_complex())):
                found.add(key)
    return found


def _check_shapes(
    pairs: Mapping[str, Entry], tensors: Mapping[str, tuple[torch.Tensor, bool]], checkpoint: Checkpoint, name: str
) -> None:
    wrong = [
        f"{key} is {list(entry.shape)} in the file and {list(tensors[key][0].shape)} in the model"
        for key, entry in pairs.items()
        if entry.shape != tuple(tensors[key][0].shape) and {entry.shape, tuple(tensors[key][0].shape)} != {(), (1,)}
    ]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise CheckpointTargetError(f"{checkpoint.shown} does not fit {name}: {wrong[0]}{more}")


def _put(tensor: torch.Tensor, checkpoint: Checkpoint, entry: Entry, *, buffer: bool) -> Moments | None:
    """Write the values into an allocated tensor; the statistics of them for one on meta."""
    with torch.no_grad():
        if not tensor.is_meta:
            target = tensor.detach().view(entry.shape) if tensor.numel() == 1 else tensor.detach()
            for piece in tiles(entry.shape, WHOLE):
                target[piece].copy_(checkpoint.read(entry.name, piece))
            return None
        mean, std, rms, similarity = statistics(_values(checkpoint, entry))
        return Moments(mean, std, rms, None if buffer or not tensor.is_floating_point() else similarity)


def _values(checkpoint: Checkpoint, entry: Entry) -> torch.Tensor:
    """A tensor, or a sample of rows and columns of a large one."""
    if math.prod(entry.shape) <= WHOLE:
        return _wide(checkpoint.read(entry.name))
    rows = []
    for group in sample(entry.shape):
        parts = [_wide(checkpoint.read(entry.name, piece)) for piece in group]
        rows.append(torch.cat([part.reshape(part.shape[0], -1) for part in parts], dim=1))
    values = torch.cat(rows)
    return values if len(entry.shape) > 1 else values.reshape(-1)


def _wide(values: torch.Tensor) -> torch.Tensor:
    """A copy, for the file's memory must go; eight-bit floats have few functions."""
    return values.float() if values.is_floating_point() and values.element_size() < 4 else values.clone()


def _absent(
    tensors: Mapping[str, tuple[torch.Tensor, bool]], given: Mapping[str, Entry], encoded: set[str]
) -> list[str]:
    """Names that the file has under no name of the same memory; integers, such as counters, have no statistics."""
    known = {(storage_of(tensors[key][0]), tensors[key][0].storage_offset()) for key in (*given, *encoded)}
    return [
        key
        for key, (tensor, _) in tensors.items()
        if tensor.is_floating_point() and (storage_of(tensor), tensor.storage_offset()) not in known
    ]


def _companion(name: str, encoded: set[str], pairs: Mapping[str, Entry]) -> bool:
    """Whether a tensor only serves to decode one that was named already."""
    owners = {part for key in encoded for part in (pairs[key].name, _split(pairs[key].name)[0])}
    return _split(name)[0] in owners


def _split(name: str) -> tuple[str, str]:
    before, _, last = name.rpartition(".")
    return before, last


def _nothing(checkpoint: Checkpoint, tensors: Mapping[str, object], name: str) -> str:
    if not checkpoint.entries:
        return f"{checkpoint.shown} holds no tensors by name; save the state_dict() of the model"
    return (
        f"{checkpoint.shown} holds nothing of {name}: it names {_list(list(checkpoint.entries))}, "
        f"the model {_list(list(tensors))}"
    )


def _remarks(
    file: str, *, ties: Sequence[str], encoded: Sequence[str], absent: Sequence[str], extra: Sequence[str]
) -> list[str]:
    found = []
    if ties:
        found.append(f"the names in {file} fit under {_list(ties)}; the first is used")
    if encoded:
        found.append(f"{file} holds {_list(encoded)}, which is not decoded; the initial values are kept")
    if absent:
        found.append(f"{file} lacks {_list(absent)}, which {_keep(absent)}")
    if extra:
        found.append(f"{file} holds {_list(extra)}, which the model lacks")
    return found


def _keep(names: Sequence[str]) -> str:
    return "keeps its initial values" if len(names) == 1 else "keep their initial values"


def _list(names: Sequence[str]) -> str:
    """``a, b, c and 5 more``."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
