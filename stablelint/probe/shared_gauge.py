"""The instrument of one pass in one of many processes: it keeps what only all of them together can read."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from stablelint.probe.gauge import Gauge, Reading, readable
from stablelint.probe.layout import Axes, Layout, Piece, sample
from stablelint.trace.shards import own, summed_once


@dataclass
class SharedGauge(Gauge):
    """A gauge that reads means of its own process and keeps ``samples`` of up to ``room`` elements for the rest."""

    room: int = 0
    samples: dict[int, torch.Tensor] = field(default_factory=dict)
    steps: dict[int, list[float]] = field(default_factory=dict)
    pieces: dict[int, Piece] = field(default_factory=dict)
    layouts: dict[int, Layout] = field(default_factory=dict)
    _axes: Axes = field(default_factory=Axes)
    _along: dict[int, int | None] = field(default_factory=dict)
    _handed: dict[int, torch.Tensor] = field(default_factory=dict)
    _later: dict[int, tuple[int, str, tuple[torch.Tensor, ...]]] = field(default_factory=dict)

    def __call__(
        self, index: int, name: str, module: str, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        """Read one op's output, now or when its layer has summed it over the processes."""
        if readable(name, output) and summed_once(output):
            self._later[id(output)] = index, name, inputs
        else:
            super().__call__(index, name, module, inputs, output)

    def moved(self, before: torch.Tensor, after: torch.Tensor) -> None:
        """A layer hands on in another layout what it holds; the recorder keeps both alive."""
        self._axes.moved(before, after)
        self._handed[id(before)] = after
        if id(before) in self._later:
            self._read(*self._later.pop(id(before)), after)

    def handed_on(self, index: int) -> torch.Tensor | None:
        """An op's output in the layout that its module hands on, to which ``fully_shard`` listens; forgets others."""
        found = self.outputs.get(index)
        while id(found) in self._handed:
            found = self._handed.pop(id(found))
        self._handed.clear()
        return found

    def _read(self, index: int, name: str, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self._along[index] = self._axes.of(output, inputs)
        super()._read(index, name, inputs, output)

    def _forward(self, reading: Reading, name: str, inputs: tuple[torch.Tensor, ...], value: torch.Tensor) -> None:
        super()._forward(reading, name, inputs, value)
        self.pieces[reading.index] = Piece.of(value, self._along[reading.index])

    def _values(self, tensor: torch.Tensor) -> torch.Tensor:
        return own(tensor)

    def look(self, reading: Reading, value: torch.Tensor, batch: int | None) -> None:  # noqa: ARG002 (its own batch)
        """Keep a sample for all processes to look at."""
        self.samples[reading.index] = sample(value, self.room)

    def look_at_gradient(self, reading: Reading, grad: torch.Tensor) -> None:
        """The same of the gradient."""
        self.samples[reading.index] = sample(grad, self.room)

    def look_at_steps(self, index: int, steps: list[float]) -> None:
        """Keep a recurrent op's gradient rms at each time step."""
        self.steps[index] = steps

    def forget_backward(self) -> None:
        """Drop what an earlier backward pass left."""
        super().forget_backward()
        self.samples.clear()
        self.steps.clear()
