"""What the recorder must know about single torch functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from stablelint.trace.canonical import canonical, is_inplace
from stablelint.trace.signatures import words
from stablelint.trace.values import ESCAPES

# Calls that produce no value of the model: queries, bookkeeping, printing.
UNRECORDED = words(
    "requires_grad grad_fn is_leaf shape device dtype layout ndim names grad requires_grad_ size dim stride "
    "is_contiguous numel nelement register_hook __hash__ _is_view is_floating_point is_complex __len__ __repr__ "
    "__str__ untyped_storage storage data_ptr set_ is_cuda is_cpu is_mps is_meta is_sparse is_nested "
    "is_quantized storage_offset element_size itemsize nbytes ndimension retain_grad retains_grad backward _version "
    "output_nr _backward_hooks volatile get_device is_inference is_same_size result_type can_cast is_tensor "
    "register_post_accumulate_grad_hook share_memory_ is_shared is_pinned is_conj is_neg _is_zerotensor "
    "set_default_dtype dense_dim sparse_dim has_names is_signed is_storage __dlpack__ __dlpack_device__ "
    "_assert _assert_async record_stream is_distributed is_set_to __dir__ __deepcopy__ __reduce_ex__ broadcast_shapes "
    "_has_compatible_shallow_copy_type is_coalesced _is_param"
)
SKIPPED = frozenset({"_assert", "_assert_async"})  # checks of values mean nothing on stand-ins
DYNAMIC = words(
    "DataDependentOutputException DynamicOutputShapeException UnsupportedFakeTensorException "
    "UnsupportedOperatorException GuardOnDataDependentSymNode"
)
NEEDS_VALUES = ESCAPES | {"pin_memory", "_pack_padded_sequence", "_pad_packed_sequence"}


def written_tensor(
    func: Callable[..., Any], raw: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
) -> torch.Tensor | None:
    """The tensor that the call wrote into."""
    into = kwargs.get("out")
    if isinstance(into, torch.Tensor):
        return into
    first = args[0] if args else kwargs.get("input", kwargs.get("tensor"))
    if not isinstance(first, torch.Tensor):
        return None
    written = is_inplace(raw) or (out is first and canonical(func, args, kwargs).inplace)
    return first if written else None


def alias(tensor: torch.Tensor) -> torch.Tensor:
    """A new name for a tensor that an op returned unchanged (``x.contiguous()``), so that both can be told apart."""
    try:
        return tensor.view_as(tensor)
    except (RuntimeError, NotImplementedError):
        return tensor


def counted(raw: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.Tensor | None:
    """The operand whose values are how often each element is taken, which is once where nothing tells."""
    if raw != "repeat_interleave":
        return None
    found = kwargs.get("repeats", args[min(1, len(args) - 1)] if args else None)
    return found if isinstance(found, torch.Tensor) and not found.is_floating_point() else None


def shape_rule(raw: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.Tensor | None:
    """The result of ops whose fake kernel is stricter than the real one."""
    if raw not in ("_grouped_mm", "grouped_mm"):
        return None
    left, right = args[0], args[1]
    if right.dim() == 3:
        return torch.empty((*left.shape[:-1], right.shape[-1]), dtype=left.dtype)
    offsets = kwargs.get("offs", args[2] if len(args) > 2 else None)
    if not isinstance(offsets, torch.Tensor):
        return None
    return torch.empty((offsets.shape[0], left.shape[0], right.shape[1]), dtype=left.dtype)
