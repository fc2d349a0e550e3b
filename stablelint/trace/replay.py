"""Run a model again whose ops are known, and look at some of them: no graph is built, nothing else is looked at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from stablelint.errors import TraceTargetError
from stablelint.inputs import Inputs
from stablelint.trace import state
from stablelint.trace.canonical import canonical, raw_name
from stablelint.trace.composites import ENTERED
from stablelint.trace.functions import UNRECORDED
from stablelint.trace.modules import ModuleStack
from stablelint.trace.patches import (
    eager_compiled,
    recorded_autograd_functions,
    recorded_script_functions,
    transformers_unaware,
)
from stablelint.trace.recorder import Listener, Recorder
from stablelint.trace.tracer import Trace, explain

#: Calls that the recorder takes apart by their operands.
_LOOKED_INTO = frozenset({"__format__", "__iter__"})


class DivergedError(Exception):
    """The run made other calls than the recorded one: it took another branch, or the model is another one."""


def replay(
    model: nn.Module,
    inputs: Inputs,
    recorded: Trace,
    sites: Collection[int],
    listener: Listener,
    operands: Collection[str],
) -> object:
    """Run ``model`` with autograd on; ``listener`` hears the ops ``sites`` as in :func:`stablelint.trace.trace`.

    Calls are told apart by their number, so the model must call the same functions as when it was ``recorded``.
    Operands are passed only for ops whose name is in ``operands``. What the forward pass changes in the model is not
    put back. Returns what the model returned. Raises DivergedError where another op than the recorded one turns up, and
    TraceTargetError when the forward pass fails.
    """
    with state.one_at_a_time(), ExitStack() as stack:
        watched = unseen(recorded)
        modules = ModuleStack(model if watched else nn.Module(), None)
        run = _Replay(modules, recorded, sites, listener, operands, watched=watched)
        stack.enter_context(transformers_unaware())
        stack.enter_context(eager_compiled())
        stack.enter_context(recorded_autograd_functions(run))
        stack.enter_context(recorded_script_functions(run))
        if watched:
            stack.enter_context(modules.hooks())
        stack.enter_context(torch.enable_grad())
        try:
            with run:
                output = model(*inputs.args, **inputs.kwargs)
        except DivergedError:
            raise
        except Exception as error:
            raise TraceTargetError(explain(error)) from error
    if run.calls != len(recorded.called):
        raise DivergedError(f"{run.calls} calls of torch instead of {len(recorded.called)}")
    return output


def replayable(recorded: Trace, sites: Collection[int]) -> bool:
    """Whether all of ``sites`` are results of calls that a replay sees."""
    return all(recorded.calls[index] is not None for index in sites)


def unseen(recorded: Trace) -> bool:
    """Whether there are ops that no call made: TorchScript and custom autograd functions run out of sight."""
    leaves = ("input", "parameter", "constant")
    ops = recorded.graph.ops
    return any(call is None and op.name not in leaves for op, call in zip(ops, recorded.calls, strict=True))


class _Replay(Recorder):
    """Counts the calls that a recorder looks at; ``watched`` says that modules with TorchScript must be told apart.

    A function that no operand makes special is known after its first call: what is left is a dictionary entry each.
    """

    def __init__(
        self,
        modules: ModuleStack,
        recorded: Trace,
        sites: Collection[int],
        listener: Listener,
        operands: Collection[str],
        watched: bool,
    ) -> None:
        super().__init__(modules, None, listener)
        self._graph, self._hear, self._operands = recorded.graph, listener, operands
        self._watched, self.calls, self._known = watched, 0, recorded.called
        self._plain: dict[Callable[..., Any], bool] = {}
        self._wanted: dict[int, list[int]] = defaultdict(list)
        for index in sites:
            number = recorded.calls[index]
            if number is not None:
                self._wanted[number].append(index)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        plain = self._plain.get(func)
        if plain is None:
            raw = raw_name(func)
            special = self._watched or func in ENTERED or raw in UNRECORDED or raw in _LOOKED_INTO
            plain = self._plain[func] = not special
        if not plain:
            return super().__torch_function__(func, types, args, kwargs)
        # this is all that most calls cost
        number = self._next(func)
        out = func(*args, **kwargs) if kwargs else func(*args)
        if number in self._wanted:
            self._look(number, func, args, kwargs or {}, out)
        return out

    def _call(
        self,
        func: Callable[..., Any],
        raw: str,  # noqa: ARG002 (the recorder's signature)
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        frame: FrameType | None,  # noqa: ARG002
    ) -> Any:
        number = self._next(func)
        out = func(*args, **kwargs)
        if number in self._wanted:
            self._look(number, func, args, kwargs, out)
        return out

    def _next(self, func: Callable[..., Any]) -> int:
        """The number of the call that is about to be made, if it is that of the recorded function."""
        number, self.calls = self.calls, self.calls + 1
        known = self._known[number] if number < len(self._known) else None
        if func is not known and func != known:  # descriptors are made anew and equal
            raise DivergedError(f"call {number} is another function")
        return number

    def _look(
        self, number: int, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
    ) -> None:
        for index in self._wanted[number]:
            op = self._graph.ops[index]
            found = _result(op.attrs.get("item") if op.name == "getitem" else None, args, kwargs, out)
            if found is None or tuple(found.shape) != op.shape:
                raise DivergedError(f"call {number} is not {op.name} any more")
            operands: tuple[torch.Tensor, ...] = ()
            if op.name in self._operands:
                operands = tuple(tensor for _, tensor in canonical(func, args, kwargs).operands)
            with torch._C.DisableTorchFunction():
                self._hear(index, op.name, op.site.module, operands, found)

    def record(self, *_args: Any, **_kwargs: Any) -> None:
        """What is recorded without a call is not looked at."""


def _result(item: object, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> torch.Tensor | None:
    """The tensor that an op stands for: the call's result or one of them, or what it wrote into."""
    if isinstance(out, torch.Tensor):
        return out
    found = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
    if isinstance(item, int) and item < len(found):
        return found[item]
    if found:
        return found[0]
    first = args[0] if args else kwargs.get("input")
    return first if isinstance(first, torch.Tensor) else None
