"""A model that can be built: where it comes from, how it is constructed afresh, and what building it gave."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import nn

from stablelint.errors import BuildTargetError, InputTargetError, TargetError
from stablelint.inputs import Inputs
from stablelint.targets.arguments.plan import Plan
from stablelint.targets.discover import Found
from stablelint.targets.downloads import initial_weights
from stablelint.targets.evidence.reader import Reader
from stablelint.targets.imports.placeholder import Reason, marker, touched
from stablelint.targets.inputs import Loss, Maker, input_seed
from stablelint.targets.library import LibraryModel
from stablelint.targets.lightning import network
from stablelint.targets.loading import entered, sentence
from stablelint.targets.methods import through

if TYPE_CHECKING:
    from stablelint.trace import Origins


@dataclass
class Built:
    """A model with its inputs; ``rebuild(seed)`` gives a fresh model and fresh inputs.

    The weights of a model that need not be run may be on meta, never allocated: ``origins.provenance`` then knows
    their distributions. ``rebuild`` always allocates. With a checkpoint it gives the same model and only fresh inputs.
    ``loss`` is the user's, None without one. ``models`` are the classes that the model stands for; ``plan`` is the call
    that made it where its arguments had to be looked for, ``tried`` what was tried before. ``released`` says that it
    is meant to have weights which are not there. ``allocated`` builds it again, with memory for its weights.
    """

    name: str
    model: nn.Module
    inputs: Inputs
    origins: Origins | None
    remarks: tuple[str, ...]
    rebuild: Callable[[int], tuple[nn.Module, Inputs]]
    loss: Loss | None = None
    models: tuple[str, ...] = ()
    plan: Plan | None = None
    tried: tuple[str, ...] = ()
    main: bool = True
    checked: bool = False
    released: bool = False
    allocated: Callable[[], Built] | None = None


@dataclass
class Candidate:
    """A model that can be built; ``build`` raises BuildTargetError or InputTargetError.

    ``changed`` gives another candidate of the same place, with other fields of its source: ``found``, ``name``, or
    ``virtual``, which leaves the weights of any model on meta, or allocates them (False; None leaves those of a
    user's file on meta as far as its build allows that). ``library`` is None for a model of the user's. ``main``
    says that people would call it a model of the file, not a part or a helper.
    """

    name: str
    build: Callable[[], Built]
    found: Found
    library: LibraryModel | None
    changed: Callable[..., Candidate]
    main: bool = True


@dataclass
class Source:
    """Where a candidate comes from, and whether it has the file for itself."""

    name: str
    found: Found
    module: ModuleType | None
    imported: Origins | None
    folders: tuple[Path, ...] = field(default_factory=entered)
    shared: bool = False
    real: bool = False
    virtual: bool | None = None
    checkpoint: Path | None = None
    library: LibraryModel | None = None
    first: First | TargetError | None = field(default=None, repr=False)
    main: bool = True
    reader: Reader | None = field(default=None, repr=False)
    absent: list[str] = field(default_factory=list)
    touched: dict[Reason, None] = field(default_factory=dict, repr=False)


#: A model, what was observed at its building, and what to say about it.
First = tuple[nn.Module, "Origins | None", tuple[str, ...]]


def construct(
    source: Source, seed: int, *, observe: bool = True, allocate: bool = True, most: int | None = None
) -> tuple[nn.Module, Origins | None]:
    """A fresh model and what was observed at its building; without ``observe`` an instance is copied."""
    found = source.found
    seed_everything(seed)
    since = marker()
    with sentence(BuildTargetError, "while the model is built", source.name):
        if found.kind == "instance":
            return (found.value if observe else copy.deepcopy(found.value)), source.imported
        watching = observed(source.imported, allocate=allocate, most=most) if observe else nullcontext()
        with initial_weights() as absent, watching as origins:
            model = found.make()
    if not isinstance(model, nn.Module):
        raise BuildTargetError(f"{source.name} returns a {type(model).__name__}, not an nn.Module")
    source.absent = absent
    source.touched.update(dict.fromkeys(touched(since)))
    return through(network(model)), origins


def made_inputs(source: Source, maker: Maker, seed: int, model: nn.Module) -> Inputs:
    """Inputs of a seed for an instance; raises InputTargetError for what the user's code raises."""
    seed = input_seed(seed, model)
    seed_everything(seed)
    with sentence(InputTargetError, "while example inputs are made", source.name):
        return maker(seed, model)


def materialise(model: nn.Module, inputs: Inputs) -> None:
    """Give lazy layers their shapes by one real pass."""
    if any(isinstance(each, nn.UninitializedParameter) for each in model.parameters()):
        with torch.no_grad(), sentence(InputTargetError, "in its forward pass", "the model"):
            model(*inputs.args, **inputs.kwargs)


def seed_everything(seed: int) -> None:
    """Seed torch, Python's random and numpy's global generator."""
    torch.manual_seed(seed)
    random.seed(seed)
    try:
        import numpy
    except ImportError:
        return
    numpy.random.seed(seed % 2**32)


def observed(
    origins: Origins | None, *, allocate: bool = True, most: int | None = None
) -> AbstractContextManager[Origins]:
    """Watch what a build does; see :func:`stablelint.trace.observe_build`."""
    from stablelint.trace import observe_build

    return observe_build(origins, allocate=allocate, most=most)
