"""What each operation of a build does to the samples that stand for tensors on meta."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from stablelint.trace.provenance import reduce
from stablelint.trace.provenance.contents import Contents, Region
from stablelint.trace.provenance.sample import UNFILLED, UNKNOWN, Sample, combine, constant, drawn, mixture
from stablelint.trace.provenance.store import Provenance
from stablelint.trace.signatures import words

EMPTY = words("empty empty_like new_empty empty_strided new_empty_strided")
#: Factories whose result is different at each call.
RANDOM = words("rand randn randint normal rand_like randn_like randint_like bernoulli")
_POINTWISE = words("masked_fill masked_fill_ where lerp lerp_ addcmul addcmul_ addcdiv addcdiv_")
_SAME = words("index_select index gather take flip roll embedding diagonal_copy permute_copy diag diag_embed "
              "_reshape_copy view_copy select_copy slice_copy t_copy transpose_copy unfold_copy")  # fmt: skip
_COPIES = words("clone _to_copy contiguous _unsafe_view alias_copy detach_copy lift_fresh_copy")
_REPEATS = words("repeat repeat_interleave expand_copy sort")
_SCATTERED = words("index_put_ _index_put_impl_ index_fill_ index_copy_ scatter_ masked_scatter_ put_")
_REBINDING = words("set_ resize_ resize_as_ t_ transpose_ squeeze_ unsqueeze_ as_strided_ swapaxes_ swapdims_ detach_ "
                   "requires_grad_")  # fmt: skip
_PLACEMENT = words("device layout pin_memory memory_format generator out non_blocking")

_FILLS: dict[str, Callable[..., Sample]] = {
    "normal_": lambda mean=0.0, std=1.0: drawn("normal", mean, std),
    "uniform_": lambda low=0.0, high=1.0: drawn("uniform", low, high),
    "log_normal_": lambda mean=1.0, std=2.0: drawn("log_normal", mean, std),
    "exponential_": lambda rate=1.0: drawn("exponential", rate),
    "cauchy_": lambda median=0.0, scale=1.0: drawn("cauchy", median, scale),
    "geometric_": lambda p: drawn("geometric", p),
    "bernoulli_": lambda p=0.5: UNKNOWN if isinstance(p, torch.Tensor) else drawn("bernoulli", p),
    "random_": lambda low=0, high=None: drawn("integers", *((0, low) if high is None else (low, high))),
    "zero_": lambda: constant(0.0),
}
_CONSTANTS = {"zeros": 0.0, "ones": 1.0, "zeros_like": 0.0, "ones_like": 1.0, "new_zeros": 0.0, "new_ones": 1.0}


class Replay:
    """Follows operations on one build's provenance."""

    def __init__(self, provenance: Provenance) -> None:
        self.provenance = provenance

    # ---- new tensors

    def factory(
        self, function: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: torch.Tensor
    ) -> Sample | Contents:
        """The contents of a tensor that is made from no other tensor's values."""
        if name in EMPTY:
            return UNFILLED
        if name in _CONSTANTS:
            return constant(_CONSTANTS[name])
        if name in ("full", "full_like", "new_full"):
            return self._scalar(kwargs.get("fill_value", args[-1]))
        if name in ("randn", "randn_like"):
            return drawn("normal", 0.0, 1.0)
        if name in ("rand", "rand_like"):
            return drawn("uniform", 0.0, 1.0)
        if name in ("randint", "randint_like"):
            bounds = [arg for arg in args if isinstance(arg, int)]
            return drawn("integers", *(bounds if len(bounds) == 2 else [0, *bounds]))
        if name == "normal" and all(isinstance(arg, (int, float)) for arg in args[:2]):
            return drawn("normal", float(args[0]), float(args[1]))
        if name == "eye":
            return self._eye(out)
        if name in ("arange", "linspace", "logspace"):
            clean = {key: value for key, value in kwargs.items() if key not in (*_PLACEMENT, "dtype")}
            steps = {"steps": 4096} if name != "arange" and "steps" in clean else {}
            if out.numel() <= 1 << 24 or steps:
                return self.provenance.sample(function(*args, **clean | steps))
        return UNKNOWN

    def result(
        self, function: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: torch.Tensor
    ) -> Sample | Contents:
        """The contents of the new tensor ``out`` that a function computed."""
        if name in _COPIES:
            return self._copied(args[0], out)
        if torch.Tag.pointwise in function.tags or name in _POINTWISE:
            tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
            return self._pointwise(function, args, kwargs, [self._operand(each, out) for each in tensors])
        if name in ("cat", "stack"):
            return self._joined(name, args[0], int(kwargs.get("dim", args[1] if len(args) > 1 else 0)), out)
        if name in reduce.PRODUCTS:
            return reduce.product(name, args, self.provenance.sample)
        if name in reduce.REDUCTIONS and isinstance(args[0], torch.Tensor):
            count = args[0].numel() // max(1, out.numel())
            return reduce.reduction(name, args, kwargs, self.provenance.sample(args[0]), count)
        if name in _SAME:
            return self.provenance.sample(args[0]).fresh()
        if name in _REPEATS:
            return self.provenance.sample(args[0]).fresh().structured()
        if name == "constant_pad_nd":
            inner = self.provenance.sample(args[0]).fresh()
            fill = constant(float(args[2] if len(args) > 2 else kwargs.get("value", 0.0)))
            return mixture([(inner, args[0].numel()), (fill, max(0, out.numel() - args[0].numel()))])
        if name in ("tril", "triu"):
            return self._triangle(name, args, out)
        if function.overloadpacket.__name__ in EMPTY or "device" in {each.name for each in function._schema.arguments}:
            return self.factory(function, name, args, kwargs, out)
        return UNKNOWN

    def results(self, name: str, args: Sequence[Any], outs: Sequence[torch.Tensor]) -> list[Sample]:
        """The contents of several new tensors."""
        source = args[0] if isinstance(args[0], torch.Tensor) else None
        if name == "linalg_qr" and source is not None:
            # An orthonormal column of m entries has mean square 1 / m; of R only its being there matters.
            return [drawn("normal", 0.0, source.shape[-2] ** -0.5), drawn("normal", 0.0, 1.0)]
        if name in ("var_mean", "std_mean") and source is not None:
            sample, count = self.provenance.sample(source), source.numel() // max(1, outs[0].numel())
            return [reduce.reduction(part, (source,), {}, sample, count) for part in name.split("_")]
        if name in ("max", "min", "sort", "topk", "kthvalue", "median") and source is not None:
            count = source.numel() // max(1, outs[0].numel())
            kind = f"a{name}" if name in ("max", "min") else "mean"
            found = self.provenance.sample(source).structured()
            return [found if name == "sort" else reduce.reduction(kind, (source,), {}, found, count), UNKNOWN]
        if name.startswith(("split", "unsafe_split", "unsafe_chunk", "unbind")) and source is not None:
            return [self.provenance.sample(source).fresh() for _ in outs]
        return [UNKNOWN for _ in outs]

    # ---- written tensors

    def write(self, function: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """An in-place function or one with ``out=`` changed the tensor on meta that it writes."""
        if name in _REBINDING:
            return
        out = kwargs.get("out")
        target = out if isinstance(out, torch.Tensor) else args[0]
        contents = self.provenance.contents(target)
        if contents is None:
            self.provenance.put(target, UNKNOWN)
            return
        region = Region.of(target)
        rest = [arg for arg in args[1:] if arg is not None]
        named = {key: value for key, value in kwargs.items() if key not in _PLACEMENT and key != "dtype"}
        if isinstance(out, torch.Tensor):
            if name == "eye":
                self.provenance.put(target, self._eye(target))
            else:
                found = self.factory(function, name, args, {}, target)
                contents.write(region, found if isinstance(found, Sample) else UNKNOWN)
        elif name == "fill_":
            contents.write(region, self._scalar(kwargs.get("value", rest[0] if rest else math.nan)))
        elif name in _FILLS:
            contents.write(region, _fill(name, rest, named))
        elif name == "copy_":
            contents.write(region, self._operand(rest[0], target))
        elif torch.Tag.pointwise in function.tags or name in _POINTWISE:
            others = [leaf for leaf in tree_flatten((args[1:], kwargs))[0] if isinstance(leaf, torch.Tensor)]
            operands = [self._operand(each, target) for each in others]
            contents.change(region, lambda own: self._pointwise(function, args, kwargs, [own, *operands]))
        elif name in _SCATTERED:
            self._scattered(name, args, kwargs, contents)
        else:
            contents.change(region, lambda _: UNKNOWN)

    # ---- kinds of functions

    def _operand(self, tensor: torch.Tensor, out: torch.Tensor) -> Sample:
        """An operand as it meets the others: what is broadcast makes a pattern."""
        sample = self.provenance.sample(tensor)
        spread = any(step == 0 and size > 1 for size, step in zip(tensor.shape, tensor.stride(), strict=True))
        return sample.structured() if spread or tensor.numel() < out.numel() else sample

    def _pointwise(
        self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], operands: Sequence[Sample]
    ) -> Sample:
        clean = {key: value for key, value in kwargs.items() if key not in _PLACEMENT}
        leaves, structure = tree_flatten((list(args), clean))
        places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        inplace = function.overloadpacket.__name__.endswith("_")

        def call(*values: torch.Tensor) -> Any:
            longest = max(value.numel() for value in values)
            for place, value in zip(places, values, strict=True):
                leaves[place] = value
            if inplace:
                leaves[places[0]] = values[0].expand(longest).clone()
            new_args, new_kwargs = tree_unflatten(leaves, structure)
            return function(*new_args, **new_kwargs)

        if not all(operand.known for operand in operands[1:]):
            return UNKNOWN
        found = combine(call, operands)
        scaled = function.overloadpacket.__name__.strip("_") in ("mul", "div")
        if scaled and not found.iid and any(_is_noise(operand) for operand in operands):
            # Independent factors of mean zero stay uncorrelated whatever pattern they are scaled by.
            return Sample(found.values, found.order, filled=found.filled)
        return found

    def _copied(self, source: torch.Tensor, out: torch.Tensor) -> Sample | Contents:
        contents = self.provenance.contents(source)
        if contents is None or source.numel() != contents.size or source.stride() != out.stride():
            return self._operand(source, out)
        copy = Contents(contents.size)
        copy.patches = [type(patch)(patch.region, patch.sample.fresh(), patch.left) for patch in contents.patches]
        return copy

    def _joined(self, name: str, tensors: Sequence[torch.Tensor], dim: int, out: torch.Tensor) -> Contents:
        contents = Contents(out.numel(), UNKNOWN)
        start = 0
        for index, tensor in enumerate(tensors):
            if name == "stack":
                part = out.select(dim, index)
            else:
                if tensor.dim() <= dim:
                    continue  # the legacy empty tensor that cat skips
                part = out.narrow(dim, start, tensor.shape[dim])
                start += tensor.shape[dim]
            contents.write(Region.of(part), self.provenance.sample(tensor).fresh())
        return contents

    def _triangle(self, name: str, args: Sequence[Any], out: torch.Tensor) -> Sample:
        rows, columns = out.shape[-2:]
        shift = int(args[1]) if len(args) > 1 else 0
        lower = sum(min(max(row + 1 + shift - (name == "triu"), 0), columns) for row in range(rows))
        kept = lower if name == "tril" else rows * columns - lower
        parts = [(self.provenance.sample(args[0]), kept), (constant(0.0), rows * columns - kept)]
        return mixture(parts).structured()

    def _eye(self, out: torch.Tensor) -> Contents:
        contents = Contents(out.numel(), constant(0.0))
        contents.write(Region.of(out.diagonal()), constant(1.0))
        return contents

    def _scattered(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], contents: Contents) -> None:
        target, value = args[0], kwargs.get("value", kwargs.get("src", args[-1]))
        if name in ("index_put_", "_index_put_impl_"):
            value = args[2]
        indices = [leaf for leaf in tree_flatten(args[1:])[0] if isinstance(leaf, torch.Tensor) and leaf is not value]
        if name.startswith("index_"):
            axis = int(args[1]) if isinstance(args[1], int) else 0
            count = max((leaf.numel() for leaf in indices), default=1)
            if name in ("index_fill_", "index_copy_"):
                count *= target.numel() // max(1, target.shape[axis])
            elif len(indices) < target.dim():
                used = math.prod(target.shape[: len(indices)])
                count *= target.numel() // max(1, used)
        else:
            count = max((leaf.numel() for leaf in indices), default=1)
        share = min(1.0, count / max(1, target.numel()))
        new = self._scalar(value)
        contents.change(Region.of(target), lambda own: mixture([(own, 1.0 - share), (new, share)]))

    def _scalar(self, value: Any) -> Sample:
        if isinstance(value, torch.Tensor):
            return self.provenance.sample(value)
        return constant(value if isinstance(value, (bool, complex)) else float(value))


def _is_noise(sample: Sample) -> bool:
    if sample.constant or not sample.iid or not sample.values.is_floating_point():
        return False
    mean, square = sample.moments()
    return abs(mean) < 0.03 * math.sqrt(square)


def _fill(name: str, rest: Sequence[Any], named: Mapping[str, Any]) -> Sample:
    keys = {"to": "high", "from": "low", "a": "low", "b": "high", "lambd": "rate", "sigma": "scale"}
    try:
        return _FILLS[name](*rest, **{keys.get(key, key): value for key, value in named.items()})
    except (TypeError, ValueError, RuntimeError):
        return UNKNOWN
