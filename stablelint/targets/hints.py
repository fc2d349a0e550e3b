"""Arguments seen at a call of the model in a script, as the first proposals."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from stablelint.targets.guess import Guess, Proposal

_LEAST_BATCH, _MOST_BATCH = 2, 16
_USUAL_BATCH = 4
#: A free axis longer than this is cut: a long sequence is the same model as a short one.
_LONGEST = 4096


@dataclass(frozen=True)
class Hint:
    """One argument of a call that was seen: by ``name`` or ``position``.

    ``shape`` has None for a size that the call does not show, None as a whole where nothing is known of it; ``kind``
    is "float", "int" or "bool", ``high`` what integers stay below, ``where`` the place of the call ("train.py:31").
    """

    name: str | None
    position: int | None
    shape: tuple[int | None, ...] | None
    kind: str | None
    high: int | None
    where: str


def hinted(
    hints: Sequence[Hint],
    wanted: Sequence[inspect.Parameter],
    main: inspect.Parameter,
    guesses: Sequence[Guess],
    other: Callable[[inspect.Parameter, Guess], list[Guess]],
) -> list[Proposal]:
    """Proposals with the shapes of a call: one for each guess that can fill what the call does not show.

    ``guesses`` are those at the main parameter, ``other(parameter, main guess)`` those at another one.
    """
    by_name = {each.name: each for each in hints if each.name is not None}
    by_name |= {
        wanted[each.position].name: each
        for each in hints
        if each.name is None and each.position is not None and each.position < len(wanted)
    }
    carriers = filled(by_name[main.name], guesses) if main.name in by_name else list(guesses[:3])
    found = []
    keywords = frozenset(each.name for each in wanted if each.kind is each.KEYWORD_ONLY)
    for carrier in carriers[:4]:
        made = {main.name: carrier}
        for each in wanted:
            if each is not main:
                choices = other(each, carrier)
                told = filled(by_name[each.name], choices, batch=carrier.shape[:1]) if each.name in by_name else choices
                made[each.name] = (told or choices)[0]
        found.append(Proposal(tuple((each.name, made[each.name]) for each in wanted), keywords))
    return found


def filled(hint: Hint, guesses: Sequence[Guess], *, batch: tuple[int, ...] = ()) -> list[Guess]:
    """The guesses with the hint's sizes; a guess of another rank gives only its kind."""
    if hint.shape is None:
        return [_of_kind(each, hint) for each in guesses[:3]]
    found = []
    alike = [each for each in guesses if len(each.shape) == len(hint.shape) and each.kind != "value"]
    for guess in alike[:3] or [Guess("normal", (_USUAL_BATCH,) * len(hint.shape))]:
        sizes = [min(size, _LONGEST) if size else own for size, own in zip(hint.shape, guess.shape, strict=True)]
        if sizes:
            told = hint.shape[0] or guess.shape[0]
            sizes[0] = batch[0] if batch else min(_MOST_BATCH, max(_LEAST_BATCH, told))
        found.append(_of_kind(replace(guess, shape=tuple(sizes)), hint))
    return list(dict.fromkeys(found))


def _of_kind(guess: Guess, hint: Hint) -> Guess:
    if hint.kind == "float" and not guess.floating:
        return replace(guess, kind="normal")
    if hint.kind == "int":
        integer = guess.kind if guess.integers else "ids"
        return replace(guess, kind=integer, high=hint.high or guess.high)
    if hint.kind == "bool":
        return replace(guess, kind=guess.kind if guess.kind in ("true", "false") else "true")
    return guess
