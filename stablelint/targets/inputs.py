"""The inputs of a target: the user's ``example_inputs``, or inferred by trying proposals on fake tensors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, cast

import torch
from torch import nn

from stablelint.errors import InputTargetError
from stablelint.feed import Batches, arrange, is_loader, second_argument
from stablelint.inputs import Inputs
from stablelint.targets.attempt import Attempts
from stablelint.targets.config_inputs import code, inputs_from_config, only_text
from stablelint.targets.guess import Proposal
from stablelint.targets.hints import Hint
from stablelint.targets.imports.placeholder import PlaceholderUse
from stablelint.targets.library import LibraryModel
from stablelint.targets.loading import describe, short
from stablelint.targets.methods import has_forward_of_class, settle_on, working_methods
from stablelint.targets.proposals import detection_inputs, parameters_to_fill
from stablelint.targets.search import Search, is_large
from stablelint.trace.shards import batch_part

#: Methods of a model without a forward that are tried.
_MOST_METHODS = 4

#: Weights and inputs drawn from one seed would be the same numbers: this is added for inputs.
INPUT_SEED = 1_000_003
#: Processes with parts of one batch draw their own; a loader, which goes by the rest, gives each its part itself.
_PART_SEED = 10 * INPUT_SEED

#: Of the output, or of the output and the target or the batch.
Loss = Callable[..., torch.Tensor]
#: Makes inputs from a seed; ``model`` is the instance that they are for.
Maker = Callable[[int, nn.Module], Inputs]


@dataclass(frozen=True)
class Example:
    """Inputs that the user gave, and where."""

    make: Maker
    where: str


def example(
    model: nn.Module, value: Any, module: ModuleType | None, where: str, loss: Loss | None = None
) -> Example | None:
    """The user's inputs for a model: on the model, on the factory, in the file, or Lightning's attribute."""
    if getattr(model, "example_inputs", None) is not None:
        return Example(_maker(lambda each: each.example_inputs, loss), "example_inputs of the model")
    for owner, place in ((value, "the factory"), (module, where)):
        given = getattr(owner, "example_inputs", None)
        if given is not None:
            return Example(_maker(partial(_ignoring_model, given), loss), f"example_inputs of {place}")
    if getattr(model, "example_input_array", None) is not None:
        return Example(_maker(lambda each: each.example_input_array, loss), "example_input_array of the model")
    return None


def example_loss(model: nn.Module, value: Any, module: ModuleType | None, target: str) -> Loss | None:
    """The user's loss for a model, looked for where its inputs are.

    Raises InputTargetError when it is no function, or one of more than the output and a target or batch.
    """
    loss = next((each for owner in (model, value, module) if (each := getattr(owner, "example_loss", None))), None)
    if loss is None:
        return None
    if not callable(loss):
        raise InputTargetError(
            f"example_loss of {target} is a {type(loss).__name__}, not a function of the output (and a target or batch)"
        )
    second_argument(loss)
    return cast(Loss, loss)


def check_example(attempts: Attempts, inputs: Inputs, given: Example, target: str) -> None:
    """Raise InputTargetError when the model's forward rejects the user's inputs."""
    outcome = attempts.checked(inputs)
    if outcome.error is not None:
        raise InputTargetError(describe(outcome.error, f"when it is called with {given.where}", target))


def from_library(library: LibraryModel, model: nn.Module, attempts: Attempts) -> tuple[Maker, str] | None:
    """The first inputs told by the model's library that its forward accepts; None when it accepts none."""
    assert library.inputs is not None
    for make, described in library.inputs(model):
        if library.virtual and only_text(described):
            return partial(_from_seed, make), f"inputs inferred: {described}"
        outcome = attempts.fake(make(0))
        if outcome.error is None or outcome.undecided:  # the recorder can do more than a trial
            return partial(_from_seed, make), f"inputs inferred: {described}"
    return None


def input_seed(seed: int, model: nn.Module) -> int:
    """The seed of the inputs of a draw, in this process's part of the batch."""
    return seed + INPUT_SEED + _PART_SEED * batch_part(model)


def _from_seed(make: Callable[[int], Inputs], seed: int, model: nn.Module) -> Inputs:  # noqa: ARG001 (a Maker)
    return make(seed)


def infer(
    model: nn.Module, attempts: Attempts, target: str, *, in_file: bool = True, hints: Sequence[Hint] = ()
) -> tuple[Maker, str]:
    """A maker of inputs that the model accepts, and a remark that says what they are.

    ``in_file`` says that the user has a file to which ``example_inputs()`` can be added: the remark then shows it.
    ``hints`` are the arguments of one call that was seen, tried first. A model without a forward is given the method
    that inputs are found for (:mod:`stablelint.targets.methods`).
    At most 150 passes on fake tensors and 10 seconds; raises InputTargetError when none passes.
    """
    if has_forward_of_class(model):
        return _inferred(model, attempts, target, in_file=in_file, hints=hints)
    first: InputTargetError | None = None
    for name in working_methods(model)[:_MOST_METHODS]:
        attempts.through(name)
        try:
            found = _inferred(model, attempts, target, in_file=in_file, hints=hints)
        except InputTargetError as error:
            first = first or error
        else:
            settle_on(model, name)
            return found
    raise first or InputTargetError(
        f"{target} has no forward, and none of its methods takes tensors to its parameters; "
        "name a factory that returns the network to check"
    )


def _inferred(
    model: nn.Module, attempts: Attempts, target: str, *, in_file: bool, hints: Sequence[Hint]
) -> tuple[Maker, str]:
    detected = detection_inputs(model, 0)
    if detected is not None:
        return lambda seed, each: Inputs(*(detection_inputs(each, seed) or ())), "inputs inferred: images with boxes"
    told = _told_by_config(model, attempts, in_file=in_file)
    if told is not None:
        return told
    device, dtype = _place(model)
    search = Search(model, attempts, device, dtype, hints)
    found = search.run()
    if isinstance(found, Proposal):
        remark = f"inputs inferred: {found}"
        if search.from_call:
            remark = f"inputs inferred from the call at {hints[0].where}: {found}"
        if in_file:
            remark += f"; to choose them add `{found.code()}` to the file"
        return lambda seed, _: found.inputs(seed, device, dtype), remark
    if found is not None and isinstance(found.error, PlaceholderUse):  # no other input brings the package
        raise InputTargetError(describe(found.error, "in its forward pass", target)) from found.error
    signature = ", ".join(_parameter_names(model))
    method = "forward" if has_forward_of_class(model) else getattr(model.forward, "__name__", "forward")
    reason = f" (the likeliest guess failed with {short(found.error)})" if found and found.error is not None else ""
    line = f"def example_inputs(): return {_template(model)}"
    failure = InputTargetError(
        f"no inputs were found that {target} accepts in {method}({signature}){reason}; add `{line}` to the file"
    )
    failure.suggestion = line
    raise failure from (found.error if found else None)


def _told_by_config(model: nn.Module, attempts: Attempts, *, in_file: bool) -> tuple[Maker, str] | None:
    """What the configuration of a transformers model tells, when the model accepts it on real tensors, too."""
    config = getattr(model, "config", None)
    if not isinstance(getattr(config, "model_type", None), str) or not hasattr(model, "main_input_name"):
        return None
    for make, described in inputs_from_config(config, model):
        inputs = make(0)
        # A real pass knows whether an id is out of range, and runs what fake tensors cannot.
        outcome = attempts.fake(inputs) if is_large(model) else attempts.real(inputs)
        if outcome.error is None:
            remark = f"inputs inferred: {described}"
            return partial(_from_seed, make), remark + (
                f"; to choose them add `{code(inputs)}` to the file" if in_file else ""
            )
    return None


def _place(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    for parameter in model.parameters():
        if parameter.dtype.is_floating_point:
            device = torch.device("cpu") if parameter.is_meta else parameter.device  # built without its weights
            return device, parameter.dtype
    return torch.device("cpu"), torch.get_default_dtype()


def _parameter_names(model: nn.Module) -> list[str]:
    try:
        return list(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):
        return ["..."]


def _template(model: nn.Module) -> str:
    """What ``example_inputs`` is to return, with the arguments that are needed and the keys that forward reads."""
    try:
        source = inspect.getsource(type(model).forward)
    except (OSError, TypeError):
        source = ""
    parts = {}
    for name in (each.name for each in parameters_to_fill(model)):
        keys = dict.fromkeys(re.findall(rf"\b{re.escape(name)}\[[\"'](\w+)[\"']\]", source))
        parts[name] = "{" + ", ".join(f'"{key}": ...' for key in keys) + "}" if keys else "..."
    if len(parts) > 1:
        return "{" + ", ".join(f'"{name}": {part}' for name, part in parts.items()) + "}"
    (only,) = parts.values() or ("...",)
    return "(torch.randn(...),)" if only == "..." else f"({only},)"


def _ignoring_model(value: Any, model: nn.Module) -> Any:  # noqa: ARG001 (inputs need not be the model's own)
    return value


def _maker(read: Callable[[nn.Module], Any], loss: Loss | None) -> Maker:
    """What the user gave is evaluated anew for each seed, but a loader gives one batch after the other."""
    batches: Batches | None = None

    def make(seed: int, model: nn.Module) -> Inputs:
        nonlocal batches
        if batches is None:
            value = read(model)
            value = value() if callable(value) and not isinstance(value, torch.Tensor) else value
            if not is_loader(value):
                return arrange(model, value, loss)
            batches = Batches(value)
        return arrange(model, batches[seed % INPUT_SEED], loss, loader=True)

    return make
