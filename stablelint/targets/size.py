"""How large a model may be before its weights are not allocated."""

from __future__ import annotations

import psutil

from stablelint.errors import TargetError
from stablelint.trace.provenance import TooLarge

_MOST_PARAMETERS = 2_000_000_000
_BYTES = 4
# Beside its weights a run needs their gradients and its activations.
_COPIES_TO_RUN = 3


def most_parameters(*, real: bool) -> int:
    """How many parameters a build may allocate: what fits, and for a model that is not run no more than 2 billion."""
    free = int(psutil.virtual_memory().available * 0.9) // _BYTES
    return free // _COPIES_TO_RUN if real else min(_MOST_PARAMETERS, free // 2)


def ran_out(error: TargetError) -> bool:
    """Whether a build failed because the model is too large."""
    cause = error.__cause__
    return isinstance(cause, (TooLarge, MemoryError)) or (
        isinstance(cause, RuntimeError) and "allocate memory" in str(cause)
    )


def too_large(name: str, most: int) -> str:
    """Why a model cannot be measured."""
    return (
        f"{name} has more than the {most / 1e9:.1f} billion parameters that can be run in the memory here; "
        "without --probe it is checked without allocating them"
    )
