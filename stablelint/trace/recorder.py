"""Write every torch call of one forward pass into an fx graph."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, Protocol

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils._pytree import tree_leaves

from stablelint.site import Site
from stablelint.trace.bindings import Bindings, same_elements
from stablelint.trace.call import Call
from stablelint.trace.canonical import canonical, is_inplace, raw_name
from stablelint.trace.composites import ENTERED, opened
from stablelint.trace.draft import Draft
from stablelint.trace.functions import (
    DYNAMIC,
    NEEDS_VALUES,
    SKIPPED,
    UNRECORDED,
    alias,
    counted,
    shape_rule,
    written_tensor,
)
from stablelint.trace.shards import in_distributed
from stablelint.trace.values import ESCAPES, STANDIN_LIMIT, Level, Values


class Listener(Protocol):
    """Called after each recorded op of a run on real tensors."""

    def __call__(
        self, index: int, name: str, module: str, inputs: tuple[torch.Tensor, ...], output: torch.Tensor, /
    ) -> None:
        """Op ``index`` called ``name``, run inside ``module``, made ``output`` from ``inputs``."""


class Surroundings(Protocol):
    """Where the model currently is."""

    def opaque(self) -> bool:
        """Whether what runs cannot be recorded op by op."""

    def place(self, frame: FrameType | None) -> tuple[Site, tuple[str, ...], tuple[int, ...], tuple[str, ...]]:
        """Site of what ``frame`` is about to do, and paths, call numbers and classes of the running modules."""


_FAKE = torch._C._TorchDispatchModeKey.FAKE
_NOT_ON_FAKES = ("__format__", "tolist")
_NEW_PARAMETER = torch.nn.Parameter.__new__.__code__


class Recorder(TorchFunctionMode):
    """Records calls while it is active; ``graph`` and ``drafts`` correspond one to one, in order."""

    def __init__(self, surroundings: Surroundings, fake: FakeTensorMode | None, listener: Listener | None) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.drafts: list[Draft] = []
        self.nodes: list[fx.Node] = []
        self.bindings = Bindings()
        self.values = Values(fake)
        self.names: dict[int, str] = {}  # id of a parameter or buffer -> its name
        self.fake = fake
        self.called: list[Callable[..., Any]] = []  # all that was looked at, whether it became an op or not
        self.late_names: Callable[[], dict[int, str]] | None = None  # of a sharded model, which gathers its weights
        self.recomputed = False  # inside a function that switches autograd off and runs everything again with it on
        self._surroundings = surroundings
        self._listener = listener

    def active(self) -> bool:
        """Whether calls are being recorded right now, and not inside a call that is one op."""
        return any(mode is self for mode in _get_current_function_mode_stack())  # type: ignore[no-untyped-call]

    def autograd_on(self) -> bool:
        """Whether gradient will pass what is being recorded."""
        return self.recomputed or torch.is_grad_enabled()

    def add_input(self, tensor: torch.Tensor, name: str, moments: Mapping[str, float]) -> None:
        """Register a tensor that the model is called with."""
        attrs = {"name": name, **moments}
        self.bindings.bind(tensor, self._leaf("input", tensor, "placeholder", f"input_{len(self.nodes)}", attrs))

    def find(self, tensor: torch.Tensor) -> int:
        """The op whose result ``tensor`` is, after all writes into its memory; a new leaf when there is none."""
        index = self.bindings.find(tensor)
        if index is None:
            index = self._leaf_oralias(tensor)
            self.bindings.bind(tensor, index)
        for at, other in self.bindings.pending_writes(tensor, index):
            index = at if same_elements(tensor, other) else self._updated(tensor, index, at)
            self.bindings.bind(tensor, index)
        return index

    def moved(self, given: Any, result: Any) -> None:
        """``result`` holds the values of ``given`` in another layout: no op of the model."""
        before, after = ([x for x in tree_leaves(each) if isinstance(x, torch.Tensor)] for each in (given, result))
        for old, new in zip(before, after, strict=False):
            if self.bindings.find(new) is None:
                self.bindings.bind(new, self.find(old))
            tell = getattr(self._listener, "moved", None)
            if tell is not None:
                with torch._C.DisableTorchFunction():
                    tell(old, new)

    def _leaf_oralias(self, tensor: torch.Tensor) -> int:
        if self.late_names is not None and isinstance(tensor, torch.nn.Parameter) and id(tensor) not in self.names:
            self.names.update(self.late_names())
        name = self.names.get(id(tensor))
        if name is not None:
            return self._leaf("parameter", tensor, "get_attr", name, {"name": name})
        found = self.bindings.same_memory(tensor)
        if found is None:
            attrs = {"requires_grad": True} if tensor.requires_grad and tensor.is_leaf else {}
            if type(tensor) is torch.Tensor:
                self.values.give(tensor, tensor, Level.PURE)
            return self._leaf("constant", tensor, "get_attr", f"_constant{len(self.nodes)}", attrs)
        index, other = found
        if tensor.shape == other.shape:
            return index
        kind = (
            "reshape" if tensor.numel() == other.numel() else "getitem" if tensor.numel() < other.numel() else "expand"
        )
        site, scope, calls, types = self._surroundings.place(sys._getframe(1))
        draft = Draft(kind, (index,), {}, site, scope, calls, types)
        return self._append(draft, tensor, self.graph.call_function(torch.Tensor.view, (self.nodes[index],)))

    def _leaf(self, kind: str, tensor: torch.Tensor, op: str, target: str, attrs: dict[str, Any]) -> int:
        site, scope, calls, types = self._surroundings.place(sys._getframe(1))
        if kind in ("input", "parameter"):
            site = Site(module=attrs["name"].rpartition(".")[0] if kind == "parameter" else "")
        draft = Draft(kind, (), attrs, site, scope, calls, types, tensor=tensor)
        return self._append(draft, tensor, self.graph.create_node(op, target))

    def _updated(self, tensor: torch.Tensor, index: int, write: int) -> int:
        """An op for ``tensor`` after another tensor on its memory was written."""
        site = self.drafts[write].site
        _, scope, calls, types = self._surroundings.place(sys._getframe(1))
        draft = Draft("setitem", (index, write), {}, site, scope, calls, types, True)
        node = self.graph.call_function(operator.setitem, (self.nodes[index], self.nodes[write]))
        return self._append(draft, tensor, node)

    def _append(self, draft: Draft, tensor: torch.Tensor | None, node: fx.Node) -> int:
        if tensor is not None:
            draft.describe(tensor, self.values.known(tensor))
        index = len(self.drafts)
        node.meta.update(index=index, name=draft.name, shape=draft.shape, dtype=draft.dtype, site=draft.site)
        self.drafts.append(draft)
        self.nodes.append(node)
        return index

    # ---- calls

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        raw = raw_name(func)
        if self._surroundings.opaque():
            return func(*args, **kwargs)
        if self.fake is not None and torch._C._get_dispatch_mode(_FAKE) is not self.fake:
            return func(*args, **kwargs)  # inside the fake kernel of a call that was not seen
        if self.late_names is not None and in_distributed(sys._getframe(1)):
            return func(*args, **kwargs)
        if raw in UNRECORDED:
            return None if raw in SKIPPED else func(*args, **kwargs)
        if func in ENTERED:
            with self:
                return opened(func)(*args, **kwargs)
        if raw == "__format__" and args[0].dim() > 0:
            return func(*args, **kwargs)
        if raw == "detach" and sys._getframe(1).f_code is _NEW_PARAMETER:
            return func(*args, **kwargs)  # fake tensors only: a parameter on plain ones makes no call
        if raw == "__iter__":
            with self:
                return iter(args[0].unbind(0))
        return self._call(func, raw, args, kwargs, sys._getframe(1))

    def _call(
        self,
        func: Callable[..., Any],
        raw: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        frame: FrameType | None,
    ) -> Any:
        number = len(self.called)
        self.called.append(func)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        guessed = ran_alone = False
        if is_inplace(raw):
            for tensor in tensors:
                self.find(tensor)  # a leaf must be described before it changes
        try:
            if raw in _NOT_ON_FAKES and self.fake is not None:
                raise NotImplementedError("printed without its value, or taken apart element by element")
            out = func(*args, **kwargs)
        except Exception as error:
            shaped = shape_rule(raw, args, kwargs) if self.fake is not None else None
            if shaped is not None:
                out = shaped
            elif self.fake is None or not self._can_guess(raw, error, tensors):
                raise
            else:
                guessed = self._is_guess(tensors)
                counts = counted(raw, args, kwargs)
                if counts is not None:
                    self.values.count_once(counts)
                level = Level.GUESSED if guessed else self._weakest(tensors)
                out = self.values.to_fake(self.values.run(func, args, kwargs), level)
                ran_alone = True
        target = written_tensor(func, raw, args, kwargs, out)
        if target is None and isinstance(out, torch.Tensor) and any(out is tensor for tensor in tensors):
            out = alias(out)
        if self.fake is not None and self._holds(raw, tensors):
            self.values.assume(out, True)
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        escaped = guessed or (raw in ESCAPES and not self.values.given(tensors))
        if outputs or target is not None or escaped:
            self.record(canonical(func, args, kwargs), func, args, kwargs, out, frame, target, guessed,
                        None if ran_alone else tensors, number)  # fmt: skip
        return out

    def record(
        self,
        call: Call,
        func: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        out: Any,
        frame: FrameType | None,
        target: torch.Tensor | None = None,
        guessed: bool = False,
        followed: Sequence[torch.Tensor] | None = None,
        number: int | None = None,
    ) -> None:
        """Append one op, its operands' leaves before it and its further results after it."""
        inputs = tuple(self.find(tensor) for _, tensor in call.operands)
        node_args = tuple(self._node_argument(arg) for arg in args)
        node_kwargs = {str(key): self._node_argument(value) for key, value in kwargs.items()}
        site, scope, calls, types = self._surroundings.place(frame)
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        if followed is not None:
            self.values.follow(func, raw_name(func), args, kwargs, followed, outputs, target)
        single = isinstance(out, torch.Tensor) or target is not None or not outputs
        result = target if target is not None else outputs[0] if outputs else None
        on = self.autograd_on()
        draft = Draft(call.name, inputs, call.attrs, site, scope, calls, types, target is not None, guessed, on)
        draft.call = number
        index = self._append(draft, result, self.graph.create_node("call_function", func, node_args, node_kwargs))
        operands = tuple(tensor for _, tensor in call.operands)
        if target is not None:
            if not on and target.is_leaf and target.requires_grad:
                return  # a parameter with new values: what reads it later still has its gradient
            self.bindings.written(target, index)
        if single:
            for output in outputs:
                self.bindings.bind(output, index)
            self._tell(index, operands, result)
            return
        self._tell(index, operands, result)
        for item, output in enumerate(outputs):
            part = Draft("getitem", (index,), {"item": item}, site, scope, calls, types, differentiable=on, call=number)
            node = self.graph.call_function(operator.getitem, (self.nodes[index], item))
            at = self._append(part, output, node)
            self.bindings.bind(output, at)
            self._tell(at, operands, output)

    def _tell(self, index: int, inputs: tuple[torch.Tensor, ...], output: torch.Tensor | None) -> None:
        if self._listener is not None and output is not None:
            draft = self.drafts[index]
            with torch._C.DisableTorchFunction():
                self._listener(index, draft.name, draft.site.module, inputs, output)

    def _node_argument(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.nodes[self.find(value)]
        if isinstance(value, (list, tuple)):
            items = [self._node_argument(item) for item in value]
            return items if isinstance(value, list) else tuple(items)
        if isinstance(value, dict):
            return {str(key): self._node_argument(item) for key, item in value.items()}
        if isinstance(value, slice):
            return slice(*(self._node_argument(part) for part in (value.start, value.stop, value.step)))
        plain = (int, float, bool, str, complex, torch.dtype, torch.device, torch.memory_format, torch.layout)
        if value is None or value is ... or isinstance(value, plain):
            return value
        return type(value).__name__

    # ---- data-dependent calls

    def _can_guess(self, raw: str, error: Exception, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether the call failed only because fake tensors have no values."""
        dynamic = type(error).__name__ in DYNAMIC or raw in NEEDS_VALUES or "not allocated" in str(error)
        return dynamic and sum(tensor.numel() for tensor in tensors) <= STANDIN_LIMIT

    def _holds(self, raw: str, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether the call makes a condition that models only ask to be safe: an assertion, or that all is finite."""
        if raw != "all":
            return raw == "_is_all_true"  # torch._check_tensor_all
        source = self.bindings.find(tensors[0]) if tensors else None
        return source is not None and self.drafts[source].name == "isfinite"

    def _is_guess(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Indices, masks and lengths decide the result; the floats that they select from do not."""
        deciding = [tensor for tensor in tensors if not tensor.is_floating_point()] or tensors
        return not self.values.given(deciding)

    def _weakest(self, tensors: Sequence[torch.Tensor]) -> Level | None:
        levels = [self.values.level(tensor) for tensor in tensors]
        known = [level for level in levels if level is not None]
        return min(known, default=Level.GIVEN) if len(known) == len(levels) else None
