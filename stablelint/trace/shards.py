"""Models whose weights lie on several processes: DTensors, and modules under ``fully_shard``.

Everything here is a no-op for other models, and torch.distributed is never imported for it: who shards has done so.
What ends in a collective (``whole``) must be called by all processes in the same order.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch
from torch import nn

_TORCH = f"{torch.__path__[0]}/"
_DISTRIBUTED, _LAYERS = f"{_TORCH}distributed/", f"{_TORCH}nn/"
#: What a group of parameters under ``fully_shard`` keeps between backward passes, and what a single pass needs.
_BETWEEN = {"reduce_grads": True, "all_reduce_grads": True, "_partial_reduce_output": None}


def is_dtensor(tensor: torch.Tensor) -> bool:
    """Whether ``tensor`` is one of many processes' part of a tensor."""
    known = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)
    return known is not None and isinstance(tensor, known)


def is_sharded(model: nn.Module) -> bool:
    """Whether weights of ``model`` are spread over processes."""
    return any(is_dtensor(tensor) for tensor in (*model.parameters(), *model.buffers()))


def is_flat(model: nn.Module) -> bool:
    """Whether ``model`` holds its weights in the flat pieces of the older ``FullyShardedDataParallel``."""
    known = getattr(sys.modules.get("torch.distributed.fsdp"), "FullyShardedDataParallel", None)
    return known is not None and any(isinstance(module, known) for module in model.modules())


def whole(tensor: Any) -> torch.Tensor:
    """All of a tensor, gathered where it is spread over processes; gradient passes."""
    found: torch.Tensor = tensor.full_tensor() if is_dtensor(tensor) else tensor
    return found


def own(tensor: Any) -> torch.Tensor:
    """The values that this process has of a tensor; of one that is a sum over processes, the sum. Without gradient."""
    tensor = tensor.detach()
    if is_dtensor(tensor):
        if any(placement.is_partial() for placement in tensor.placements):
            replicate = sys.modules["torch.distributed.tensor"].Replicate()
            tensor = tensor.redistribute(placements=[replicate if p.is_partial() else p for p in tensor.placements])
        tensor = tensor.to_local()
    wait = getattr(tensor, "trigger_wait", None)  # a collective may still be filling it
    found: torch.Tensor = tensor if wait is None else tensor.wait()
    return found


def summed_once(tensor: Any) -> bool:
    """Whether ``tensor`` is a sum over processes that only its own layer can form: rows of a spread embedding."""
    return is_dtensor(tensor) and any(hasattr(placement, "mask_buffer") for placement in tensor.placements)


def spread_like(values: torch.Tensor, tensor: Any) -> torch.Tensor:
    """``values``, which every process has in full, in the dtype, on the device and in the layout of ``tensor``."""
    if not is_dtensor(tensor):
        return values.to(tensor)
    api: Any = sys.modules["torch.distributed.tensor"]
    full = api.DTensor.from_local(
        values.to(tensor.to_local()), tensor.device_mesh, [api.Replicate()] * tensor.device_mesh.ndim, run_check=False
    )
    spread: torch.Tensor = full.redistribute(placements=tensor.placements)
    return spread


def fully_sharded(model: nn.Module) -> list[Any]:
    """The modules that ``fully_shard`` was called on, outermost first."""
    known = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", None)
    return [] if known is None else [module for module in model.modules() if isinstance(module, known)]


@contextlib.contextmanager
def resharded(model: nn.Module, *, done: bool) -> Iterator[None]:
    """Every ``fully_shard`` module with its parameters sharded, before and after; then as it was found.

    A forward pass without a backward leaves the outermost one gathered, an exception any of them, with the collectives
    of its pass still open. ``done`` says that no backward pass follows. Gradients that wait to be reduced
    (``set_requires_gradient_sync``) are put aside meanwhile.
    """
    modules = fully_sharded(model)
    groups = [group for module in modules for group in _groups(module)]
    gathered = [module for module in modules if any(group.is_unsharded for group in _groups(module))]
    waiting = [
        (group, {name: getattr(group, name) for name in _BETWEEN}, [_waiting(each) for each in group.fsdp_params])
        for group in groups
    ]
    for module in modules:
        module.reshard()
    for group in groups:
        vars(group).update(_BETWEEN)
        _put_waiting(group, [(None, None)] * len(group.fsdp_params))
    failed = True
    try:
        yield
        failed = False
    finally:
        if done or failed:
            _forget_iteration(modules)
        for module in modules:
            module.reshard()
        for module in gathered:
            module.unshard()
        for group, between, grads in waiting:
            vars(group).update(between)
            _put_waiting(group, grads)


def _waiting(parameter: Any) -> tuple[Any, Any]:
    """The gradients that a parameter under ``fully_shard`` keeps while they are not reduced."""
    gathered = getattr(parameter, "_unsharded_param", None)
    return parameter.unsharded_accumulated_grad, None if gathered is None else gathered.grad


def _put_waiting(group: Any, grads: list[tuple[Any, Any]]) -> None:
    for parameter, (accumulated, grad) in zip(group.fsdp_params, grads, strict=True):
        parameter.unsharded_accumulated_grad = accumulated
        if hasattr(parameter, "_unsharded_param"):
            parameter._unsharded_param.grad = grad


def _groups(module: Any) -> list[Any]:
    """The parameter groups of a ``fully_shard`` module: one before torch 2.12, a list since."""
    state = module._get_fsdp_state()
    found = getattr(state, "_fsdp_param_groups", None)
    if found is None:
        found = [state._fsdp_param_group]
    return [group for group in found if group is not None]


def _forget_iteration(modules: list[Any]) -> None:
    """Close the iteration that an exception left open: the next one starts clean."""
    roots = [module for module in modules if module._get_fsdp_state()._is_root and hasattr(module, "reset_iter_state")]
    for module in roots:  # torch 2.14
        module.reset_iter_state()
    for module in () if roots else modules:
        state = module._get_fsdp_state()
        if state._is_root is None:  # no pass has begun
            continue
        idle = type(state._training_state).IDLE
        state._training_state, state._state_ctx.iter_forward_root = idle, None
        state._state_ctx.post_backward_final_callback_queued = False
        state._comm_ctx.all_gather_state = None
        for group in _groups(module):
            group.wait_for_unshard()
            group._training_state = idle
            group._post_forward_indices.clear()
            group.comm_ctx.post_forward_order.clear()


def data_groups(model: nn.Module) -> list[Any]:
    """The process groups in which each process has its own part of the batch, the slower varying part first."""
    for module in fully_sharded(model):
        for group in _groups(module):
            names = ("replicate_process_group", "shard_process_group")
            return [found for name in names if (found := getattr(group.mesh_info, name, None)) is not None]
    return []


def model_groups(model: nn.Module) -> list[Any]:
    """The process groups whose processes share one batch and hold parts of the weights (tensor parallelism)."""
    from torch.distributed import get_process_group_ranks

    data = [get_process_group_ranks(group) for group in data_groups(model)]
    tensors: list[Any] = [*model.parameters(), *model.buffers()]
    meshes = [tensor.device_mesh for tensor in tensors if is_dtensor(tensor)]
    widest = max(meshes, key=lambda mesh: mesh.ndim, default=None)
    groups = [] if widest is None else [widest.get_group(dim) for dim in range(widest.ndim)]
    return [group for group in groups if get_process_group_ranks(group) not in data]


def batch_part(model: nn.Module) -> int:
    """Which part of the batch this process has, 0 where all have the same."""
    part = 0
    for group in data_groups(model):
        part = part * group.size() + group.rank()
    return part


def in_distributed(frame: FrameType | None) -> bool:
    """Whether torch.distributed makes the call in ``frame``: it moves tensors and computes nothing of the model."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_DISTRIBUTED):
            return True
        if not file.startswith(_TORCH) or file.startswith(_LAYERS):
            return False
        frame = frame.f_back
    return False
