"""The search for inputs: proposals and their repairs, tried on fake tensors."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from stablelint.targets.attempt import Attempts, Outcome
from stablelint.targets.guess import Guess, Proposal, leaves
from stablelint.targets.hints import Hint
from stablelint.targets.layers import SIDES, sides
from stablelint.targets.proposals import from_hints, proposals
from stablelint.targets.repair import repairs, shorter

_MOST_TRIES = 150
_MOST_TRIES_FOR_ONE = 20
_MOST_SECONDS = 10.0
_DEEPEST_REPAIR = 6
# A real pass through a larger model than this only to check the range of its ids is too dear.
_LARGEST_REAL = 100_000_000
# A size that was computed from a message may be any.
_MOST_ELEMENTS = 1 << 26
#: Tries for inputs that keep samples apart, once others have passed.
_TRIES_FOR_BETTER = 40
#: How far a usual side of an image may be from one found by arithmetic.
_NEAR = 8
#: Tables with fewer rows hold classes or kinds, not words.
_LEAST_VOCABULARY = 8


class Search:
    """Depth first: a failed proposal's repairs come before the next proposal, but only so many of them."""

    def __init__(
        self,
        model: nn.Module,
        attempts: Attempts,
        device: torch.device,
        dtype: torch.dtype,
        hints: Sequence[Hint] = (),
    ) -> None:
        self.model = model
        self.attempts = attempts
        self.device = device
        self.dtype = dtype
        self.hints = hints
        #: Whether what passed stems from the hints.
        self.from_call = False
        self.tries = 0
        self.most = _MOST_TRIES
        self.seen: set[Proposal] = set()
        self.deadline = time.monotonic() + _MOST_SECONDS
        self.first_failure: Outcome | None = None
        self.weak: Proposal | None = None
        #: What a real pass showed of the last proposal that fake tensors took.
        self.failed: Outcome | None = None

    def run(self) -> Proposal | Outcome | None:
        """The proposal that passed, or else the first failure."""
        seen_in_calls = from_hints(self.model, self.hints)
        ours = list(dict.fromkeys([*seen_in_calls, *proposals(self.model)]))
        stack = [(each, 0, root) for root, each in reversed(list(enumerate(ours)))]
        postponed: list[tuple[Proposal, int, int]] = []
        spent: Counter[int] = Counter()
        while (stack or postponed) and self.tries < self.most and time.monotonic() < self.deadline:
            proposal, depth, root = stack.pop() if stack else postponed.pop(0)
            if proposal in self.seen:
                continue
            if spent[root] >= _MOST_TRIES_FOR_ONE and stack:
                postponed.append((proposal, depth, root))
                continue
            spent[root] += 1
            self.seen.add(proposal)
            outcome = self._pass(proposal, real=False)
            if outcome.error is None:
                settled = self._settled(proposal, outcome)
                if settled is not None:
                    self.from_call = root < len(seen_in_calls) and _alike(settled, ours[root])
                    return settled
                if self.failed is not None and depth < _DEEPEST_REPAIR:
                    better = repairs(proposal, self.failed, self.model)
                    stack += [(each, depth + 1, root) for each in reversed(better)]
                continue
            if outcome.undecided:
                outcome = self._pass(proposal, real=True)
                if outcome.error is None:
                    self.from_call = root < len(seen_in_calls) and _alike(proposal, ours[root])
                    return _in_range(proposal, outcome, self.model)
            if self.first_failure is None:
                self.first_failure = outcome
            if depth < _DEEPEST_REPAIR:
                better = repairs(proposal, outcome, self.model)
                stack += [(each, depth + 1, root) for each in reversed(better)]
        return self.weak or self.first_failure

    def _pass(self, proposal: Proposal, *, real: bool) -> Outcome:
        self.tries += 1
        if any(math.prod(guess.shape) > _MOST_ELEMENTS for _, guess in proposal.items()):
            return Outcome(error=ValueError("an input of more than 64 million elements"))
        inputs = proposal.inputs(0, self.device, self.dtype)
        return self.attempts.real(inputs) if real else self.attempts.fake(inputs)

    def _settled(self, proposal: Proposal, outcome: Outcome) -> Proposal | None:
        """A passing proposal with its ids in range; None when it is to be taken only if nothing better comes."""
        self.failed = None
        proposal, outcome = self._usual(proposal, outcome)
        proposal, less = _in_range(proposal, outcome, self.model), shorter(proposal, outcome)
        integers = [name for name, guess in proposal.items() if any(each.integers for each in leaves(guess))]
        if is_large(self.model):
            proposal = _in_range(less or proposal, outcome, self.model)
        elif integers or less is not None or outcome.chances:
            # Fake tensors have no values: only a real pass shows an id that is out of range. A table with fewer rows
            # than the sequence is long may hold positions, then the sequence is too long, or kinds of tokens.
            real = self._pass(proposal, real=True)
            if real.error is not None and less is not None:
                proposal = _in_range(less, outcome, self.model)
                real = self._pass(proposal, real=True)
            if real.error is not None:
                self.first_failure = self.first_failure or real
                self.failed = real
                return None
        if _keeps_batch(proposal, outcome):
            return proposal
        self.weak = self.weak or proposal
        self.most = min(self.most, self.tries + _TRIES_FOR_BETTER)
        return None

    def _usual(self, proposal: Proposal, outcome: Outcome) -> tuple[Proposal, Outcome]:
        """Images of a usual size near one that arithmetic gave, when the model makes the same of them."""
        if not proposal.items():
            return proposal, outcome
        main = proposal[proposal.main]
        side = main.shape[-1] if len(main.shape) == 4 else 0
        if not side or main.shape[2] != side or side in sides(self.model) or main.kind != "normal":
            return proposal, outcome
        alike = [name for name, guess in proposal.items() if guess == main]
        for usual in sorted(SIDES, key=lambda each: abs(each - side)):
            if abs(usual - side) > _NEAR:
                break
            other = proposal.changed(dict.fromkeys(alike, replace(main, shape=(*main.shape[:2], usual, usual))))
            found = self._pass(other, real=False)
            if found.error is None and found.output_shapes == outcome.output_shapes:
                return other, found
        return proposal, outcome


def is_large(model: nn.Module) -> bool:
    """Whether a real pass through the model is too dear for a guess."""
    return sum(each.numel() for each in model.parameters() if not is_lazy(each)) > _LARGEST_REAL


def _alike(proposal: Proposal, seen: Proposal) -> bool:
    """Whether a proposal still has the sizes of a call that was seen, but for the number of samples."""
    known = dict(seen.items())
    return all(name not in known or guess.shape[1:] == known[name].shape[1:] for name, guess in proposal.items())


def _in_range(proposal: Proposal, outcome: Outcome, model: nn.Module) -> Proposal:
    """Ids below the size of their table, and no padding among them; what a loss wants as a probability is one."""
    changes = {}
    for index, (name, guess) in enumerate(proposal.items()):
        high = outcome.vocabulary.get(index)
        if guess.kind == "ids" and high is not None:
            low, high = _without_padding(guess, high, model)
            if (low, high) != (guess.low, guess.high):
                changes[name] = replace(guess, low=low, high=high)
        if guess.kind == "normal" and index in outcome.chances:
            changes[name] = replace(guess, kind="unit")
    return proposal.changed(changes)


def _without_padding(guess: Guess, high: int, model: nn.Module) -> tuple[int, int]:
    """The range of ids without the one that stands for padding, where a table or the model has one."""
    if high < _LEAST_VOCABULARY or len(guess.shape) < 2:
        return 0, high
    pads = {each.padding_idx for each in model.modules() if isinstance(each, nn.Embedding)}
    pads |= {value for name, value in vars(model).items() if "pad" in name and isinstance(value, int)}
    small = [each for each in pads if isinstance(each, int) and not isinstance(each, bool) and 0 <= each < high // 2]
    return max(small, default=-1) + 1, high - 1 if high - 1 in pads else high


def _keeps_batch(proposal: Proposal, outcome: Outcome) -> bool:
    """Whether samples stay apart: ``view(-1, 400)`` on an image of the wrong size passes with another batch."""
    if not proposal.items():
        return True
    tensors = [each.shape for _, guess in proposal.items() for each in leaves(guess) if each.shape]
    shape = proposal[proposal.main].shape or next(iter(tensors), ())
    if not shape:
        return True
    batch = set(shape[:2]) if len(shape) == 3 else set(shape[:1])
    if len(shape) == 3 or (len(shape) == 2 and proposal[proposal.main].kind == "ids"):
        batch.add(shape[0] * shape[1])  # a prediction for each token, in one list
    return any(not each or batch & set(each[:2]) for each in outcome.output_shapes)
