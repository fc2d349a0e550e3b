"""Trying inputs: one forward pass on fake tensors (milliseconds, nothing computed) or on a fresh real model."""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_leaves, tree_map

from stablelint.errors import InputTargetError
from stablelint.inputs import Inputs
from stablelint.targets.blame import Blame, blamed, place
from stablelint.targets.loading import describe
from stablelint.targets.lookups import Lookups
from stablelint.targets.methods import through
from stablelint.trace.caches import forgotten_fakes
from stablelint.trace.provenance import fake_weight
from stablelint.trace.shards import is_sharded
from stablelint.trace.state import restored_attributes
from stablelint.trace.surroundings import restored_surroundings

# What a fake tensor cannot do says nothing about the inputs.
_UNDECIDED = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
_UNDECIDED_TEXT = re.compile(r"tensor subclass|FakeTensor|[Dd]ata.dependent|data pointer|meta tensor|ScriptModule")


@dataclass
class Outcome:
    """What one forward pass showed.

    ``error`` is what it raised; ``module`` and ``shape`` are the innermost module that was running then and the shape
    of its first tensor argument, ``fed`` the index of the input that this argument is (None: something computed).
    ``output_shapes`` are those of all returned tensors. ``vocabulary`` maps the index of an integer input to the
    smallest table that it was looked up in; ``tables`` are the (size, index length) of all other look-ups.
    ``chances`` are the inputs that a loss wants between 0 and 1, ``blame`` those on the line that raised.
    """

    error: BaseException | None = None
    module: nn.Module | None = None
    shape: tuple[int, ...] | None = None
    fed: int | None = None
    output_shapes: list[tuple[int, ...]] = field(default_factory=list)
    vocabulary: dict[int, int] = field(default_factory=dict)
    tables: list[tuple[int, int]] = field(default_factory=list)
    chances: set[int] = field(default_factory=set)
    blame: Blame = field(default_factory=Blame)

    @property
    def undecided(self) -> bool:
        """Whether the pass failed on what fake tensors cannot do."""
        return isinstance(self.error, _UNDECIDED) or bool(self.error and _UNDECIDED_TEXT.search(str(self.error)))


class Attempts:
    """Forward passes of one model, none of which changes it.

    ``fresh`` builds another instance for real passes (they would move running statistics and generator states).
    """

    def __init__(self, model: nn.Module, fresh: Callable[[], nn.Module]) -> None:
        self.model = model
        self._fresh = fresh
        self._real: nn.Module | None = None
        self._method: str | None = None
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._state: dict[str, torch.Tensor] | None = None
        self._lazy = any(isinstance(each, nn.UninitializedParameter) for each in model.parameters())

    def through(self, name: str) -> None:
        """Call the model, which has no forward of its own, and its further instances through a method."""
        self._method = name
        through(self.model, name)
        self._real = None

    def fake(self, inputs: Inputs) -> Outcome:
        """A pass on fake copies of weights and inputs.

        A lazy model, which has no shapes yet, and one that is spread over processes run for real.
        """
        if self._lazy or is_sharded(self.model):
            return self.real(inputs)
        try:
            if self._state is None:
                named = [*self.model.named_parameters(), *self.model.named_buffers()]
                self._state = {name: fake_weight(tensor, self._mode) for name, tensor in named}
            args, kwargs = tree_map(self._faked, (inputs.args, inputs.kwargs))
        except Exception as error:  # a tensor subclass that cannot be faked
            return Outcome(error=UnsupportedFakeTensorException(str(error)))
        state = self._state
        with (
            restored_surroundings(self.model),
            restored_attributes(self.model),
            forgotten_fakes(self.model),
            _quiet(),
            self._mode,
        ):
            return _watched(lambda: torch.func.functional_call(self.model, state, args, kwargs), args, kwargs)

    def real(self, inputs: Inputs) -> Outcome:
        """A pass on real tensors through an instance of its own."""
        if self._real is None or self._lazy:
            self._real = self._fresh()
            if self._method is not None:
                through(self._real, self._method)
        model = self._real
        with _random_state_kept(), restored_attributes(model):
            args, kwargs = tree_map(_copied, (inputs.args, inputs.kwargs))
            return _watched(lambda: model(*args, **kwargs), args, kwargs)

    def checked(self, inputs: Inputs) -> Outcome:
        """Fake first; where that fails the real pass decides."""
        outcome = self.fake(inputs)
        return outcome if outcome.error is None else self.real(inputs)

    def _faked(self, value: Any) -> Any:
        return self._mode.from_tensor(value) if isinstance(value, torch.Tensor) else value


def _watched(call: Callable[[], Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
    outcome = Outcome()
    ours = [*args, *kwargs.values()]
    stack: list[tuple[nn.Module, Any]] = []

    def before(module: nn.Module, received: tuple[Any, ...]) -> None:
        first = next((each for each in received if isinstance(each, torch.Tensor)), None)
        stack.append((module, first))
        if isinstance(module, nn.Embedding) and first is not None:
            index = place(first, ours)
            if index is not None:
                outcome.vocabulary[index] = min(module.num_embeddings, outcome.vocabulary.get(index, 1 << 62))
            elif first.ndim:
                outcome.tables.append((module.num_embeddings, first.shape[-1]))

    def after(module: nn.Module, received: Any, result: Any) -> None:  # noqa: ARG001 (the hook's signature)
        # Not called for a module that raises: the stack then ends where it happened.
        if stack:
            stack.pop()

    handles = [register_module_forward_pre_hook(before), register_module_forward_hook(after)]
    lookups = Lookups(ours)
    try:
        with torch.enable_grad(), warnings.catch_warnings(), lookups:
            warnings.simplefilter("ignore")  # what a guess that does not fit makes torch say is not for the user
            result = call()
        outcome.output_shapes = [tuple(leaf.shape) for leaf in tree_leaves(_plain(result)) if torch.is_tensor(leaf)]
    except SystemExit as error:
        raise InputTargetError(describe(error, "in its forward pass", "the model")) from error
    except Exception as error:
        outcome.error = error
        outcome.blame = blamed(error.__traceback__, ours)
        if stack:
            module, first = stack[-1]
            outcome.module = module
            outcome.shape = tuple(first.shape) if first is not None else None
            outcome.fed = _index_of(first, ours) if first is not None else None
    finally:
        for handle in handles:
            handle.remove()
    for index, size in lookups.vocabulary.items():
        outcome.vocabulary[index] = min(size, outcome.vocabulary.get(index, size))
    outcome.chances = lookups.chances
    return outcome


def _plain(result: Any) -> Any:
    """A dataclass or dict-like output as a container that pytree knows."""
    if isinstance(result, dict):
        return list(result.values())
    if hasattr(result, "__dict__") and not isinstance(result, torch.Tensor):
        return list(vars(result).values())
    return result


def _index_of(tensor: Any, ours: list[Any]) -> int | None:
    same = (
        index
        for index, each in enumerate(ours)
        if each is tensor
        or (isinstance(each, list | tuple | dict) and any(leaf is tensor for leaf in tree_leaves(each)))
    )
    return next(same, None)


def _copied(value: Any) -> Any:
    return value.detach().clone().requires_grad_(value.requires_grad) if isinstance(value, torch.Tensor) else value


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Torch logs every operation that fails on fake tensors as an error; here failures are answers."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@contextlib.contextmanager
def _random_state_kept() -> Iterator[None]:
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)
