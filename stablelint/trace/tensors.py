"""One tensor as it is, and putting it back."""

from __future__ import annotations

import torch
from torch.nn.parameter import is_lazy

#: Bytes beyond which a tensor or array that no module registers is no state but a data set that is referred to.
LARGEST = 2**26


class KeptTensor:
    """A tensor with its values (unless it is large and not ``registered``), memory, gradient and hooks as of now."""

    HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")

    def __init__(self, tensor: torch.Tensor, *, registered: bool = False) -> None:
        self.tensor = tensor
        self.leaf, self.requires_grad = tensor.is_leaf, tensor.requires_grad
        self.grad = tensor.grad if self.leaf else None
        self.hooks = [
            (name, hooks, dict(hooks or ())) for name in self.HOOKS for hooks in [getattr(tensor, name, None)]
        ]
        self.memory = self.value = None
        known = not is_lazy(tensor) and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        if known and (registered or tensor.nbytes <= LARGEST):
            self.memory, self.value = tensor.data, tensor.detach().clone()

    def set_gradient_aside(self) -> None:
        """Take the gradient away until :meth:`restore`, so that nothing is added to it."""
        if self.grad is not None:
            self.tensor.grad = None

    def restore(self) -> None:
        """Put everything back."""
        tensor = self.tensor
        if self.leaf and not tensor.is_leaf:  # written in place with a graph
            tensor.detach_()
        if self.value is not None and self.memory is not None and not is_lazy(tensor):
            with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                if not _same_memory(tensor, self.memory):
                    tensor.data = self.memory
                _write(tensor.data, self.value)
        if self.leaf:
            if tensor.requires_grad != self.requires_grad:
                tensor.requires_grad_(self.requires_grad)
            if tensor.grad is not self.grad:
                tensor.grad = self.grad
        for name, hooks, items in self.hooks:
            if hooks is not None and hooks != items:
                hooks.clear()
                hooks.update(items)
            if getattr(tensor, name, None) is not hooks:
                setattr(tensor, name, hooks)


def _same_memory(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    if tensor.shape != other.shape or tensor.dtype != other.dtype or tensor.device != other.device:
        return False
    try:
        return tensor.data_ptr() == other.data_ptr() and tensor.stride() == other.stride()
    except RuntimeError:  # sparse, sharded and meta tensors have no single address
        return True


def _write(tensor: torch.Tensor, value: torch.Tensor) -> None:
    if tensor.layout is torch.strided and not tensor.is_nested:
        for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
            if size > 1 and stride == 0:  # an expanded tensor cannot be written as a whole
                tensor, value = tensor.narrow(axis, 0, 1), value.narrow(axis, 0, 1)
    tensor.copy_(value)
