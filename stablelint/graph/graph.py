"""The read-only view of a trace that causes are found in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from stablelint.graph.attentions import Attention, find_attentions
from stablelint.graph.calls import ModuleCall, find_calls
from stablelint.graph.chains import Chain, Layer, Run, find_layers, find_squashing_chains, find_unscaled_runs
from stablelint.graph.choices import find_varying
from stablelint.graph.cuts import Cut, find_cuts, find_readers, find_sleepers
from stablelint.graph.families import CONTRACTIONS, NORMS, RESHAPES, WEIGHTED
from stablelint.graph.flow import Flow, find_flow
from stablelint.graph.norms import Norm, find_norms
from stablelint.graph.op import Op, Parameter
from stablelint.graph.repeats import Repeat, find_places, find_repeats
from stablelint.graph.residuals import Residual, find_residuals
from stablelint.graph.squashed import GivenLoss, Squashed, find_squashed
from stablelint.graph.unwritten import find_unwritten


@dataclass(frozen=True, eq=False)
class Graph:
    """Recorded ops in execution order; ``ops[i].index == i``.

    Dead values are kept: a skip that was computed and never added must be seen. ``outputs`` are the indices of
    the tensors that the model returned, ``parameters`` all parameters and buffers by name, also unused ones.
    ``training`` is the mode that the model was in. ``loss`` holds the ops of the loss that the user gave, where there
    is one.
    """

    ops: tuple[Op, ...]
    outputs: tuple[int, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    training: bool = True
    loss: GivenLoss | None = None

    def __iter__(self) -> Iterator[Op]:
        return iter(self.ops)

    def __len__(self) -> int:
        return len(self.ops)

    @cached_property
    def _users(self) -> dict[int, tuple[int, ...]]:
        users: dict[int, list[int]] = defaultdict(list)
        for op in self.ops:
            for source in dict.fromkeys(op.inputs):
                users[source].append(op.index)
        return {index: tuple(found) for index, found in users.items()}

    def users(self, op: Op) -> tuple[Op, ...]:
        """The ops that read ``op``, in execution order."""
        return tuple(self.ops[index] for index in self._users.get(op.index, ()))

    def inputs(self, op: Op) -> tuple[Op, ...]:
        """The tensor operands of ``op``."""
        return tuple(self.ops[index] for index in op.inputs)

    @cached_property
    def flow(self) -> Flow:
        """The signal ops, the trunk and its blocks."""
        return find_flow(self)

    @cached_property
    def head(self) -> int | None:
        """The trunk op whose gradient counts as 1: the output, or before a loss inside the model its last layer.

        Behind the last layer a loss is formed (logits are stacked, compared, summed), and the size of what it is
        made of says nothing about the network.
        """
        if self.flow.sink is None:
            return None
        trunk = [index for index in self.flow.trunk if self.ops[index].numel > 1]
        if self.ops[self.flow.sink].shape == ():
            trunk = [index for index in trunk if self.weighted(self.ops[index])] or trunk
        return trunk[-1] if trunk else None

    @cached_property
    def _from_data(self) -> frozenset[int]:
        found: set[int] = set()
        for op in self.ops:
            if op.name == "input" or any(index in found for index in op.inputs):
                found.add(op.index)
        return frozenset(found)

    @cached_property
    def _from_parameters(self) -> frozenset[int]:
        found: set[int] = set()
        for op in self.ops:
            trained = op.parameter is not None and not op.parameter.buffer
            if trained or any(index in found for index in op.inputs):
                found.add(op.index)
        return frozenset(found)

    def is_data(self, op: Op) -> bool:
        """Whether ``op`` depends on an input of the model."""
        return op.index in self._from_data

    def from_parameters(self, op: Op) -> bool:
        """Whether ``op`` depends on a parameter (buffers do not count)."""
        return op.index in self._from_parameters

    def data_inputs(self, op: Op) -> tuple[Op, ...]:
        """The floating operands of ``op`` that depend on an input of the model and on no mask alone."""
        operands = tuple(source for source in self.inputs(op) if source.floating and self.is_data(source))
        carrying = tuple(source for source in operands if source.index in self.flow.signal)
        return carrying or operands

    def muted(self, op: Op) -> bool:
        """Whether ``op`` multiplies by parameters that are all zero: a zero-initialised layer, gain or gate."""
        if not self.weighted(op) and op.name not in {"mul", *NORMS}:
            return False
        if op.name in NORMS:
            position = op.attrs.get("operands", {}).get("weight")
            factors = [self.ops[op.inputs[position]]] if isinstance(position, int) else []
        else:
            factors = [source for source in self.inputs(op) if not self.is_data(source)]
        weights = [self.behind_reshapes(factor).parameter for factor in factors]
        trained = [weight for weight in weights if weight is not None and not weight.buffer]
        if op.name == "linear" or op.name.startswith("conv"):
            trained = [weight for weight in trained if len(weight.shape) > 1]
        return bool(trained) and any(weight.rms == 0 for weight in trained)

    def behind_reshapes(self, op: Op) -> Op:
        """The op whose values ``op`` only moves or copies."""
        while op.name in RESHAPES and op.inputs:
            op = self.ops[op.inputs[0]]
        return op

    def weighted(self, op: Op) -> bool:
        """Whether ``op`` multiplies the signal by trained weights, also spelled ``x @ self.weight``."""
        if op.name in WEIGHTED:
            return True
        return op.name in CONTRACTIONS and any(
            index in self._from_parameters and index not in self._from_data for index in op.inputs
        )

    @cached_property
    def _residuals(self) -> tuple[Residual, ...]:
        return find_residuals(self)

    def residuals(self) -> tuple[Residual, ...]:
        """All residual additions on the signal path, in execution order."""
        return self._residuals

    @cached_property
    def norms(self) -> dict[int, Norm]:
        """All normalisations, also hand-written ones, by the index of the op that yields the result."""
        return find_norms(self)

    @cached_property
    def _attentions(self) -> tuple[Attention, ...]:
        return find_attentions(self)

    def attentions(self) -> tuple[Attention, ...]:
        """All attentions in execution order."""
        return self._attentions

    @cached_property
    def layers(self) -> Mapping[int, Layer]:
        """The weighted ops of the signal path with their weights, by op index."""
        return find_layers(self)

    def squashing_chains(self) -> tuple[Chain, ...]:
        """Squashing activations in a row that the gradient cannot avoid, worst first."""
        return find_squashing_chains(self, self.layers)

    def unscaled_runs(self) -> tuple[Run, ...]:
        """Weighted layers in a row that no norm rescales and no skip bypasses."""
        return find_unscaled_runs(self, self.layers)

    @cached_property
    def varying(self) -> frozenset[int]:
        """The ops whose values depend on data or chance."""
        return find_varying(self)

    @cached_property
    def unwritten(self) -> Mapping[str, tuple[Op, ...]]:
        """Parameters that were never given values, by name, with the ops that read them."""
        return find_unwritten(self)

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """The ops that keep the gradient from trainable parameters on every way from an output."""
        return find_cuts(self)

    @cached_property
    def readers(self) -> Mapping[str, tuple[int, ...]]:
        """By trainable parameter: the ops at which it first meets the data on its way to an output; none if unused."""
        return find_readers(self)

    @cached_property
    def sleepers(self) -> Mapping[str, tuple[str, ...]]:
        """By trainable parameter: the all-zero trainable factors that stand between it and an output."""
        return find_sleepers(self)

    @cached_property
    def squashed(self) -> tuple[Squashed, ...]:
        """Bounded values that a loss takes for logits."""
        return find_squashed(self)

    @cached_property
    def calls(self) -> ModuleCall:
        """The tree of module calls."""
        return find_calls(self)

    @cached_property
    def repeats(self) -> tuple[Repeat, ...]:
        """Blocks of one structure in a row and steps of one block in time, outer ones first."""
        return find_repeats(self)

    @cached_property
    def places(self) -> Mapping[int, str]:
        """Which of the repeated blocks or steps an op belongs to, as in "block 7 of 24"; by op index."""
        return find_places(self.repeats)
