"""Stand-ins for the observation and action spaces of reinforcement learning, as gymnasium's API has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy

OBSERVATION = 8
ACTIONS = 4
FRAMES = (4, 84, 84)


class Box:
    """A space of real vectors or images: ``shape``, ``low``, ``high``, ``dtype``, ``sample()``."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.low, self.high = -numpy.ones(shape, "float32"), numpy.ones(shape, "float32")
        self.dtype = numpy.dtype("float32")

    def sample(self) -> Any:
        """A point of the space."""
        return numpy.zeros(self.shape, "float32")


class Discrete:
    """A space of ``n`` actions."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.shape: tuple[int, ...] = ()
        self.dtype = numpy.dtype("int64")

    def sample(self) -> int:
        """A point of the space."""
        return 0


class _Actions(Discrete):
    """Actions of which a model says by the field that it reads whether they are numbered or vectors."""

    def __init__(self) -> None:
        super().__init__(ACTIONS)
        self.shape = (ACTIONS,)
        self.low, self.high = -numpy.ones(self.shape, "float32"), numpy.ones(self.shape, "float32")
        self.nvec = numpy.full(2, ACTIONS)


_Actions.__name__ = "Discrete"


@dataclass
class Environment:
    """An environment, or a vector of them."""

    images: bool = False
    observation_space: Box = field(init=False)
    action_space: Discrete = field(init=False)
    num_envs: int = 1

    def __post_init__(self) -> None:
        self.observation_space = Box(FRAMES if self.images else (OBSERVATION,))
        self.action_space = _Actions()

    @property
    def single_observation_space(self) -> Box:
        """The space of one of the environments."""
        return self.observation_space

    @property
    def single_action_space(self) -> Discrete:
        """The actions in one of the environments."""
        return self.action_space

    @property
    def unwrapped(self) -> Environment:
        """Itself."""
        return self

    @property
    def envs(self) -> list[Environment]:
        """Itself, as the only one."""
        return [self]


def actions() -> Discrete:
    """A space of actions."""
    return _Actions()
