"""Singular values of the blocks of the trunk, from products with their Jacobians."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils._pytree import tree_leaves

from stablelint.graph import Graph, Op
from stablelint.probe.curvature.lanczos import lanczos
from stablelint.probe.curvature.problem import Problem, copied
from stablelint.probe.state import seed_everything
from stablelint.signals.curvature import BlockSpectrum
from stablelint.trace import trace

#: Products J'J at most for each block, and blocks that are looked at.
LIMIT, BLOCKS = 24, 64
#: Random vectors for the mean square at least, and entries that all of them have: the relative error of the mean is
#: about sqrt(2 / entries) where the singular values are alike. All unit vectors are taken where they are fewer.
VECTORS, ENTRIES = 8, 1 << 14
_ROUNDING = 0.02

#: A place in an autograd graph, and a tensor without values that has the shape of what is made there.
Edge = tuple[GradientEdge, torch.Tensor]
Map = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class _Edges:
    """A listener that remembers where in the autograd graph each op's output was made, and no values.

    The edge is taken when the op is done: an in-place op behind it makes the tensor another one, not the edge.
    """

    found: dict[int, Edge] = field(default_factory=dict)

    def __call__(
        self, index: int, name: str, _module: str, _inputs: tuple[torch.Tensor, ...], output: torch.Tensor, /
    ) -> None:
        if not isinstance(output, torch.Tensor) or output.grad_fn is None:  # nothing to derive, or a leaf
            return
        if name != "parameter" and not torch._C._functorch.is_functorch_wrapped_tensor(output):
            self.found[index] = _edge(output)


def block_spectra(
    problem: Problem, *, limit: int = LIMIT, tolerance: float = 0.01, blocks: int = BLOCKS
) -> tuple[BlockSpectrum, ...]:
    """Singular values of the Jacobian of each block of the trunk, as ``graph.flow.block`` numbers them.

    A block maps the last trunk op of the block before (the input for the first one) to its own last op; what comes in
    beside, past that trunk op, is held fixed. One recorded forward pass is kept, and products with J' and J are
    backward passes, and derivatives of backward passes, between these two ops in its autograd graph. Lanczos on J'J
    (or JJ', whichever is smaller) is Golub-Kahan bidiagonalisation on J (Golub and Van Loan 2013, section 10.4). The
    memory is about twice that of a training step, the cost at most ``limit + 8`` passes through a large model; small
    blocks take more vectors. Where the second derivative is missing only the mean square is given. At most
    ``blocks`` blocks, evenly spaced, are looked at. Everything is restored.

    Raises TraceTargetError when the forward pass fails.
    """
    edges = _Edges()
    with problem.settled():
        given = copied(problem.inputs, grad=True)
        leaves = [value for value in tree_leaves((given.args, given.kwargs)) if isinstance(value, torch.Tensor)]
        starts = [_edge(leaf) if leaf.requires_grad else None for leaf in dict.fromkeys(leaves)]
        seed_everything(problem.seed)
        graph = trace(problem.model, given, fake=False, listener=edges).graph
        inputs = (op.index for op in graph if op.name == "input")
        edges.found.update({index: start for index, start in zip(inputs, starts, strict=False) if start is not None})
        places = [place for place in _blocks(graph) if place[0] in edges.found and place[1] in edges.found]
        step = max(1.0, len(places) / blocks)
        chosen = [places[int(step * at)] for at in range(math.ceil(len(places) / step))]
        return tuple(
            _spectrum(graph.flow.block[end], graph.ops[end], edges.found[start], edges.found[end], limit, tolerance)
            for start, end in chosen
        )


def _edge(tensor: torch.Tensor) -> Edge:
    like = torch.empty((), dtype=tensor.dtype, device=tensor.device).expand(tensor.shape)
    return get_gradient_edge(tensor), like


def _blocks(graph: Graph) -> Iterator[tuple[int, int]]:
    """Input op and output op of each block that does something."""
    start: int | None = None
    last: dict[int, int] = {graph.flow.block[index]: index for index in graph.flow.trunk}
    for _, end in sorted(last.items()):
        start = graph.flow.trunk[0] if start is None else start
        if start != end and graph.ops[end].numel > 1:
            yield start, end
        start = end


def _spectrum(block: int, op: Op, source: Edge, sink: Edge, limit: int, tolerance: float) -> BlockSpectrum:
    inside, outside = source[1], sink[1]
    backward, forward = _maps(source[0], sink[0], outside)
    transposed = inside.numel() > outside.numel()
    like = outside if transposed else inside
    generator = torch.Generator().manual_seed(block)
    made = [0]

    def product(vector: torch.Tensor) -> torch.Tensor:
        made[0] += 1
        value = vector.reshape(like.shape).to(like.dtype)
        found = forward(backward(value)) if transposed else backward(forward(value))
        return found.detach().reshape(-1).to(vector.dtype)

    start = torch.randn(like.numel(), generator=generator)
    start = start.to(like.device, torch.promote_types(like.dtype, torch.float32))
    spectrum = None
    with contextlib.suppress(RuntimeError, ArithmeticError):  # no second derivative, or a Jacobian that is not finite
        if _adjoint(backward, forward, inside, outside, generator):
            spectrum = lanczos(product, start, limit=limit, tolerance=tolerance)
    if spectrum is None:
        largest = smallest = None
        converged, (mean, error) = (False, False), _mean_square(backward, outside, inside.numel(), generator)
    else:
        largest, smallest = (math.sqrt(max(spectrum.values[end], 0.0)) for end in (-1, 0))
        converged = spectrum.reached(-1, tolerance), spectrum.reached(0, tolerance)
        others = inside.numel() if transposed else outside.numel()
        mean, error = _mean_square(backward if transposed else forward, like, others, generator)
    return BlockSpectrum(
        block=block,
        name=op.name,
        module=op.site.module,
        largest=largest,
        smallest=smallest,
        converged=converged,
        mean_square=mean,
        error=error,
        inputs=inside.numel(),
        outputs=outside.numel(),
        products=made[0],
    )


def _maps(source: GradientEdge, sink: GradientEdge, outside: torch.Tensor) -> tuple[Map, Map]:
    """Products with the transposed Jacobian and with the Jacobian between two edges of one autograd graph.

    The backward pass J'u is linear in u, and the derivative of v.(J'u) with respect to u is Jv.
    """

    def backward(cotangent: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor
        (found,) = torch.autograd.grad((sink,), (source,), (cotangent,), retain_graph=True, materialize_grads=False)
        return found

    kept: list[Any] = []

    def forward(tangent: torch.Tensor) -> torch.Tensor:
        if not kept:
            cotangent = torch.zeros(outside.shape, dtype=outside.dtype, device=outside.device, requires_grad=True)
            (found,) = torch.autograd.grad((sink,), (source,), (cotangent,), create_graph=True)
            kept.extend((cotangent, found))
        if not kept[1].requires_grad:
            raise RuntimeError("the backward pass has no derivative")
        value: torch.Tensor
        (value,) = torch.autograd.grad(kept[1], kept[0], tangent, retain_graph=True, materialize_grads=True)
        return value

    return backward, forward


def _adjoint(
    backward: Map, forward: Map, inside: torch.Tensor, outside: torch.Tensor, generator: torch.Generator
) -> bool:
    """Whether u.(Jv) = v.(J'u) for random u and v: autograd skips functions that cannot be derived twice silently."""
    tangent = torch.randn(inside.shape, generator=generator).to(inside.device, inside.dtype)
    cotangent = torch.randn(outside.shape, generator=generator).to(outside.device, outside.dtype)
    image, pulled = forward(tangent), backward(cotangent)
    gap = abs(float((image * cotangent).sum(dtype=torch.float64) - (pulled * tangent).sum(dtype=torch.float64)))
    rounding = max(_ROUNDING, 10 * torch.finfo(outside.dtype).eps)
    return gap <= rounding * float(torch.linalg.vector_norm(pulled, dtype=torch.float64))


def _mean_square(product: Map, like: torch.Tensor, others: int, generator: torch.Generator) -> tuple[float, float]:
    """|J|_F^2 over the number of singular values, and its standard error.

    |J|_F^2 is the mean of |Jx|^2 over random signs x (Hutchinson 1990, doi:10.1080/03610919008812866), or its sum over
    all unit vectors where these are as few. ``like`` has the shape of x, ``others`` is the length of Jx.
    """
    size = like.numel()
    count = min(max(VECTORS, ENTRIES // size), size)
    whole = count == size
    squares = []
    for at in range(count):
        if whole:
            vector = torch.zeros(size)
            vector[at] = math.sqrt(size)
        else:
            vector = torch.randint(2, (size,), generator=generator) * 2.0 - 1.0
        image = product(vector.reshape(like.shape).to(like.device, like.dtype))
        squares.append(float(torch.linalg.vector_norm(image, dtype=torch.float64)) ** 2 / min(size, others))
    mean = sum(squares) / count
    spread = 0.0 if whole else math.sqrt(sum((x - mean) ** 2 for x in squares) / (count * (count - 1)))
    return mean, spread
