"""Which tensor of a checkpoint belongs to which of a model: wrappers put prefixes before names, versions rename."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

Shape = tuple[int, ...]

# What torch.compile, FSDP and checkpoint_wrapper insert anywhere.
_WRAPPERS = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Parametrizations and what they were before torch 2.0; norms of the first BERT.
_SPELLINGS = (
    (re.compile(r"(?<![^.])parametrizations\.([^.]+)\.original0$"), r"\1_g"),
    (re.compile(r"(?<![^.])parametrizations\.([^.]+)\.original1$"), r"\1_v"),
    (re.compile(r"(?<![^.])parametrizations\.([^.]+)\.original$"), r"\1_orig"),
    (re.compile(r"(?<![^.])parametrizations\.([^.]+)\.0\._([uv])$"), r"\1_\2"),
    (re.compile(r"(?<![^.])gamma$"), "weight"),
    (re.compile(r"(?<![^.])beta$"), "bias"),
)
# Where the weights of the model itself lie, when averaged ones or a teacher's fit just as well.
_OWN = ("state_dict.", "model_state_dict.", "model.", "module.")


@dataclass(frozen=True)
class Matching:
    """``pairs`` is the file's name for each name of the model that it has.

    ``prefix`` is what one side puts before names; ``others`` are prefixes that fit as well.
    """

    pairs: Mapping[str, str]
    prefix: str = ""
    others: tuple[str, ...] = ()


def match(model: Mapping[str, Shape], file: Mapping[str, Shape], groups: Iterable[str] = ("",)) -> Matching:
    """Match names under the one change of prefix that most of them, then most shapes, agree with.

    ``groups`` are the prefixes of the file's that are dictionaries of their own.
    """
    ours, theirs = _spelled(model), _spelled(file)
    cuts = {"", *groups, *(_common(name for name in theirs if name.startswith(group)) for group in groups)}
    shapes = {name: model[ours[name]] for name in ours}, {name: file[theirs[name]] for name in theirs}
    scores = _scores(*shapes, cuts)
    if not scores:
        return Matching({})
    ranked = sorted(scores, key=lambda change: (*(-score for score in scores[change]), *_oddness(*change), change))
    best = cut, added = ranked[0]
    pairs: dict[str, str] = {}
    for name in theirs:
        own = ours.get(added + name[len(cut) :]) if name.startswith(cut) else None
        if own is not None:
            pairs.setdefault(own, theirs[name])
    for name, own in ours.items():  # a head beside a body without its prefix
        if own not in pairs and added and cut + name in theirs:
            pairs[own] = theirs[cut + name]
    ties = [change for change in ranked[1:] if scores[change] == scores[best] and best != ("", "")]
    return Matching(pairs, cut or added, tuple(dict.fromkeys(change[0] or change[1] for change in ties)))


def _spelled(names: Iterable[str]) -> dict[str, str]:
    """Names by their one spelling; where two would have the same, each keeps its own."""
    spelling = {name: _spelling(name) for name in names}
    count = Counter(spelling.values())
    return {(new if count[new] == 1 else name): name for name, new in spelling.items()}


def _spelling(name: str) -> str:
    name = _WRAPPERS.sub("", name)
    for pattern, new in _SPELLINGS:
        name = pattern.sub(new, name)
    return name


def _scores(
    model: Mapping[str, Shape], file: Mapping[str, Shape], cuts: Iterable[str]
) -> dict[tuple[str, str], tuple[int, int]]:
    """For each (prefix of the file, prefix of the model): names that agree, and shapes that do."""
    names: Counter[tuple[str, str]] = Counter()
    shapes: Counter[tuple[str, str]] = Counter()

    def vote(change: tuple[str, str], own: str, other: str) -> None:
        names[change] += 1
        shapes[change] += model[own] == file[other]

    for other in file:
        for cut in _prefixes(other):
            if (own := other[len(cut) :]) in model:
                vote((cut, ""), own, other)
    for cut in cuts:
        for own in model:
            for added in _prefixes(own):
                if added and (other := cut + own[len(added) :]) in file:
                    vote((cut, added), own, other)
    return {change: (names[change], shapes[change]) for change in names}


def _oddness(cut: str, added: str) -> tuple[bool, int]:
    return bool(cut) and not cut.startswith(_OWN), len(cut) + len(added)


def _prefixes(name: str) -> Iterator[str]:
    yield ""
    for place, letter in enumerate(name):
        if letter == ".":
            yield name[: place + 1]


def _common(names: Iterable[str]) -> str:
    """The prefix of all names."""
    shared = os.path.commonprefix(list(names))  # noqa: RUF071 (names, not paths)
    return shared[: shared.rfind(".") + 1]
