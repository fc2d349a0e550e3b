"""Parameters and gradients as one flat vector, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from stablelint.probe.curvature.problem import Problem


def flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """All elements as one vector, of at least single precision, on the device of the first tensor."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return torch.cat([tensor.detach().reshape(-1).to(tensors[0].device, dtype) for tensor in tensors])


def split(vector: torch.Tensor, like: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
    """``vector`` in pieces with shape, dtype and device of ``like``."""
    for piece, tensor in zip(torch.split_with_sizes(vector, [tensor.numel() for tensor in like]), like, strict=True):
        yield piece.reshape(tensor.shape).to(tensor.device, tensor.dtype)


def gradients(problem: Problem) -> list[torch.Tensor]:
    """The gradient of the problem's value for each trainable parameter; one forward and one backward pass.

    By ``backward()``, which reentrant checkpointing and other nodes want that refuse ``torch.autograd.grad``. What it
    leaves in ``.grad`` is taken away again; call it inside ``problem.settled()``.
    """
    parameters = list(problem.named_parameters.values())
    for parameter in parameters:
        parameter.grad = None
    problem.value().backward()  # type: ignore[no-untyped-call]
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    return [grad.to_dense() if grad.is_sparse else grad for grad in found]
