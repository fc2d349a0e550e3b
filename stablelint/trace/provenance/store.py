"""What is known of the values of tensors while a model is built, by their memory."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import _disable_current_modes

from stablelint.trace.bindings import storage_of
from stablelint.trace.provenance.contents import Contents, Region, moments
from stablelint.trace.provenance.sample import UNFILLED, UNKNOWN, Sample, of_tensor
from stablelint.trace.provenance.unwritten import marked

_SWEEP = 4096  # new memories between two sweeps of those that are gone


class Moments(NamedTuple):
    """Of the initial values of a tensor; NaN when they are not known, also because nobody wrote them."""

    mean: float
    std: float
    rms: float
    row_similarity: float | None


class Provenance:
    """Contents of memory that was not allocated, and which memory nobody has written."""

    def __init__(self) -> None:
        self._contents: dict[int, tuple[StorageWeakRef, Contents]] = {}
        self._measured: dict[int, list[tuple[StorageWeakRef, Region, Moments]]] = {}
        self._next_sweep = _SWEEP

    # ---- asking

    def unfilled(self, tensor: torch.Tensor) -> bool:
        """Whether (a part of) the memory of ``tensor`` was never written."""
        if self._measurement(tensor) is not None:
            return False
        contents = self.contents(tensor)
        if contents is not None:
            return any(not sample.filled for sample, _ in contents.parts(Region.of(tensor)))
        return marked(tensor)

    def moments(self, tensor: torch.Tensor) -> Moments | None:
        """Statistics of a tensor that was not allocated; None for any other."""
        measured = self._measurement(tensor)
        if measured is not None:
            return measured
        contents = self.contents(tensor)
        if contents is None or tensor.numel() == 0:
            return None
        parts = contents.parts(Region.of(tensor))
        mean, std, rms = moments(parts)
        similarity = None
        if tensor.dim() >= 2 and tensor.shape[0] >= 2 and math.isfinite(rms) and all(part.iid for part, _ in parts):
            # Rows of elements that are all alike: E[<a, b>] / E[<a, a>].
            similarity = 1.0 if rms == 0.0 else min(1.0, (mean / rms) ** 2)
        return Moments(mean, std, rms, similarity)

    def _measurement(self, tensor: torch.Tensor) -> Moments | None:
        """What was measured of exactly these elements."""
        if not self._measured:
            return None
        found = self._measured.get(storage_of(tensor) or 0, ())
        return next((moments for _, region, moments in found if region.same(Region.of(tensor))), None)

    def contents(self, tensor: torch.Tensor) -> Contents | None:
        """The contents of the memory behind a tensor on meta; None when it was never seen."""
        found = self._contents.get(storage_of(tensor) or 0)
        return None if found is None else found[1]

    def sample(self, tensor: torch.Tensor) -> Sample:
        """The values of any tensor."""
        if tensor.is_meta:
            contents = self.contents(tensor)
            return UNKNOWN if contents is None else contents.read(Region.of(tensor))
        if tensor.layout is not torch.strided:
            return UNKNOWN
        return UNFILLED if marked(tensor) else of_tensor(tensor)

    # ---- noting

    def put(self, tensor: torch.Tensor, contents: Contents | Sample) -> None:
        """``tensor``, which is new, has these contents."""
        storage = tensor.untyped_storage()
        size = storage.nbytes() // max(1, tensor.element_size())
        if isinstance(contents, Sample):
            contents = Contents(size, contents)
        # The weak reference keeps the address from being used again without keeping the memory.
        reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        self._contents[storage._cdata] = (reference, contents)
        if len(self._contents) > self._next_sweep:
            gone = [key for key, (reference, _) in self._contents.items() if reference.expired()]  # type: ignore[no-untyped-call]
            for key in gone:
                del self._contents[key]
            self._next_sweep = len(self._contents) + _SWEEP

    def on_meta(self, value: Any) -> Any:
        """An allocated tensor as one on meta, for functions that insist on one device; anything else as it is."""
        if not isinstance(value, torch.Tensor) or value.is_meta:
            return value
        with torch._C.DisableTorchFunction(), _disable_current_modes(), torch.no_grad():
            bare = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
            self.put(bare, self.sample(value))
        return bare

    def measured(self, tensor: torch.Tensor, moments: Moments) -> None:
        """``tensor``, which is on meta, has values elsewhere, with these statistics."""
        storage = tensor.untyped_storage()
        reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        self._measured.setdefault(storage._cdata, []).insert(0, (reference, Region.of(tensor), moments))
