"""Weights for a run on fake tensors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode


def fake_weight(tensor: torch.Tensor, mode: FakeTensorMode) -> torch.Tensor:
    """``tensor`` as a fake one; what was built on meta without being allocated is on the CPU, as its inputs are."""
    if not tensor.is_meta:
        return mode.from_tensor(tensor)
    with mode, torch.no_grad():
        bare = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(bare, requires_grad=tensor.requires_grad)
    return bare.requires_grad_(tensor.requires_grad)


@contextmanager
def quiet_fakes() -> Iterator[None]:
    """Torch logs every operation that fails on fake tensors, with its traceback; the caller has an answer to it."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
