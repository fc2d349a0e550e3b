"""The files of a checkpoint: found, opened without running what they hold, and read a piece at a time.

Both formats are mapped into memory, not read. A page that was touched stays until the mapping ends, so a file is
mapped anew after some hundred megabytes: memory stays flat however large it is.
"""

from __future__ import annotations

import json
import pickle
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from stablelint.errors import CheckpointTargetError
from stablelint.targets.checkpoint.pieces import Piece
from stablelint.targets.loading import short
from stablelint.targets.spec import shown

#: Bytes that may be read of one mapping, and what the system maps around every place (a huge page at most).
_MAPPED = 256 << 20
_AROUND = 2 << 20
_DEPTH = 4  # dictionaries inside of dictionaries
_TORCH = (".bin", ".pt", ".pth", ".ckpt")
_USUAL = ("model", "pytorch_model", "diffusion_pytorch_model")
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8",
    "BOOL": "bool", "C64": "complex64",
}  # fmt: skip


class Entry(NamedTuple):
    """One tensor of a checkpoint, not read. ``dtype`` is torch's name of it, or what else its form is called.

    ``name`` begins with ``group``: the keys of the dictionaries that it lies in, each with a point behind.
    """

    name: str
    group: str
    shape: tuple[int, ...]
    dtype: str


class Checkpoint:
    """All tensors of one or several files by name."""

    def __init__(self, path: Path) -> None:
        self.shown = shown(path)
        self.entries: dict[str, Entry] = {}
        self._files: dict[str, _File] = {}
        self._open: _File | None = None
        for each in _files_of(path):
            with _readable(each):
                file: _File = _Safetensors(each) if each.suffix == ".safetensors" else _Pickled(each)
                for entry in file.entries():
                    self.entries.setdefault(entry.name, entry)
                    self._files.setdefault(entry.name, file)
                file.close()

    def read(self, name: str, piece: Piece = ()) -> torch.Tensor:
        """A piece of a tensor; use it up before the next one is read, and read in the order of ``entries``."""
        file = self._files[name]
        if self._open is not file:
            self.close()
            self._open = file
        with _readable(file.path):
            return file.read(name, piece)

    def close(self) -> None:
        """Let the file go that was read last."""
        if self._open is not None:
            self._open.close()


class _File(ABC):
    """A mapped file; ``close`` ends the mapping, and whatever is asked next begins a new one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: Any = None
        self._touched = 0

    @abstractmethod
    def entries(self) -> Iterator[Entry]: ...

    def read(self, name: str, piece: Piece) -> torch.Tensor:
        if self._touched > _MAPPED:
            self.close()
        found = self._view(name, piece)
        self._touched += found.numel() * found.element_size() + _AROUND
        return found

    def close(self) -> None:
        self._opened, self._touched = None, 0

    @abstractmethod
    def _view(self, name: str, piece: Piece) -> torch.Tensor: ...


class _Safetensors(_File):
    _latest: tuple[str, Any] = ("", None)  # a new slice for each of a thousand pieces would double their cost

    def entries(self) -> Iterator[Entry]:
        for name in self._handle().keys():  # noqa: SIM118 (no mapping)
            described = self._handle().get_slice(name)
            form = described.get_dtype()
            yield Entry(name, "", tuple(described.get_shape()), _DTYPES.get(form, form))

    def close(self) -> None:
        super().close()
        self._latest = ("", None)

    def _view(self, name: str, piece: Piece) -> torch.Tensor:
        found: torch.Tensor
        if not piece:
            found = self._handle().get_tensor(name)
            return found
        if self._latest[0] != name:
            self._latest = (name, self._handle().get_slice(name))
        found = self._latest[1][piece]
        return found

    def _handle(self) -> Any:
        from safetensors import safe_open

        if self._opened is None:
            self._opened = safe_open(self.path, framework="pt")
        return self._opened


class _Pickled(_File):
    _mapped = True

    def entries(self) -> Iterator[Entry]:
        for name, (group, tensor) in self._tensors().items():
            yield Entry(name, group, tuple(tensor.shape), _form(tensor))

    def close(self) -> None:
        if self._mapped:
            super().close()

    def _view(self, name: str, piece: Piece) -> torch.Tensor:
        return self._tensors()[name][1].detach()[piece]

    def _tensors(self) -> dict[str, tuple[str, torch.Tensor]]:
        if self._opened is None:
            self._opened = {group + key: (group, tensor) for group, key, tensor in _flat(self._load())}
        found: dict[str, tuple[str, torch.Tensor]] = self._opened
        return found

    def _load(self) -> Any:
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
        self._mapped = False  # the format before torch 1.6
        return torch.load(self.path, map_location="cpu", weights_only=True)


def _flat(value: Any, group: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, str, torch.Tensor]]:
    """The tensors of nested dictionaries, with the keys on the way."""
    if not isinstance(value, Mapping) or depth == 0:
        return
    for key, item in value.items():
        if isinstance(key, str) and isinstance(item, torch.Tensor):
            yield group, key, item
        elif isinstance(key, str):
            yield from _flat(item, f"{group}{key}.", depth - 1)


def _form(tensor: torch.Tensor) -> str:
    if type(tensor) not in (torch.Tensor, nn.Parameter):
        return type(tensor).__name__
    form = tensor.dtype if tensor.layout is torch.strided else tensor.layout
    return str(form).removeprefix("torch.")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """One sentence for whatever keeps a file from being read."""
    try:
        yield
    except CheckpointTargetError:
        raise
    except ImportError as error:
        raise CheckpointTargetError(
            f"{shown(path)} needs safetensors, which cannot be imported ({error}): pip install safetensors"
        ) from None
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is None:
            raise CheckpointTargetError(f"{shown(path)} cannot be read as a checkpoint of torch.save") from error
        raise CheckpointTargetError(
            f"{shown(path)} is not read: it holds Python objects ({refused[1]}) and unpickling those runs code; "
            "save the state_dict() alone"
        ) from error
    except Exception as error:
        if "TorchScript" in str(error):
            raise CheckpointTargetError(
                f"{shown(path)} is a TorchScript archive, which holds code; save its state_dict() alone"
            ) from error
        raise CheckpointTargetError(f"{shown(path)} cannot be read as a checkpoint: {short(error)}") from error


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        path = _inside(path)
    if not path.is_file():
        raise CheckpointTargetError(f"there is no checkpoint {shown(path)}")
    return _shards(path) if path.suffix == ".json" else [path]


def _inside(folder: Path) -> Path:
    """The checkpoint of a folder: an index before what it lists, safetensors before torch."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    for ends in ((".safetensors.index.json",), (".safetensors",), (".bin.index.json",), _TORCH):
        found = [name for name in names if name.endswith(ends)]
        usual = [name for name in found if name.partition(".")[0] in _USUAL]
        chosen = found if len(found) == 1 else [name for name in usual if len(usual) == 1 or name.count(".") == 1]
        if len(chosen) == 1:
            return folder / chosen[0]
        if found:
            raise CheckpointTargetError(f"{shown(folder)} holds several checkpoints: name one of {', '.join(found)}")
    raise CheckpointTargetError(f"{shown(folder)} holds no checkpoint: neither safetensors nor a file of torch")


def _shards(index: Path) -> list[Path]:
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        shards = [index.parent / name for name in dict.fromkeys(names)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointTargetError(f"{shown(index)} is no index of a checkpoint: it has no weight_map") from None
    for shard in shards:
        if not shard.is_file():
            raise CheckpointTargetError(f"{shown(index)} names {shard.name}, which is not there")
    return shards
