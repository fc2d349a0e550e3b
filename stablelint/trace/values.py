"""What is known about values while a model runs on fake tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._pytree import tree_map

from stablelint.trace.signatures import words

FOLLOWED_LIMIT = 1 << 16  # elements of a value that is followed
FLOAT_INPUT_LIMIT = 1 << 12  # elements of a float input whose value is followed
EXPOSED_LIMIT = 1 << 12  # elements of a value that rules get to see
STANDIN_LIMIT = 50_000_000  # elements that one data-dependent op may be run on

RANDOM = words(
    "dropout rand randn randint bernoulli normal randperm multinomial rand_like randn_like randint_like dropout_ "
    "alpha_dropout normal_ uniform_ exponential_ bernoulli_ random_ poisson cauchy_ log_normal_ geometric_ "
    "feature_dropout dropout1d dropout2d dropout3d feature_alpha_dropout rrelu gumbel_softmax"
)
_FACTORIES = words(
    "arange tensor zeros ones full eye linspace logspace as_tensor triu_indices tril_indices from_numpy "
    "scalar_tensor rand randn randint randperm asarray hann_window hamming_window range"
)
_UNDEFINED = words("empty empty_like new_empty empty_strided new_empty_strided")
#: Functions that turn a tensor into Python values.
ESCAPES = words(
    "item tolist numpy __bool__ __int__ __float__ __index__ __complex__ __array__ __contains__ equal allclose "
    "is_nonzero __format__"
)


class Level(IntEnum):
    """How far a followed value can be trusted."""

    GUESSED = 0  # computed from stand-in values
    GIVEN = 1  # computed from the example inputs
    PURE = 2  # the same for all inputs and all weights


class Values:
    """The true values of small tensors, and stand-ins for the others."""

    def __init__(self, fake: FakeTensorMode | None) -> None:
        self.fake = fake
        self._followed: dict[int, tuple[torch.Tensor, Level]] = {}
        self._standins: dict[int, torch.Tensor] = {}
        self._stale: set[int] = set()  # storages with unknown elements
        self._shared: set[int] = set()  # storages that belong to the user
        self._keep: list[torch.Tensor] = []

    def give(self, tensor: torch.Tensor, value: torch.Tensor, level: Level) -> None:
        """Follow ``tensor``, whose value is ``value``, a tensor of the user's."""
        if value.numel() <= FOLLOWED_LIMIT and self.fake is not None:
            with unset_fake_temporarily():
                value = value.detach().clone()
        elif self.fake is not None:
            self._shared.add(_storage(value))
        self._put(tensor, value, level)

    def _put(self, tensor: torch.Tensor, value: torch.Tensor, level: Level) -> None:
        self._followed[id(tensor)] = (value, level)
        self._keep.append(tensor)

    def stand_for(self, tensor: torch.Tensor, value: torch.Tensor) -> None:
        """Use ``value`` wherever a data-dependent op needs ``tensor``; nothing that follows counts as known."""
        self._standins[id(tensor)] = value
        self._keep.append(tensor)

    def assume(self, tensor: torch.Tensor, value: bool) -> None:
        """Let an unknown condition hold."""
        with unset_fake_temporarily():
            self.stand_for(tensor, torch.tensor(value))

    def count_once(self, tensor: torch.Tensor) -> None:
        """Let an unknown number of repetitions be one, unless a stand-in has already been used for it."""
        if id(tensor) not in self._standins:
            with unset_fake_temporarily():
                self.stand_for(tensor, torch.ones(tensor.shape, dtype=tensor.dtype))

    def level(self, tensor: torch.Tensor) -> Level | None:
        """How well the value of ``tensor`` is known; None when it is not."""
        found = self._followed.get(id(tensor))
        if found is None or (self._stale and _storage(found[0]) in self._stale):
            return None
        return found[1]

    def known(self, tensor: torch.Tensor) -> Any:
        """The value as a Python number or nested list when it depends neither on weights nor on float inputs."""
        if self.level(tensor) is not Level.PURE or tensor.numel() > EXPOSED_LIMIT:
            return None
        with unset_fake_temporarily(), torch._C.DisableTorchFunction():
            try:
                return self._followed[id(tensor)][0].tolist()
            except (RuntimeError, NotImplementedError):  # sparse, nested, or one of many inside vmap
                return None

    def given(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether the example inputs decide the values of all ``tensors``."""
        return all((self.level(tensor) or Level.GUESSED) >= Level.GIVEN for tensor in tensors)

    def drop(self, tensor: torch.Tensor) -> None:
        """Forget the value of ``tensor`` and of everything that shares memory with it."""
        found = self._followed.pop(id(tensor), None)
        if found is not None:
            self._stale.add(_storage(found[0]))

    # ---- running for real

    def run(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call ``function`` on true values where they are known and on stand-ins elsewhere."""
        with unset_fake_temporarily(), torch._C.DisableTorchFunction(), torch.no_grad():
            args, kwargs = tree_map(self._real, (tuple(args), dict(kwargs)))
            return function(*args, **kwargs)

    def _real(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if self.level(value) is not None:
            return self._followed[id(value)][0]
        if not isinstance(value, FakeTensor):
            return value
        if id(value) not in self._standins:
            # The same stand-in at every use: x[mask] and y[mask] must agree.
            self.stand_for(value, _standin(value))
        return self._standins[id(value)]

    def to_fake(self, result: Any, level: Level | None) -> Any:
        """Real results as fake tensors whose values are followed."""

        def convert(value: Any) -> Any:
            if self.fake is None or not isinstance(value, torch.Tensor) or isinstance(value, FakeTensor):
                return value
            with unset_fake_temporarily():
                value = value.detach()
            fake = self.fake.from_tensor(value)
            if level is not None and value.numel() <= FOLLOWED_LIMIT:
                self._put(fake, value, level)
            return fake

        return tree_map(convert, result)

    # ---- following

    def follow(
        self,
        function: Callable[..., Any],
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        inputs: Sequence[torch.Tensor],
        outputs: Sequence[torch.Tensor],
        target: torch.Tensor | None,
    ) -> None:
        """Compute the values of ``outputs`` where those of all inputs are known; ``target`` was written in place."""
        written = [*outputs] if target is None or any(target is output for output in outputs) else [*outputs, target]
        level = self._result_level(name, inputs, written, target)
        if level is None:
            if target is not None:
                self.drop(target)
            return
        if self.fake is None:
            for output in written:
                self._put(output, output.detach(), level)
            return
        try:
            result = self.run(function, args, kwargs)
        except Exception:  # whatever fails on true values is only unknown
            if target is not None:
                self.drop(target)
            return
        found = [value for value in _leaves(result) if isinstance(value, torch.Tensor)]
        for output, value in zip(outputs, found, strict=False):
            if name in _UNDEFINED:
                with unset_fake_temporarily():
                    value.zero_()  # leftovers in memory must not decide branches
            if output.shape == value.shape:
                self._put(output, value, level)
        if target is not None and id(target) in self._followed:
            self._followed[id(target)] = (self._followed[id(target)][0], level)

    def _result_level(
        self, name: str, inputs: Sequence[torch.Tensor], written: Sequence[torch.Tensor], target: torch.Tensor | None
    ) -> Level | None:
        random = name in RANDOM or name in _UNDEFINED
        if not written or sum(output.numel() for output in written) > FOLLOWED_LIMIT:
            return None
        if not inputs:
            return Level.GIVEN if random else Level.PURE if name in _FACTORIES else None
        if name in RANDOM and (target is None or written[0].numel() > FLOAT_INPUT_LIMIT):
            return None
        found = [self.level(tensor) for tensor in inputs]
        levels = [level for level in found if level is not None]
        if len(levels) < len(found):
            return None
        if target is not None and _storage(self._followed[id(target)][0]) in self._shared:
            return None
        return min([*levels, Level.GIVEN] if random else levels)


def _storage(tensor: torch.Tensor) -> int:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError):
        return -id(tensor)


def _leaves(result: Any) -> list[Any]:
    if isinstance(result, (list, tuple)):
        return [leaf for item in result for leaf in _leaves(item)]
    return [result]


def _standin(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
        return torch.randn(tensor.shape, dtype=tensor.dtype)
    if tensor.dtype is torch.bool and tensor.numel() > 1:
        return torch.rand(tensor.shape) > 0.5
    # An unknown condition is taken as false, which passes the usual guards (`if x.isnan().any(): raise`).
    return torch.zeros(tensor.shape, dtype=tensor.dtype)
