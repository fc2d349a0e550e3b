"""Memory that nobody has written: it is marked when it is allocated, and what still bears the mark was never filled.

The mark is a NaN of bits that no computation yields, so that a run reads NaN and not what the memory happened to hold
(`torch.utils.deterministic.fill_uninitialized_memory` does the same). Arithmetic hands a NaN on with its bits:
`torch.empty(n) * 0.02` is unwritten, too.
"""

from __future__ import annotations

import torch

#: By size of an element: the integer type that shows its bits, and bits that are a quiet NaN in every float type.
_MARKS = {2: (torch.int16, 0x7FD5), 4: (torch.int32, 0x7FD5D5D5), 8: (torch.int64, 0x7FFD5D5D5D5D5D5D)}


def mark(tensor: torch.Tensor) -> None:
    """Mark all elements of new memory; integers and types without a mark keep what they hold."""
    bits = _bits(tensor)
    if bits is not None:
        bits.fill_(_MARKS[bits.element_size()][1])


def marked(tensor: torch.Tensor) -> bool:
    """Whether any element still bears the mark."""
    bits = _bits(tensor.detach())
    return bits is not None and bool((bits == _MARKS[bits.element_size()][1]).any())


def _bits(tensor: torch.Tensor) -> torch.Tensor | None:
    """The elements as integers; None for what has no bits to show (meta, sparse and fake tensors) or no mark."""
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout is torch.strided and not tensor.is_meta
    if not plain or tensor.is_conj() or not (tensor.is_floating_point() or tensor.is_complex()):
        return None
    parts = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    overlaps = any(step == 0 < size - 1 for size, step in zip(parts.shape, parts.stride(), strict=True))
    if parts.element_size() not in _MARKS or overlaps:
        return None
    return parts.view(_MARKS[parts.element_size()][0])
