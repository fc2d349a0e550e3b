"""What can go wrong, as one tree.

::

    StablelintError          anything that stops stablelint from doing its job (exit code 2)
    ├── UsageError           the command line or the configuration is wrong
    └── TargetError          one target cannot be checked; the others go on
        ├── ImportTargetError    the file or module cannot be imported
        ├── BuildTargetError     the model cannot be constructed
        ├── CheckpointTargetError  the checkpoint cannot be read or does not fit the model
        ├── InputTargetError     no example inputs could be found or the forward pass rejects them
        ├── LossTargetError      the user's loss fails or cannot be differentiated
        ├── TraceTargetError     the forward pass could not be recorded
        └── WorkerError          the isolated process that ran the user's code ended
            ├── WorkerDied           on its own: a crash, os._exit, a signal
            ├── WorkerTimeout        it was stopped: nothing finished in time
            └── WorkerMemory         it was stopped: it used too much memory

Every message is one sentence: what is wrong, where, what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class StablelintError(Exception):
    """Stops the run; its text is shown to the user as it is."""


class UsageError(StablelintError):
    """The command line or the configuration asks for something that does not exist."""


class TargetError(StablelintError):
    """One target cannot be checked; ``suggestion`` is the line that would help most, ``tried`` what was tried."""

    suggestion: str | None = None
    tried: tuple[str, ...] = ()


class ImportTargetError(TargetError):
    """The file or module of a target cannot be imported."""


class BuildTargetError(TargetError):
    """The model of a target cannot be constructed."""


class CheckpointTargetError(TargetError):
    """The checkpoint of a target cannot be read, or holds other weights than the model has."""


class InputTargetError(TargetError):
    """No example inputs could be found for a target, or its forward pass rejects them."""


class LossTargetError(TargetError):
    """The user's loss fails, is not one number or has no gradient."""


class TraceTargetError(TargetError):
    """The forward pass of a target could not be recorded."""


#: Why a model whose output has no gradient cannot be judged.
NO_GRADIENT = (
    "no output of the forward pass depends on the parameters or inputs through differentiable ops; "
    "look for detach(), no_grad() or an integer result on the way to the output"
)


def no_gradient(output: object) -> str:
    """:data:`NO_GRADIENT`, or what the forward pass gives in the place of tensors with a gradient."""
    if output is None or isinstance(output, (str, bytes, int, float, Iterator)):
        name = type(output).__name__
        kind = "None" if output is None else f"an {name}" if name[0] in "aeiou" else f"a {name}"
        return f"the forward pass returns {kind}, which has no gradient; let it return the tensors"
    if getattr(getattr(output, "dtype", None), "is_complex", False):
        return "the forward pass returns complex numbers, and a loss takes real ones; return abs() or view_as_real()"
    return NO_GRADIENT


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence that refuses ``word``: ``; did you mean "x"?`` or nothing when no known word is near."""
    import difflib

    near = difflib.get_close_matches(word, sorted(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


class WorkerError(TargetError):
    """The isolated process that ran the user's code ended before it was done."""


class WorkerDied(WorkerError):  # noqa: N818 (what happened to the worker, read in the tree above)
    """The worker ended on its own: a crash, ``os._exit`` or a signal."""


class WorkerTimeout(WorkerError):  # noqa: N818
    """The worker was stopped because nothing finished in time."""


class WorkerMemory(WorkerError):  # noqa: N818
    """The worker was stopped because it used too much memory."""
