"""Operations whose spellings take different arguments: each function makes them those of the canonical one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from stablelint.trace.call import Call, plain
from stablelint.trace.signatures import SIGNATURES


def _softmax(_call: Call, _raw: str, bound: dict[str, Any]) -> None:
    if bound.get("dim") is None and isinstance(bound.get("input"), torch.Tensor):
        bound["dim"] = 0 if bound["input"].dim() in (0, 1, 3) else 1  # the documented implicit choice of F.softmax
    bound.pop("dtype", None)


def _addmm(call: Call, _raw: str, bound: dict[str, Any]) -> None:
    bias = bound.pop("bias", None)
    call.name = "matmul"
    call.attrs["bias"] = True
    if bias is not None:
        bound["bias"] = bias


def _transpose(call: Call, raw: str, bound: dict[str, Any]) -> None:
    value = bound.get("input")
    rank = value.dim() if isinstance(value, torch.Tensor) else 2
    if raw in ("T", "H") and rank != 2:
        call.name = "permute"
        bound["dims"] = tuple(reversed(range(rank)))
    elif raw in ("T", "H", "t", "t_"):
        bound.update(dim0=0, dim1=min(1, rank - 1))
    elif raw in ("mT", "mH", "adjoint", "matrix_transpose"):
        bound.update(dim0=-2, dim1=-1)
    for other, own in (("axis0", "dim0"), ("axis1", "dim1")):
        if other in bound:
            bound[own] = bound.pop(other)


def _clamp(_call: Call, raw: str, bound: dict[str, Any]) -> None:
    if raw.startswith("clamp_max") and "min" in bound and "max" not in bound:
        bound["max"] = bound.pop("min")


def _like(call: Call, raw: str, bound: dict[str, Any]) -> None:
    """The other tensor of ``view_as`` and ``expand_as`` only gives its shape."""
    for key, value in list(bound.items()):
        if key != "input" and isinstance(value, torch.Tensor):
            bound[key] = tuple(value.shape)
    if isinstance(bound.get("shape"), torch.dtype):
        call.name = "bitcast"
    if raw == "broadcast_tensors" and isinstance(bound.get("shape"), torch.Tensor):
        del bound["shape"]


def _to(call: Call, raw: str, bound: dict[str, Any]) -> None:
    dtype = bound.pop("dtype", None)
    if isinstance(dtype, torch.Tensor):
        dtype = dtype.dtype
    casts = {"half": "float16", "double": "float64", "float": "float32", "long": "int64", "int": "int32",
             "bool": "bool", "short": "int16", "byte": "uint8", "char": "int8", "bfloat16": "bfloat16"}  # fmt: skip
    found = casts.get(raw) or next((plain(value) for value in bound.values() if isinstance(value, torch.dtype)), None)
    if isinstance(dtype, torch.dtype):
        found = plain(dtype)
    for key in [key for key in bound if key != "input"]:
        del bound[key]
    if found is not None:
        call.attrs["dtype"] = found


def _pool(call: Call, raw: str, bound: dict[str, Any]) -> None:
    call.attrs["adaptive"] = "adaptive" in raw
    if "adaptive" in raw and "kernel_size" in bound:
        bound["output_size"] = bound.pop("kernel_size")
    call.attrs["spatial"] = next((int(letter) for letter in raw if letter.isdigit()), 1)


def _conv(call: Call, raw: str, bound: dict[str, Any]) -> None:
    call.attrs["spatial"] = next((int(letter) for letter in raw if letter.isdigit()), 0)
    if raw == "convolution":  # has `transposed` and `output_padding` before `groups`
        call.name = "conv_transpose" if bound.get("groups") else "conv"
        bound["groups"] = bound.pop("arg8", 1)
        bound.pop("arg7", None)


def _extremum(call: Call, _raw: str, bound: dict[str, Any]) -> None:
    """``torch.max(a, b)`` is ``maximum``."""
    other = bound.get("dim") if isinstance(bound.get("dim"), torch.Tensor) else bound.get("other")
    if isinstance(other, torch.Tensor):
        call.name = {"max": "maximum", "min": "minimum"}[call.name]
        bound.pop("dim", None)
        bound["other"] = other


def _recurrent(call: Call, raw: str, bound: dict[str, Any]) -> None:
    if call.name == "rnn":
        call.attrs["nonlinearity"] = raw.removeprefix("rnn_")
    if isinstance(bound.get("hx"), torch.Tensor) and isinstance(bound.get("weights"), (torch.Tensor, tuple)):
        # The packed variant: data, batch_sizes, hx, weights, bias, num_layers, dropout, train, bidirectional.
        names = ("input", "batch_sizes", *SIGNATURES["lstm"][1:])
        values = list(bound.values())
        bound.clear()
        bound.update(zip(names, values, strict=False))
        call.attrs["packed"] = True


def _cell(call: Call, raw: str, _bound: dict[str, Any]) -> None:
    if raw.startswith("rnn"):
        call.attrs["nonlinearity"] = raw.split("_")[1]


def _where(call: Call, _raw: str, bound: dict[str, Any]) -> None:
    if len(bound) == 1:
        call.name = "nonzero"
        return
    condition = bound.get("input")
    if (
        isinstance(condition, torch.Tensor)
        and isinstance(bound.get("condition"), torch.Tensor)
        and (bound["condition"].dtype != torch.bool and condition.dtype == torch.bool)
    ):  # x.where(condition, other)
        bound["condition"], bound["input"] = condition, bound["condition"]


ADJUSTMENTS: dict[str, Callable[[Call, str, dict[str, Any]], None]] = {
    "softmax": _softmax,
    "log_softmax": _softmax,
    "softmin": _softmax,
    "addmm": _addmm,
    "transpose": _transpose,
    "clamp": _clamp,
    "reshape": _like,
    "expand": _like,
    "to": _to,
    "max_pool": _pool,
    "avg_pool": _pool,
    "conv": _conv,
    "conv_transpose": _conv,
    "max": _extremum,
    "min": _extremum,
    "lstm": _recurrent,
    "gru": _recurrent,
    "rnn": _recurrent,
    "lstm_cell": _cell,
    "gru_cell": _cell,
    "rnn_cell": _cell,
    "where": _where,
}
