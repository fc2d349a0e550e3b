"""Weights for a run on fake tensors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode


def fake_weight(tensor: torch.Tensor, mode: FakeTensorMode, *, alone: bool = False) -> torch.Tensor:
    """``tensor`` as a fake one; what was built on meta without being allocated is on the CPU, as its inputs are.

    ``alone`` says that no other weight shares its memory: most weights are then faked twenty times faster than by
    ``from_tensor``, which a model of a thousand small weights would otherwise spend its time in.
    """
    if alone and _is_plain(tensor):
        bare = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
        fake = FakeTensor(mode, bare.requires_grad_(tensor.requires_grad), tensor.device)
        if isinstance(tensor, nn.Parameter):
            fake._is_param = True  # what makes it an nn.Parameter to isinstance
        return fake
    if not tensor.is_meta:
        return mode.from_tensor(tensor)
    with mode, torch.no_grad():
        bare = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(bare, requires_grad=tensor.requires_grad)
    return bare.requires_grad_(tensor.requires_grad)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether size, stride, dtype and device say all about a tensor on the CPU."""
    return (
        type(tensor) in (torch.Tensor, nn.Parameter)
        and not isinstance(tensor, nn.Buffer)
        and tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and tensor.is_leaf
        and not (tensor._is_view() or tensor.is_conj() or tensor.is_neg() or tensor.is_quantized)
        and tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    )


@contextmanager
def quiet_fakes() -> Iterator[None]:
    """Torch logs every operation that fails on fake tensors, with its traceback; the caller has an answer to it."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
