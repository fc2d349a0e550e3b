"""Repairs that need the line on which a pass failed, or that a message of torch, einops or Python spells out."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from stablelint.targets.attempt import Outcome
from stablelint.targets.guess import LENGTH, Guess, Proposal, leaves
from stablelint.targets.proposals import value_for

_NO_TENSOR = re.compile(
    r"Boolean value of Tensor|cannot be interpreted as an integer|only integer tensors of a single element|"
    r"'Tensor' object is not callable|must be int, not Tensor|can't convert .* to|only one element tensors|"
    r"must be tuple of ints, but found element of type Tensor|"
    r"argument '\w+' .*must be (int|float|bool|Number), not Tensor"
)
_NO_CONTAINER = re.compile(r"'(tuple|list|dict)' object has no attribute|must be Tensor, not (tuple|list|dict)")


def said(proposal: Proposal, outcome: Outcome, text: str, model: nn.Module) -> Iterator[Proposal]:
    """Proposals that avoid the failure."""
    names = [name for name, _ in proposal.items()]
    blamed = [names[each] for each in outcome.blame.inputs if each < len(names)]
    yield from _given(proposal, outcome, text, model)
    yield from _numbers(proposal, blamed, text)
    yield from _vocabulary(proposal, blamed, text, model)
    yield from _states(proposal, text)
    yield from _split(proposal, blamed, text)
    yield from _chunks(proposal, blamed, text)
    yield from _factors(proposal, outcome, blamed, model)


def _given(proposal: Proposal, outcome: Outcome, text: str, model: nn.Module) -> Iterator[Proposal]:
    """An argument that is None where something is wanted."""
    if "NoneType" not in text and not isinstance(outcome.error, AssertionError | ValueError):
        return
    parameters = inspect.signature(model.forward).parameters
    for name in outcome.blame.missing:
        if name in parameters:
            yield proposal.changed({name: value_for(name, _data(proposal), model)})
    for name, guess in proposal.items():
        if guess.kind == "value" and guess.value is None and "NoneType" in text:
            yield proposal.changed({name: value_for(name, _data(proposal), model)})


def _numbers(proposal: Proposal, blamed: list[str], text: str) -> Iterator[Proposal]:
    """A number or nothing where a tensor was given, a tensor where a container was given."""
    for name in blamed:
        guess = proposal[name]
        if _NO_TENSOR.search(text) and guess.shape and (name != proposal.main or len(proposal.items()) == 1):
            for value in (LENGTH,) if name == proposal.main else (None, False, 1):
                yield proposal.changed({name: Guess("value", value=value)})
            yield proposal.changed({name: Guess("numbers", guess.shape[:1], 1)})
        if _NO_CONTAINER.search(text) and guess.parts:
            yield proposal.changed({name: leaves(guess)[0]})


def _vocabulary(proposal: Proposal, blamed: list[str], text: str, model: nn.Module) -> Iterator[Proposal]:
    """Ids that are out of the range of a table."""
    bound = re.search(r"out of bounds for dimension \d+ with size (\d+)|class (?:values|labels).*?(\d+)", text)
    if bound is None and not re.search(r"out of range|out of bounds|smaller than num_classes", text):
        return
    sizes = {each.num_embeddings for each in model.modules() if isinstance(each, nn.Embedding)}
    sizes |= {int(bound[1])} if bound is not None and bound[1] else set()
    for name, guess in proposal.items():
        if guess.kind == "ids" and (not blamed or name in blamed):
            for size in sorted((each for each in {*sizes, 2} if 0 < each < guess.high), reverse=True)[:4]:
                yield proposal.changed({name: replace(guess, high=size, low=0)})


def _states(proposal: Proposal, text: str) -> Iterator[Proposal]:
    """``Expected hidden[0] size (2, 8, 128), got [2, 16, 128]``, and lengths of another number of samples."""
    match = re.search(r"Expected (?:hidden|cell)\S*(?: \w+)? size \(([\d, ]+)\), got [\[(]([\d, ]+)[\])]", text)
    if match is not None:
        wanted, got = (tuple(int(each) for each in group.split(",") if each.strip()) for group in match.groups())
        for name, guess in proposal.items():
            changed = _reshaped(guess, got, wanted)
            if changed != guess:
                yield proposal.changed({name: changed})
            elif guess.kind == "normal" and len(guess.shape) == 2 and name != proposal.main:
                yield proposal.changed({name: replace(guess, shape=wanted)})
    if re.search(
        r"hx should be a tuple|hidden.* tuple|expected .* LSTM|not enough values to unpack \(expected 2", text
    ):
        for name, guess in proposal.items():
            if name != proposal.main and guess.floating:
                yield proposal.changed({name: Guess("tuple", parts=(("h", guess), ("c", guess)))})
    lengths = re.search(r"`?len\(lengths\)`? to be equal to batch_size, but got (\d+) \(batch_size=(\d+)\)", text)
    if lengths is not None:
        for name, guess in proposal.items():
            if len(guess.shape) == 1 and guess.shape[0] == int(lengths[1]):
                yield proposal.changed({name: guess.resized(0, int(lengths[2]))})


def _reshaped(guess: Guess, got: tuple[int, ...], wanted: tuple[int, ...]) -> Guess:
    if guess.parts:
        return replace(guess, parts=tuple((name, _reshaped(each, got, wanted)) for name, each in guess.parts))
    return replace(guess, shape=wanted) if guess.shape == got else guess


def _split(proposal: Proposal, blamed: list[str], text: str) -> Iterator[Proposal]:
    """``split_sizes to sum exactly to 3 ..., but got split_sizes=[3, 3]``."""
    match = re.search(r"sum exactly to (\d+) .*split_sizes=\[([\d, ]+)\]", text)
    if match is None:
        return
    got, wanted = int(match[1]), sum(int(each) for each in match[2].split(","))
    for name in blamed or [proposal.main]:
        for axis, size in enumerate(proposal[name].shape):
            if axis and size == got:
                yield proposal.changed({name: proposal[name].resized(axis, wanted)})


def _chunks(proposal: Proposal, blamed: list[str], text: str) -> Iterator[Proposal]:
    """What einops says of an axis that cannot be divided."""
    match = re.search(r"divide axis of length (\d+) in chunks of (\d+)", text)
    if match is None:
        return
    got, factor = int(match[1]), int(match[2])
    for name in blamed or [proposal.main]:
        guess = proposal[name]
        shape = tuple(
            factor * math.ceil(size / factor) if axis and size == got else size for axis, size in enumerate(guess.shape)
        )
        if shape != guess.shape:
            yield proposal.changed({name: replace(guess, shape=shape)})


def _factors(proposal: Proposal, outcome: Outcome, blamed: list[str], model: nn.Module) -> Iterator[Proposal]:
    """A number of the model's own on the failing line, tried as the size of an axis of the arguments there."""
    numbers = []
    for attr in re.findall(r"self\.(\w+)", outcome.blame.line):
        value = getattr(model, attr, None)
        if isinstance(value, int) and not isinstance(value, bool) and 1 < value <= 4096:
            numbers.append(value)
    for name in blamed[:2]:
        guess = proposal[name]
        for number in numbers[:3]:
            for axis in range(len(guess.shape) - 1, 0, -1):
                if guess.shape[axis] != number:
                    yield proposal.changed({name: guess.resized(axis, number)})


def _data(proposal: Proposal) -> Guess:
    guess = proposal[proposal.main]
    return leaves(guess)[0] if guess.parts else guess
