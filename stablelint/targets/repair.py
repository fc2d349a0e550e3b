"""From the way in which a forward pass failed to the next proposals: sizes, numbers of axes and kinds of tensor."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator

from torch import nn

from stablelint.targets.attempt import Outcome
from stablelint.targets.guess import LENGTH, Guess, Proposal
from stablelint.targets.layers import SIDES, classes, entry, image, image_batch, scaled_sides, wanted_width
from stablelint.targets.proposals import value_for
from stablelint.targets.repair_said import said

_WANTS_IDS = re.compile(
    r"indices.*(Long|Int)|must be (long|int|byte)|tensors used as indices|Expected.*Long|to be Long", re.I
)
_WANTS_LABELS = re.compile(r"multi-target|1D target|class indices|target.*(Long|int)", re.I)
_WANTS_FLOAT = re.compile(
    r"not implemented for '(Long|Int|Bool)'|same dtype|expected scalar type (Float|Half|Double)|Input type|"
    r"expected .* dtype.* (float|c10)|floating point|found Long|Long (did not|!=)|must be floating|to be a floating",
    re.I,
)
# (got, wanted) by the order of the groups named g and w.
_SIZES = (
    r"\(\d+x(?P<g>\d+) and (?P<w>\d+)x\d+\)",
    r"same reduction dim, but got \[(?:\d+, )*(?P<g>\d+)\] X \[(?P<w>\d+),",
    r"to have (?P<w>\d+) channels, but got (?P<g>\d+)",
    r"[Ee]xpected (?P<w>\d+),? (?:but )?got (?P<g>\d+)",
    r"dimension of (?P<w>\d+), but got (?P<g>\d+)",
    r"normalized_shape=\[(?:\d+, )*(?P<w>\d+)\].*size ?\[(?:\d+, )*(?P<g>\d+)\]",
    r"should contain (?P<g>\d+) elements not (?P<w>\d+)",
    r"\((?P<g>\d+)\) doesn't match model \((?P<w>\d+)",
    r"tensor a \((?P<g>\d+)\) must match the size of tensor b \((?P<w>\d+)\)",
    r"tensor a \((?P<w>\d+)\) must match the size of tensor b \((?P<g>\d+)\)",
    r"Expected size (?P<w>\d+) but got size (?P<g>\d+)",
    r"Attempting to broadcast a dimension of length (?P<g>\d+).*?(?P<w>\d+)",
)
_MORE_AXES = re.compile(
    r"Dimension out of range|too many indices|tuple index out of range|list index out of range|"
    r"not enough values to unpack|Expected \dD|must be (batched|\dD|3-D)|number of dimensions in the tensor input",
    re.I,
)

_TOO_SMALL = re.compile(
    r"greater than actual input size|[Oo]utput size is too small|too small|more than 1 (value|spatial)"
)


def repairs(proposal: Proposal, outcome: Outcome, model: nn.Module) -> list[Proposal]:
    """Proposals that avoid the failure, likeliest first, without repetitions."""
    found: list[Proposal] = []
    if not proposal.items():
        return found
    text = " ".join(str(outcome.error).split())
    for source in (
        _missing(proposal, text, model),
        _absent(proposal, outcome, text, model),
        said(proposal, outcome, text, model),
        _kinds(proposal, outcome, text, model),
        _layer(proposal, outcome, model),
        _larger(proposal, text),
        _sizes(proposal, text),
        _elements(proposal, text),
        _axes(proposal, outcome, text, model),
        _any_numbers(proposal, text),
    ):
        found += source
    names = [name for name, _ in proposal.items()]
    blamed = {names[each] for each in outcome.blame.inputs if each < len(names)}
    if blamed:  # a stable order: what changes an argument on the failing line is first
        before = dict(proposal.items())
        found.sort(
            key=lambda each: len(each.items()) == len(before) and not any(each[name] != before[name] for name in blamed)
        )
    agreeing = [_same_batch(proposal, each) for each in found]
    return [each for each in dict.fromkeys(agreeing) if each != proposal][:10]


def shorter(proposal: Proposal, outcome: Outcome) -> Proposal | None:
    """For a sequence that is longer than a table of positions: the same one, no longer than the table."""
    if not proposal.items():
        return None
    main = proposal[proposal.main]
    too_small = [size for size, length in outcome.tables if len(main.shape) > 1 and size < length == main.shape[1]]
    if not too_small:
        return None
    return _replaced(proposal, main.shape[1], min(too_small))


def _replaced(proposal: Proposal, got: int, wanted: int) -> Proposal | None:
    """Every argument with an axis (not the first) of size ``got`` gets ``wanted`` there; None when none has one."""
    changes = {}
    for name, guess in proposal.items():
        axes = [axis for axis in range(1, len(guess.shape)) if guess.shape[axis] == got]
        if len(guess.shape) == 4 and guess.shape[2] == guess.shape[3] == got:
            changes[name] = Guess(guess.kind, (image_batch(wanted), guess.shape[1], wanted, wanted), guess.high)
        elif axes:
            changes[name] = guess.resized(axes[-1], wanted)
    return proposal.changed(changes) if changes and wanted > 0 else None


def _same_batch(before: Proposal, after: Proposal) -> Proposal:
    """When the main argument got another number of samples, arguments that had the same number follow."""
    name = before.main
    old, new = before[name].shape[:1], after[name].shape[:1]
    if old == new or not old or not new:
        return after
    behind = {each: guess.rebatched(old[0], new[0]) for each, guess in after.items() if each != name}
    return after.changed(behind)


def _options(proposal: Proposal | None) -> list[Proposal]:
    return [] if proposal is None else [proposal]


def _missing(proposal: Proposal, text: str, model: nn.Module) -> Iterator[Proposal]:
    """An optional argument that the model names in its complaint."""
    known = {name for name, _ in proposal.items()}
    parameters = inspect.signature(model.forward).parameters
    asked = re.search(r"missing \d+ required (?:keyword-only|positional) arguments?: (.+)", text)
    if asked is not None and any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        names = [each for each in re.findall(r"'(\w+)'", asked[1]) if each not in known]
        if names:  # of a function that **kwargs are handed on to
            yield proposal.changed({name: value_for(name, proposal[proposal.main], model) for name in names})
    for name in parameters:
        if name not in known and len(name) > 2 and re.search(rf"\b{name}\b", text):
            main = proposal[proposal.main]
            yield proposal.changed({name: value_for(name, main, model)})


def _absent(proposal: Proposal, outcome: Outcome, text: str, model: nn.Module) -> Iterator[Proposal]:
    """An optional argument that a layer was fed with although it was left out: the one with a name like the layer's."""
    if "NoneType" not in text or outcome.module is None:
        return
    known, main = {name for name, _ in proposal.items()}, proposal[proposal.main]
    path = next((path for path, each in model.named_modules() if each is outcome.module), "")
    own = [each for each in re.split(r"[._\d]+", path.lower()) if len(each) > 2]
    names = [name for name, each in inspect.signature(model.forward).parameters.items() if each.default is None]
    for name in names:
        words = [each for each in name.lower().split("_") if len(each) > 2]
        alike = any(word.startswith(part) or part.startswith(word) for word in words for part in own)
        if name not in known and alike:
            width = wanted_width(outcome.module)
            axes = main.shape[:-1] if main.floating and len(main.shape) > 1 else main.shape
            if isinstance(outcome.module, nn.Embedding):
                yield proposal.changed({name: Guess("ids", axes, outcome.module.num_embeddings)})
            elif width is not None:
                yield proposal.changed({name: Guess("normal", (*axes, width))})


def _kinds(proposal: Proposal, outcome: Outcome, text: str, model: nn.Module) -> Iterator[Proposal]:
    """Integers for floats, or the other way."""
    names = [name for name, _ in proposal.items()]
    fed = names[outcome.fed] if outcome.fed is not None and outcome.fed < len(names) else None
    if "NoneType" in text:
        return
    if _WANTS_IDS.search(text) or isinstance(outcome.module, nn.Embedding):
        high = outcome.module.num_embeddings if isinstance(outcome.module, nn.Embedding) else 2
        for name, guess in proposal.items():
            if guess.floating and fed in (None, name):
                shape = guess.shape if len(guess.shape) < 3 else guess.shape[:2]
                yield proposal.changed({name: Guess("ids", shape, high)})
                yield proposal.changed({name: Guess("ids", shape[:1], high)})
    if _WANTS_LABELS.search(text):
        for name, guess in proposal.items():
            if name != proposal.main and guess.shape:
                yield proposal.changed({name: Guess("ids", guess.shape[:1], classes(model))})
    if _WANTS_FLOAT.search(text):
        for name, guess in proposal.items():
            if guess.kind in ("ids", "ones_long", "false") and fed in (None, name):
                yield proposal.changed({name: Guess("normal", guess.shape)})


def _layer(proposal: Proposal, outcome: Outcome, model: nn.Module) -> Iterator[Proposal]:
    """The layer that failed says what it wants."""
    if outcome.module is None or outcome.shape is None:
        return
    wanted = wanted_width(outcome.module)
    if wanted is None:
        return
    names = [name for name, _ in proposal.items()]
    if outcome.fed is not None and outcome.fed < len(names):  # our tensor itself reached it
        for guess in entry(outcome.module, model)[:4]:
            yield proposal.changed({names[outcome.fed]: guess})
    if isinstance(outcome.module, nn.Conv1d | nn.Conv2d) and len(outcome.shape) > len(outcome.module.kernel_size) + 2:
        main = proposal[proposal.main]  # the model adds the axis of channels itself
        yield proposal.changed({proposal.main: Guess(main.kind, (main.shape[0], *main.shape[2:]), main.high)})
    channel = 1 if isinstance(outcome.module, nn.modules.conv._ConvNd | nn.modules.batchnorm._BatchNorm) else -1
    if len(outcome.shape) >= abs(channel) + (channel > 0):
        got = outcome.shape[channel]
        yield from _options(_replaced(proposal, got, wanted))
        yield from _concatenated(proposal, got, wanted)
        yield from _flattened(proposal, got, wanted)


def _concatenated(proposal: Proposal, got: int, wanted: int) -> Iterator[Proposal]:
    """A layer behind a concatenation with something of fixed size: the difference is the input's."""
    for name, guess in proposal.items():
        if guess.floating and len(guess.shape) in (2, 3) and guess.shape[-1] + wanted - got > 0:
            yield proposal.changed({name: guess.resized(-1, guess.shape[-1] + wanted - got)})


def _flattened(proposal: Proposal, got: int, wanted: int) -> Iterator[Proposal]:
    """A layer behind a flatten: scale the axes that were flattened into ``got``."""
    name = proposal.main
    guess = proposal[name]
    if len(guess.shape) == 4:
        alike = [each for each, other in proposal.items() if other == guess]
        for side in scaled_sides(guess.shape[2], got, wanted):
            yield proposal.changed(dict.fromkeys(alike, image(guess.shape[1], side)))
    elif len(guess.shape) in (2, 3) and guess.floating:
        for axis in range(len(guess.shape) - 1, 0, -1):
            scaled = guess.shape[axis] * wanted / got
            if scaled >= 1 and scaled == int(scaled):
                yield proposal.changed({name: guess.resized(axis, int(scaled))})
        if len(guess.shape) == 3:
            yield proposal.changed({name: guess.resized(2, max(1, round(guess.shape[2] * wanted / got)))})
    elif guess.kind == "ids" and len(guess.shape) == 2 and wanted * guess.shape[1] % got == 0:
        yield from _options(_replaced(proposal, guess.shape[1], wanted * guess.shape[1] // got))


def _sizes(proposal: Proposal, text: str) -> Iterator[Proposal]:
    for pattern in _SIZES:
        match = re.search(pattern, text)
        if match is None:
            continue
        got, wanted = int(match["g"]), int(match["w"])
        better = _replaced(proposal, got, wanted)
        if better is not None:
            yield better
        elif got > 1 and wanted > 1:
            yield from _flattened(proposal, got, wanted)


def _larger(proposal: Proposal, text: str) -> Iterator[Proposal]:
    """Layers that shrink an image to nothing want a larger one."""
    guess = proposal[proposal.main]
    if len(guess.shape) == 4 and _TOO_SMALL.search(text):
        alike = [name for name, other in proposal.items() if other == guess]
        for side in sorted(each for each in SIDES if each > guess.shape[-1])[:3]:
            yield proposal.changed(dict.fromkeys(alike, image(guess.shape[1], side)))


def _elements(proposal: Proposal, text: str) -> Iterator[Proposal]:
    """``shape '[8, 1, 28, 28]' is invalid for input of size 192``: give it the number of elements."""
    match = re.search(r"shape '\[([-\d, ]+)\]' is invalid for input of size (\d+)", text)
    if match is None:
        return
    target, size = [int(each) for each in match[1].split(",")], int(match[2])
    wanted = math.prod(each for each in target if each > 0)
    name = proposal.main
    guess = proposal[name]
    batch = guess.shape[0]
    if -1 not in target and target[0] == batch and math.prod(guess.shape) == size:
        yield proposal.changed({name: Guess(guess.kind, tuple(target), guess.high)})
        yield proposal.changed({name: Guess(guess.kind, (batch, wanted // batch), guess.high)})
    elif -1 in target and math.prod(guess.shape) == size:
        per_sample = wanted // batch if target[0] == batch else wanted
        yield proposal.changed({name: Guess(guess.kind, (batch, max(1, per_sample)), guess.high)})
    if len(guess.shape) > 1 and size % batch == 0:
        per_sample = wanted // batch if target[0] == batch else wanted
        yield from _flattened(proposal, size // batch, per_sample)


def _axes(proposal: Proposal, outcome: Outcome, text: str, model: nn.Module) -> Iterator[Proposal]:
    """Another number of axes."""
    unpack = re.search(r"values to unpack \(expected (\d+)", text)
    axes = re.search(r"input\.dim\(\) = \d+ is not equal to len\(dims\) = (\d+)", text)
    equation = re.search(r"subscripts in the equation \((\d+)\)", text)
    names = [name for name, _ in proposal.items()]
    inputs = [names[each] for each in outcome.blame.inputs if each < len(names)]
    name = next((each for each in inputs if proposal[each].shape), proposal.main)
    guess = proposal[name]
    three = re.search(
        r"must be an? (\d)-?D (?:tensor|matri)|expected (\d) dims|Expected (\d)D|expects? an? (\d)-?D", text
    )
    wanted = next((int(match[1]) for match in (unpack, axes, equation) if match), None)
    if wanted is None and three is not None:
        wanted = int(next(each for each in three.groups() if each))
    if wanted is None and _MORE_AXES.search(text):
        wanted = len(guess.shape) + 1
    if wanted is None or wanted == len(guess.shape) or not guess.floating:
        if wanted is not None and guess.kind == "ids" and 1 <= wanted <= 2:
            yield proposal.changed({name: Guess("ids", (guess.shape[0], LENGTH)[:wanted], guess.high)})
        return
    width = guess.shape[1] if len(guess.shape) == 4 else guess.shape[-1]
    batch = guess.shape[0]
    channels = next((each.in_channels for each in model.modules() if isinstance(each, nn.Conv2d)), 3)
    shapes: dict[int, list[tuple[int, ...]]] = {
        1: [(batch,)],
        2: [(batch, width)],
        3: [(batch, LENGTH, width), (batch, width, LENGTH)],
        4: [image(channels, 32).shape, (batch, LENGTH, 4, width)],
        5: [(2, channels, 8, 32, 32), (2, 8, channels, 32, 32), (2, width, 4, 16, 16)],
    }
    if re.fullmatch(r"q|k|v|quer(y|ies)|keys?|values?", name) and wanted == 4:
        shapes[4].reverse()
    alike = [each for each, other in proposal.items() if other == guess]
    for shape in shapes.get(wanted, ()):
        yield proposal.changed(dict.fromkeys(alike, Guess("normal", shape)))
        if len(alike) > 1:
            yield proposal.changed({name: Guess("normal", shape)})


def _any_numbers(proposal: Proposal, text: str) -> Iterator[Proposal]:
    """A message that we do not know: an own size in it may have to become another number in it."""
    numbers = list(dict.fromkeys(int(each) for each in re.findall(r"(?<![\w.])\d{1,4}(?![\w.])", text)))
    for got in numbers[:6]:
        for wanted in numbers[:6]:
            if wanted != got and wanted > 1:
                yield from _options(_replaced(proposal, got, wanted))
