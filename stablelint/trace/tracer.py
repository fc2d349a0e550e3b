"""One run of a model, recorded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_map

from stablelint.errors import TraceTargetError
from stablelint.garbage import garbage_kept
from stablelint.graph.graph import Graph
from stablelint.inputs import Inputs
from stablelint.trace import state
from stablelint.trace.caches import forgotten_fakes
from stablelint.trace.call import Call
from stablelint.trace.derived import with_derived_weights
from stablelint.trace.frames import traceback_position
from stablelint.trace.modules import ModuleStack, is_scripted
from stablelint.trace.origins import Origins
from stablelint.trace.patches import (
    convertible_modules,
    eager_compiled,
    recorded_autograd_functions,
    recorded_script_functions,
    transformers_unaware,
    whole_lists,
)
from stablelint.trace.provenance import quiet_fakes
from stablelint.trace.recorder import Listener, Recorder
from stablelint.trace.shards import is_flat, is_sharded, resharded
from stablelint.trace.surroundings import restored_surroundings
from stablelint.trace.switches import restored_switches
from stablelint.trace.values import FLOAT_INPUT_LIMIT, FOLLOWED_LIMIT, Level
from stablelint.trace.view import to_graph
from stablelint.trace.weights import describe, input_moments

#: What a static check says of a model that tensors without values cannot follow.
SHARDED = (
    "the weights are spread over processes, which tensors without values cannot follow; "
    "stablelint ran the forward pass on real ones"
)

#: Why a model that is sharded in the older way is refused.
FLAT = (
    "FullyShardedDataParallel cuts the weights into flat pieces that cannot be told apart; "
    "use torch.distributed.fsdp.fully_shard, or check the model before it is wrapped"
)


@dataclass(frozen=True)
class Trace:
    """A recorded run. ``graph.ops`` and the nodes of ``fx`` (but its output) correspond one to one.

    ``calls`` says for each op which call of torch made it, None for leaves and where no call was seen, ``called`` are
    the functions of all calls (:mod:`stablelint.trace.replay`).
    """

    graph: Graph
    fx: fx.Graph
    output: object
    remarks: tuple[str, ...] = ()
    calls: tuple[int | None, ...] = ()
    called: tuple[Callable[..., Any], ...] = ()


def trace(
    model: nn.Module,
    inputs: Inputs,
    *,
    fake: bool = True,
    origins: Origins | None = None,
    listener: Listener | None = None,
) -> Trace:
    """Run ``model`` once as it is (train or eval) and record every operation.

    With ``fake`` nothing is computed and the model stays as it was. Otherwise the run is a real one with autograd
    on: attributes that the forward pass assigns are restored, in-place changes of buffers are not, and ``listener``
    is called after each recorded op with its result. Raises TraceTargetError when the forward pass fails.
    """
    with state.one_at_a_time() as nested:
        if nested:
            raise TraceTargetError(
                "the model calls stablelint while stablelint traces it; remove that call from forward"
            )
        if is_flat(model):
            raise TraceTargetError(FLAT)
        _materialise(model, inputs, origins)
        if not fake and _on_meta(model):
            raise TraceTargetError("the model was built without its weights, so it cannot be run on real tensors")
        if not fake:
            return _real(model, inputs, origins, listener)
        if is_sharded(model):
            with state.preserved_rng(0), state.restored_buffers(model):
                found = _real(model, inputs, origins, listener)
            return replace(found, remarks=(SHARDED, *found.remarks))
        try:
            with ExitStack() as stack:
                stack.enter_context(state.preserved_rng(0))
                stack.enter_context(restored_switches())
                stack.enter_context(garbage_kept())
                stack.enter_context(forgotten_fakes(model))
                stack.enter_context(restored_surroundings(model))
                stack.enter_context(torch.enable_grad())
                return _Run(model, inputs, origins, FakeTensorMode(allow_non_fake_inputs=True), None).trace()
        except Exception as error:  # whether the user's code or its fakeness is at fault, a real run tells
            if _on_meta(model):
                raise TraceTargetError(f"{explain(error)} (on tensors without values)") from error
            reason = _first_line(error)
        with state.preserved_rng(0), restored_switches(), state.restored_buffers(model):
            found = _real(model, inputs, origins, listener)
        remark = f"the forward pass fails on tensors without values ({reason}); stablelint ran it on real ones"
        return Trace(found.graph, found.fx, found.output, (remark, *found.remarks))


def _real(model: nn.Module, inputs: Inputs, origins: Origins | None, listener: Listener | None) -> Trace:
    try:
        with torch.enable_grad(), resharded(model, done=listener is None):
            return _Run(model, inputs, origins, None, listener).trace()
    except Exception as error:
        raise TraceTargetError(explain(error)) from error


def _materialise(model: nn.Module, inputs: Inputs, origins: Origins | None) -> None:
    try:
        with state.preserved_rng(0):
            state.materialise_lazy(model, inputs, origins)
    except Exception as error:
        raise TraceTargetError(explain(error)) from error


def _on_meta(model: nn.Module) -> bool:
    return any(tensor.is_meta for tensor, _ in state.named_tensors(model).values())


def explain(error: Exception) -> str:
    """One sentence on a forward pass that failed: where in the user's code, and with what."""
    where = traceback_position(error.__traceback__)
    at = "" if where is None else f" at {where.file}:{where.line}"
    return f"the forward pass fails{at}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _Run:
    """One forward pass under the recorder."""

    def __init__(
        self,
        model: nn.Module,
        inputs: Inputs,
        origins: Origins | None,
        fake: FakeTensorMode | None,
        listener: Listener | None,
    ) -> None:
        self.model = model
        self.training = model.training
        self.inputs = inputs
        self.origins = origins
        self.fake = fake
        self.named = state.named_tensors(model)
        self.modules = ModuleStack(model, origins)
        self.recorder = Recorder(self.modules, fake, listener)
        self.modules.on_result = self._record_script

    def trace(self) -> Trace:
        with ExitStack() as stack:
            stack.enter_context(state.restored_attributes(self.model))
            self._name_weights(stack)
            args, kwargs = self._given_inputs()
            stack.enter_context(transformers_unaware())
            stack.enter_context(eager_compiled())
            stack.enter_context(whole_lists())
            stack.enter_context(recorded_autograd_functions(self.recorder))
            stack.enter_context(recorded_script_functions(self.recorder))
            stack.enter_context(convertible_modules(self.fake is not None))
            stack.enter_context(self.modules.hooks())
            if self.fake is not None:
                stack.enter_context(quiet_fakes())
                stack.enter_context(self.fake)
            stack.enter_context(self.recorder)
            output = self._call(args, kwargs)
        recorder = self.recorder
        outputs = [recorder.find(tensor) for tensor in tensors_in(output)]
        recorder.graph.output(tuple(recorder.nodes[index] for index in outputs))
        weights = describe(self.named, self.origins)
        graph = to_graph(recorder.drafts, outputs, weights, training=self.training)
        graph = with_derived_weights(graph, recorder.nodes, {name: tensor for name, (tensor, _) in self.named.items()})
        numbers = tuple(draft.call for draft in recorder.drafts)
        return Trace(graph, recorder.graph, output, self._remarks(), numbers, tuple(recorder.called))

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.modules.boundary = sys._getframe()
        try:
            return self.model(*args, **kwargs)
        finally:
            self.modules.boundary = None

    def _name_weights(self, stack: ExitStack) -> None:
        real = stack.enter_context(state.fake_weights(self.model, self.fake)) if self.fake is not None else {}
        names = {id(tensor): name for name, (tensor, _) in self.named.items()}
        self.recorder.names.update(names)
        if is_sharded(self.model):
            self.recorder.late_names = lambda: {id(p): name for name, p in self.model.named_parameters()}
        self.recorder.names.update({id_: names[id(tensor)] for id_, tensor in real.items() if id(tensor) in names})
        values = self.recorder.values
        buffers = {id(tensor) for tensor, buffer in self.named.values() if buffer}
        current = state.named_tensors(self.model)
        for name, (tensor, _) in current.items():
            original = real.get(id(tensor), tensor)
            if id(original) not in buffers:
                if original is not tensor and not original.is_meta:
                    values.stand_for(tensor, original)
            elif (
                not name.endswith(("running_mean", "running_var")) and not original.is_meta
            ):  # F.batch_norm updates these unseen
                values.give(tensor, original, Level.PURE)

    def _given_inputs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, on fake tensors in a fake run, registered as inputs."""
        given: dict[int, torch.Tensor] = {}

        def convert(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            if id(value) not in given:
                own = value if self.fake is None else self.fake.from_tensor(value)
                given[id(value)] = own
                example = value.dtype.is_floating_point or value.dtype.is_complex
                if value.numel() <= (FLOAT_INPUT_LIMIT if example else FOLLOWED_LIMIT):
                    self.recorder.values.give(own, value, Level.GIVEN if example else Level.PURE)
            return given[id(value)]

        call = (self.inputs.args, self.inputs.kwargs)
        for path, value in tree_flatten_with_path(call)[0]:
            if isinstance(value, torch.Tensor) and id(value) not in given:
                self.recorder.add_input(convert(value), _input_name(path), input_moments(value))
        args, kwargs = tree_map(convert, call)
        return args, kwargs

    def _record_script(self, module: nn.Module, args: Any, result: Any) -> None:
        """TorchScript runs unseen: one op stands for the whole module."""
        if not is_scripted(module):
            return
        outputs = tensors_in(result)
        if outputs and all(self.recorder.bindings.find(tensor) is None for tensor in outputs):
            operands = [("input", tensor) for tensor in tensors_in(args)]
            operands += [("weights", tensor) for tensor in module.parameters()]
            call = Call(str(getattr(module, "original_name", type(module).__name__)), operands)
            self.recorder.record(
                call, torch.jit.ScriptModule.__call__, tuple(t for _, t in operands), {}, result, sys._getframe()
            )

    def _remarks(self) -> tuple[str, ...]:
        found = {
            f"a branch at {draft.site} depends on data; stablelint guessed the result of {draft.name}": None
            for draft in self.recorder.drafts
            if draft.guessed
        }
        return tuple(found)


def _input_name(path: tuple[Any, ...]) -> str:
    """``args`` are numbered, keywords named: ``0``, ``mask``, ``batch['x']``."""
    rest = keystr(path[2:])
    return f"{getattr(path[1], 'key', getattr(path[1], 'idx', ''))}{rest}"


def tensors_in(value: Any, seen: set[int] | None = None) -> list[torch.Tensor]:
    """All tensors in nested containers, dataclasses and dict-like outputs, in order."""
    return list(_walk(value, set() if seen is None else seen))


def is_plain(value: Any) -> bool:
    """Whether a value is an object of the user's own that holds things as attributes."""
    return hasattr(value, "__dict__") and not isinstance(value, (nn.Module, type)) and not callable(value)


def _walk(value: Any, seen: set[int]) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
        return
    if id(value) in seen:
        return
    children: Iterator[Any]
    if isinstance(value, dict):
        children = iter(value.values())
    elif isinstance(value, (list, tuple, set)):
        children = iter(value)
    elif is_dataclass(value) and not isinstance(value, type):
        children = (getattr(value, item.name, None) for item in fields(value))
    elif is_plain(value):
        children = iter(vars(value).values())
    else:
        return
    seen.add(id(value))
    for child in children:
        yield from _walk(child, seen)
