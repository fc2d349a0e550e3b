"""All quantities of curvature and step size of one model at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from torch import nn

from stablelint.errors import TargetError
from stablelint.inputs import Inputs
from stablelint.probe.curvature.hessian import LIMIT, hessian
from stablelint.probe.curvature.jacobian import VECTORS, block_spectra
from stablelint.probe.curvature.norms import DRAWS, gradient_norms
from stablelint.probe.curvature.problem import Loss, Problem, pose
from stablelint.probe.curvature.samples import GROUPS, agreement, noise_scale, sample_gram
from stablelint.probe.sharded import refuse
from stablelint.probe.state import preserved, seed_everything
from stablelint.signals.curvature import Curvature, Hessian

Rebuild = Callable[[int], tuple[nn.Module, Inputs]]
Found = TypeVar("Found")


def curvature(
    model: nn.Module,
    inputs: Inputs,
    *,
    loss: Loss | None = None,
    targets: Any = None,
    rebuild: Rebuild | None = None,
    draws: int = DRAWS,
    limit: int = LIMIT,
) -> Curvature:
    """Curvature, gradient noise, gradient norms and block Jacobians of ``model`` on one batch.

    What cannot be measured is None and has a sentence in ``remarks``. The cost, in forward and backward passes, is
    at most 2.5 ``limit`` for the Hessian (usually 20 to 30 products), ``draws`` for the norms, about 30 for the blocks
    and one for each batch of samples. Memory: four training steps and
    :data:`~stablelint.probe.curvature.lanczos.BUDGET` bytes. The model and all random
    states are left as found, but for lazy layers, which get their shapes.

    Args:
        model: any module, on any device.
        inputs: one batch; several samples, or their gradients cannot be compared.
        loss: maps the model's output, or the output and ``targets``, to a scalar. By default the model's own, or else
            the mean squared error against random targets. All figures scale with it.
        targets: tensors with one entry per sample, in any nesting.
        rebuild: ``rebuild(seed)`` draws a fresh model and batch, for the norms and for more samples.
        draws: gradient norms that are taken.
        limit: Hessian-vector products at most.

    Raises TraceTargetError when the forward pass fails, when its result has no gradient, or when the weights are spread
    over processes, TargetError when the loss is no finite scalar.
    """
    refuse(model, "curvature and step sizes")
    problem = pose(model, inputs, loss=loss, targets=targets)
    with problem.settled():
        problem.value()  # what is wrong with the loss itself is said once
    remarks: list[str] = []
    fresh = [problem]

    def drawn() -> Iterator[Problem]:
        yield problem
        for seed in range(1, draws):
            other = problem.redrawn(*_again(problem, rebuild, seed), seed)
            if rebuild is not None and targets is None and len(fresh) * problem.batch < GROUPS:
                fresh.append(problem.redrawn(model, other.inputs, seed))
            yield other

    norms = _attempt("the gradient norms", remarks, lambda: gradient_norms(drawn()))
    gram = _attempt("the gradients of single samples", remarks, lambda: sample_gram(problem, fresh[1:]))
    curved = _attempt("the Hessian", remarks, lambda: hessian(problem, limit=limit))
    blocks = _attempt("the Jacobians of the blocks", remarks, lambda: block_spectra(problem)) or ()
    if gram is not None and not gram.exact:
        remarks.append("the gradients of samples are compared by some of their entries, to save memory")
    if curved is not None:
        remarks += _doubts(curved)
    if any(block.largest is None for block in blocks):
        remarks.append("an op has no second derivative, so some blocks have a mean square but no singular values")
    costs = [0 if part is None else part.cost for part in (norms, gram, curved)]
    passes = sum(costs) + 1 + max((VECTORS + block.products for block in blocks), default=0)
    return Curvature(
        loss=problem.kind,
        hessian=curved,
        noise=None if gram is None else noise_scale(gram),
        agreement=None if gram is None else agreement(gram),
        norms=norms,
        blocks=blocks,
        remarks=tuple(remarks),
        cost=passes,
    )


def _again(problem: Problem, rebuild: Rebuild | None, seed: int) -> tuple[nn.Module, Inputs]:
    if rebuild is None:
        return problem.model, problem.inputs
    with preserved(nn.Module()):
        seed_everything(seed)
        return rebuild(seed)


def _attempt(what: str, remarks: list[str], measure: Callable[[], Found]) -> Found | None:
    """The result, or None and a remark: whatever the user's code raises costs this quantity and no other."""
    try:
        return measure()
    except TargetError as error:
        remarks.append(f"{what}: {error}")
    except Exception as error:
        line = (str(error).strip().splitlines() or [""])[0]
        remarks.append(f"{what}: {type(error).__name__}{': ' if line else ''}{line}")
    return None


def _doubts(found: Hessian) -> Iterator[str]:
    if found.by != "double backward":
        yield (
            "an op has no second derivative: Hessian-vector products are differences of gradients, which count the "
            "kinks of ReLUs as curvature"
        )
    if not all(found.converged):
        which = "largest" if not found.converged[0] else "smallest"
        error = found.residuals[0 if which == "largest" else 1]
        yield f"the {which} eigenvalue is known within {error:.0%} after {found.products} products"
