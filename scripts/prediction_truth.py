"""What a case really does: gradients of every op and parameter over redrawn weights, inputs and projections, cached.

The loss is a fixed random projection, with a gradient of unit rms, of the deepest output. Zero-initialised factors
that stop the gradient are woken as the prediction does it and frozen batch norms fitted as the probe does it, so that
prediction and truth speak of the same network.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from prediction_cases import Built, Case
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from stablelint.graph import Graph
from stablelint.graph.families import RECURRENT
from stablelint.inputs import Inputs
from stablelint.probe.frozen import calibrate
from stablelint.probe.sharded import Ranks
from stablelint.probe.state import preserved, seed_everything, training
from stablelint.probe.tensor_statistics import rms
from stablelint.probe.wake import asleep
from stablelint.signals.waking import FAINT, ROUNDS, STEP, moves
from stablelint.trace import tensors_in, trace

Numbers = dict[str, float]


@dataclass
class Truth:
    """One seed: rms of values and of gradients by op index, of gradients by parameter, and by step of a recurrent op.

    ``ops`` and ``weights`` say which graph and which draw of the parameters these numbers belong to; ``seconds`` are
    CPU seconds of one forward and backward pass.
    """

    case: str
    seed: int
    ops: str
    weights: str
    rms: Numbers = field(default_factory=dict)
    grads: Numbers = field(default_factory=dict)
    parameters: Numbers = field(default_factory=dict)
    steps: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = math.nan
    awakened: int = 0


class Cache:
    """Truths in a file with one JSON object a line, so that a run that was stopped goes on; none without a path."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.truths: dict[tuple[str, int], Truth] = {}
        for line in path.read_text().splitlines() if path and path.exists() else ():
            truth = Truth(**json.loads(line))
            self.truths[truth.case, truth.seed] = truth

    def forget(self, case: str) -> None:
        """Drop what is known of a case, so that it is measured again."""
        self.truths = {key: truth for key, truth in self.truths.items() if key[0] != case}

    def add(self, truth: Truth) -> None:
        """Keep a truth, also on disk; a later line for the same case and seed replaces an earlier one."""
        self.truths[truth.case, truth.seed] = truth
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(asdict(truth)) + "\n")


def built(case: Case, seed: int) -> Built:
    """The case's model in training mode and inputs, drawn with ``seed``."""
    torch.set_default_dtype(case.dtype)
    seed_everything(seed)
    model, args, kwargs = case.build()
    if any(is_lazy(parameter) for parameter in model.parameters()):
        with torch.no_grad():
            model(*args, **kwargs)
    return model, args, kwargs


def ops_digest(graph: Graph) -> str:
    """Equal for graphs with the same ops in the same order."""
    return _digest(f"{op.name}{list(op.shape)}" for op in graph)


def weights_digest(model: nn.Module) -> str:
    """Equal for the same draw of the same parameters, as far as their first elements tell."""
    return _digest(f"{name} {rms(value.reshape(-1)[:1000]):.3g}" for name, value in model.named_parameters())


def _digest(words: Iterator[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


def differentiable(value: Any) -> Any:
    """A copy whose floating tensors ask for a gradient and are no leaves, as a forward may write into them."""
    if isinstance(value, Tensor):
        return value.detach().requires_grad_().clone() if value.is_floating_point() else value.clone()
    if type(value) in (list, tuple):
        return type(value)(differentiable(item) for item in value)
    if isinstance(value, dict):
        return {key: differentiable(item) for key, item in value.items()}
    return value


def measure(case: Case, seed: int) -> Truth:
    """Run one draw of ``case`` forward and backward."""
    model, args, kwargs = built(case, seed)
    digest = weights_digest(model)
    with preserved(model), training(model), torch.enable_grad():
        seed_everything(seed)
        calibrate(model, Inputs(*args, **kwargs))
        graph, truth = _pass(case, model, args, kwargs, seed)
        first = truth
        for _ in range(ROUNDS):
            woken = _wake(model) if _least(graph, truth) < FAINT else 0
            if not woken:
                break
            _, again = _pass(case, model, args, kwargs, seed)
            again.awakened, truth = truth.awakened + woken, again
        if _least(graph, truth) < FAINT and _least(graph, first) > 0:
            truth = first  # small and not zero, and waking does not help: something else is the matter
        if seed == 0:
            truth.seconds = _seconds(model, args, kwargs)
    truth.weights = digest
    return truth


def _least(graph: Graph, truth: Truth) -> float:
    """The least sensitivity along the trunk (:class:`stablelint.signals.Signal`), 0 where no gradient arrives."""
    heard = [
        (index, truth.rms[key], truth.grads[key]) for index in graph.flow.trunk if (key := str(index)) in truth.grads
    ]
    if any(grad == 0 for _, _, grad in heard):
        return 0.0
    before = [each for each in heard if graph.head is None or each[0] <= graph.head]
    if not before:
        return math.inf
    last, _, reference = before[-1]
    size = graph.ops[last].numel
    return min(
        (
            value * grad / reference * math.sqrt(graph.ops[index].numel / size)
            for index, value, grad in before
            if value > 0
        ),
        default=math.inf,
    )


def _wake(model: nn.Module) -> int:
    """Give zero parameters that hear the loss a small random value, as the prediction does; how many there were.

    The probe steps along the gradient, which turns the last layer towards this very projection: through a head of 1000
    outputs the gradient is then larger by the square root of 1000, and nothing else differs.
    """
    woken = [
        parameter
        for parameter, size in asleep(model, Ranks())
        if parameter.grad is not None
        and bool(torch.isfinite(parameter.grad).all())
        and moves(size, rms(parameter.grad))
    ]
    with torch.no_grad():
        for parameter in woken:
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
            parameter.normal_(0.0, STEP / math.sqrt(fan_in))
    return len(woken)


class _Listener:
    """One recorded forward pass with a hook behind every op, and the projected output."""

    def __init__(self, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], seed: int) -> None:
        self.values: Numbers = {}
        self.grads: Numbers = {}
        self.steps: dict[str, Tensor] = {}
        self._outputs: dict[int, Tensor] = {}
        inputs = Inputs(*(differentiable(value) for value in args), **differentiable(dict(kwargs)))
        self.graph = trace(model, inputs, fake=False, listener=self).graph
        sink = self._outputs[self.graph.flow.sink or 0]
        seed_everything(1000 + seed)
        projection = torch.randn(sink.shape)
        self.loss = (sink * (projection / rms(projection)).to(sink.dtype)).sum()
        self._outputs.clear()

    def __call__(self, index: int, name: str, _module: str, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Take note of one op. Hooks must not hold ``self``: through ``loss`` they would keep each other alive."""
        key, grads = str(index), self.grads
        if name in RECURRENT and inputs[0].requires_grad:
            _hear(inputs[0], functools.partial(self.steps.__setitem__, key))
        if not isinstance(output, Tensor) or not output.is_floating_point() or not output.requires_grad:
            return
        if torch._C._functorch.is_functorch_wrapped_tensor(output):  # inside vmap a tensor has no values of its own
            return
        self._outputs[index] = output
        self.values[key] = rms(output)
        _hear(output, lambda grad: grads.__setitem__(key, rms(grad)))


def _hear(tensor: Tensor, listen: Callable[[Tensor], object]) -> None:
    """Call ``listen`` with the gradient of ``tensor`` as it is now; the node keeps it apart from later writes."""
    node, place = tensor.grad_fn, tensor.output_nr
    if node is None:
        tensor.register_hook(listen)
    else:
        node.register_prehook(lambda grads: None if grads[place] is None else (listen(grads[place]), None)[1])


def _pass(
    case: Case, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], seed: int
) -> tuple[Graph, Truth]:
    for parameter in model.parameters():
        parameter.grad = None
    seed_everything(seed)
    heard = _Listener(model, args, kwargs, seed)
    heard.loss.backward()
    steps = {}
    for index, grad in heard.steps.items():
        axis = 1 if heard.graph.ops[int(index)].attrs.get("batch_first") else 0
        steps[index] = [rms(part) for part in grad.unbind(axis)] if grad.dim() == 3 else []
    parameters = {
        name: rms(parameter.grad) for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    digest = ops_digest(heard.graph)
    return heard.graph, Truth(case.name, seed, digest, "", heard.values, heard.grads, parameters, steps)


def _seconds(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
    """CPU seconds of a plain pass, the better of two; NaN where not all outputs can be differentiated."""
    best = math.nan
    with contextlib.suppress(RuntimeError):
        for _ in range(2):
            inputs = [differentiable(value) for value in args], differentiable(dict(kwargs))
            start = time.process_time()
            outputs = [tensor for tensor in tensors_in(model(*inputs[0], **inputs[1])) if tensor.requires_grad]
            sum((tensor.sum() for tensor in outputs), start=torch.zeros(())).backward()
            seconds = time.process_time() - start
            best = seconds if math.isnan(best) else min(best, seconds)
    return best


def truths(case: Case, seeds: int, cache: Cache) -> list[Truth]:
    """The truths of all seeds, measured where the cache has none, whose graphs agree with that of the first."""
    for seed in range(seeds):
        if (case.name, seed) not in cache.truths:
            cache.add(measure(case, seed))
    found = [cache.truths[case.name, seed] for seed in range(seeds)]
    return [truth for truth in found if truth.ops == found[0].ops]


def geometric_mean(values: Sequence[float]) -> float:
    """Of the positive values; 0 when there are none."""
    logs = [math.log(value) for value in values if value > 0]
    return math.exp(sum(logs) / len(logs)) if logs else 0.0


def averaged(numbers: Sequence[Numbers]) -> Numbers:
    """The geometric mean by key, of the keys that the first has."""
    return {key: geometric_mean([each[key] for each in numbers if key in each]) for key in numbers[0]}
