"""Which recorded op a tensor is the result of."""

from __future__ import annotations

from collections import defaultdict

import torch

from stablelint.trace.shards import is_dtensor


class Bindings:
    """Tensors by identity, and by memory where identity is lost.

    Every bound tensor is kept alive, so neither an ``id`` nor the address of a storage is ever used twice.
    """

    def __init__(self) -> None:
        self._index: dict[int, int] = {}
        self._keep: list[torch.Tensor] = []
        self._latest: dict[int, tuple[int, torch.Tensor]] = {}  # storage -> last tensor bound to it
        self._writes: dict[int, list[tuple[int, torch.Tensor]]] = defaultdict(list)  # storage -> in-place ops

    def bind(self, tensor: torch.Tensor, index: int) -> None:
        """``tensor`` is the result of op ``index``."""
        for layer in wrapped(tensor):
            self._index[id(layer)] = index
            self._keep.append(layer)
            storage = storage_of(layer)
            if storage is not None:
                self._latest[storage] = (index, layer)

    def written(self, tensor: torch.Tensor, index: int) -> None:
        """Op ``index`` wrote into ``tensor``."""
        self.bind(tensor, index)
        storage = storage_of(tensor)
        if storage is not None:
            self._writes[storage].append((index, tensor))

    def find(self, tensor: torch.Tensor) -> int | None:
        """The op that made ``tensor``, by identity alone."""
        for layer in wrapped(tensor):
            if id(layer) in self._index:
                return self._index[id(layer)]
        return None

    def same_memory(self, tensor: torch.Tensor) -> tuple[int, torch.Tensor] | None:
        """The last op that made a tensor on the memory of ``tensor``, with that tensor."""
        storage = storage_of(wrapped(tensor)[-1])
        return None if storage is None else self._latest.get(storage)

    def pending_writes(self, tensor: torch.Tensor, index: int) -> list[tuple[int, torch.Tensor]]:
        """The in-place ops after op ``index`` that changed elements of ``tensor`` through another tensor."""
        if not self._writes:
            return []
        writes = self._writes.get(storage_of(tensor) or 0)
        if not writes or writes[-1][0] <= index:
            return []
        return [(at, other) for at, other in writes if at > index and overlap(tensor, other)]


def wrapped(tensor: torch.Tensor) -> list[torch.Tensor]:
    """``tensor`` and what it wraps inside ``torch.func`` transforms, or as a part of many, outermost first."""
    layers = [tensor]
    if is_dtensor(tensor):
        layers.append(tensor._local_tensor)  # type: ignore[attr-defined]
    while torch._C._functorch.is_functorch_wrapped_tensor(layers[-1]):
        layers.append(torch._C._functorch.get_unwrapped(layers[-1]))
    return layers


def storage_of(tensor: torch.Tensor) -> int | None:
    """The identity of the memory behind ``tensor``; None for tensors without any (sparse, lazy)."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError):
        return None


def same_elements(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors on one storage are the same elements in the same order."""
    return (first.shape, first.stride(), first.storage_offset()) == (
        second.shape,
        second.stride(),
        second.storage_offset(),
    )


def overlap(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors on one storage have elements in common.

    Both are read as boxes in the coordinates that their strides span; chunks of one tensor are disjoint boxes.
    """
    sizes = [{step: size for size, step in zip(t.shape, t.stride(), strict=True) if step} for t in (first, second)]
    offsets = [first.storage_offset(), second.storage_offset()]
    for step in sorted(set(sizes[0]) | set(sizes[1]), reverse=True):
        starts = [offset // step for offset in offsets]
        offsets = [offset % step for offset in offsets]
        reach = [sum((n - 1) * s for s, n in size.items() if s < step) for size in sizes]
        carries = [(offset + far) // step for offset, far in zip(offsets, reach, strict=True)]
        ends = [start + size.get(step, 1) + carry for start, size, carry in zip(starts, sizes, carries, strict=True)]
        if ends[0] <= starts[1] or ends[1] <= starts[0]:
            return False
        if any(carries):  # finer coordinates wrap around: no box any more
            return True
    return bool(offsets[0] == offsets[1])  # neighbouring columns differ in what no stride reaches
