"""Values: what is known on fake tensors, what is guessed, and what stays apart in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from stablelint.inputs import Inputs
from stablelint.trace import trace


class Net(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("mask", torch.tensor([True, False, True, False]))
        self.function = function

    def forward(self, *args):
        return self.function(self, *args)


def graph_of(function, *args, fake=True):
    return trace(Net(function), Inputs(*args), fake=fake).graph


def find(graph, name):
    return [op for op in graph if op.name == name]


both = pytest.mark.parametrize("fake", [True, False], ids=["fake", "real"])


@both
def test_masks_lengths_and_constants_are_known(fake):
    """Everything computed from buffers, integer inputs and constants has its true value; activations do not."""

    def forward(net, x, lengths):
        keep = torch.arange(4)[None] < lengths[:, None]
        return net.layer(x) * keep * torch.tensor(0.5) * net.mask

    graph = graph_of(forward, torch.randn(2, 4), torch.tensor([1, 3]), fake=fake)
    assert find(graph, "lt")[0].known == [[True, False, False, False], [True, True, True, False]]
    assert find(graph, "tensor")[0].known == 0.5
    assert all(op.known is None for op in find(graph, "mul") + find(graph, "linear"))
    (buffer,) = (op for op in graph if op.parameter is not None and op.parameter.buffer)
    assert buffer.known == [True, False, True, False]


@both
def test_known_values_do_not_come_from_float_inputs(fake):
    """A float input is only an example: nothing computed from it is known, though its branches are decided by it."""

    def forward(net, x):
        return net.layer(x) if (x > 0).all() else x

    found = trace(Net(forward), Inputs(torch.ones(2, 4)), fake=fake)
    assert find(found.graph, "linear")
    assert found.remarks == ()
    assert all(op.known is None for op in found.graph)


@both
def test_known_value_follows_in_place_changes(fake):
    def forward(net, x):
        steps = torch.zeros(3)
        steps[1] = 5.0
        steps += 1
        view = steps[:2]
        view.mul_(2)
        return x + steps.sum()

    graph = graph_of(forward, torch.randn(2, 4), fake=fake)
    assert find(graph, "sum")[0].known == 2.0 + 12.0 + 1.0


@both
def test_value_is_forgotten_when_data_is_written_into_it(fake):
    def forward(net, x):
        total = torch.zeros(2)
        total[0] = x.sum()
        return total * 2

    assert find(graph_of(forward, torch.randn(2, 4), fake=fake), "mul")[0].known is None


def test_guessed_branch_is_marked_and_remarked():
    def forward(net, x):
        y = net.layer(x)
        return y.relu() if y.sum() > 0 else y

    found = trace(Net(forward), Inputs(torch.randn(2, 4)))
    (op,) = (op for op in found.graph if op.guessed)
    assert op.name == "item"
    (remark,) = found.remarks
    assert "test_trace_values.py" in remark
    assert "guessed" in remark


def test_real_run_decides_branches_and_guesses_nothing():
    def forward(net, x):
        y = net.layer(x).abs()
        return y.relu() if y.sum() > 0 else y

    found = trace(Net(forward), Inputs(torch.randn(2, 4)), fake=False)
    assert find(found.graph, "relu")
    assert find(found.graph, "item")
    assert found.remarks == ()


def test_stand_in_is_reused():
    """Two selections by one unknown mask have the same length."""

    def forward(net, x):
        y = net.layer(x)
        keep = y[:, 0] > 0
        return y[keep] + x[keep]

    assert len([op for op in graph_of(forward, torch.randn(6, 4)) if op.guessed]) == 2


def test_selection_by_a_known_mask_is_no_guess():
    found = trace(Net(lambda net, x: net.layer(x)[:, net.mask]), Inputs(torch.randn(2, 4)))
    assert found.graph.ops[-1].shape == (2, 2)
    assert found.remarks == ()


def test_numpy_escape():
    def forward(net, x):
        best = net.layer(x).detach().numpy().argmax(-1)
        return x.gather(1, torch.from_numpy(np.asarray(best))[:, None])

    found = trace(Net(forward), Inputs(torch.randn(2, 4)))
    assert "numpy" in [op.name for op in found.graph if op.guessed]
    assert find(found.graph, "gather")


@both
def test_packed_sequences(fake):
    """Packing by known lengths is traced without a guess, and the recurrent op is seen."""

    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(3, 5, batch_first=True)

        def forward(self, x, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]

    found = trace(Packed(), Inputs(torch.randn(2, 6, 3), torch.tensor([4, 6])), fake=fake)
    (op,) = find(found.graph, "lstm")
    assert len(op.attrs["operands"]["weights"]) == 4
    assert found.remarks == ()
    assert op.live


# ---- in-place ops and views


@both
def test_reader_after_a_write_reads_the_written_op(fake):
    def forward(net, x):
        y = net.layer(x)
        y += 1
        y.mul_(2)
        return y.relu()

    graph = graph_of(forward, torch.randn(2, 4), fake=fake)
    relu = graph.ops[-1]
    (mul,) = graph.inputs(relu)
    (add,) = graph.inputs(mul)
    assert (mul.name, mul.inplace, add.name, add.inplace) == ("mul", True, "add", True)


@both
def test_base_sees_a_write_through_its_view(fake):
    def forward(net, x):
        y = net.layer(x)
        y[:, :2].mul_(2)
        return y.relu()

    graph = graph_of(forward, torch.randn(2, 4), fake=fake)
    (update,) = graph.inputs(graph.ops[-1])
    assert update.name == "setitem"
    assert [op.name for op in graph.inputs(update)] == ["linear", "mul"]


@both
def test_disjoint_chunks_are_kept_apart(fake):
    """Scaling q in place leaves k, a chunk of the same memory, untouched."""

    def forward(net, x):
        y = net.layer(x)
        q, k = y[:, :2], y[:, 2:]
        q *= 0.5
        return q @ k.T

    graph = graph_of(forward, torch.randn(2, 4), fake=fake)
    left, right = graph.inputs(graph.ops[-1])
    assert (left.name, right.name) == ("mul", "transpose")
    assert graph.inputs(right)[0].name == "getitem"


@both
def test_out_argument_is_written(fake):
    def forward(net, x):
        y = torch.empty(2, 4)
        torch.tanh(x, out=y)
        return y + 1

    graph = graph_of(forward, torch.randn(2, 4), fake=fake)
    assert [op.name for op in graph.inputs(graph.ops[-1])] == ["tanh"]


@both
def test_unchanged_result_is_an_op_of_its_own(fake):
    """``x.contiguous()`` may return ``x`` itself; the skip must still start before it."""

    def forward(net, x):
        y = net.layer(x)
        return y.contiguous() + y

    graph = graph_of(forward, torch.randn(2, 4), fake=fake)
    assert [op.name for op in graph.inputs(graph.ops[-1])] == ["contiguous", "linear"]


@both
def test_dead_values_are_kept(fake):
    def forward(net, x):
        net.layer(x).tanh()
        return x.relu()

    graph = graph_of(forward, torch.randn(2, 4), fake=fake)
    assert {op.name: op.live for op in graph} == {
        "input": True,
        "parameter": False,
        "linear": False,
        "tanh": False,
        "relu": True,
    }


def test_unknown_repetitions_leave_each_element_once():
    """Not none: what follows would be empty, which no layer takes."""

    def forward(net, x):
        times = net.layer(x).sum(-1).abs().round().long()
        return net.layer(torch.repeat_interleave(x, times, dim=0))

    graph = graph_of(forward, torch.randn(6, 4))
    (repeated,) = find(graph, "repeat_interleave")
    assert repeated.shape == (6, 4)
    assert repeated.guessed


def test_known_repetitions_are_followed():
    graph = graph_of(lambda _, x, n: torch.repeat_interleave(x, n, dim=0), torch.randn(3, 4), torch.tensor([2, 0, 3]))
    (repeated,) = find(graph, "repeat_interleave")
    assert repeated.shape == (5, 4)
    assert not repeated.guessed


def test_a_parameter_that_is_normalised_under_no_grad_keeps_its_gradient() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                self.weight.copy_(self.weight / self.weight.norm(dim=1, keepdim=True))
            return x @ self.weight

    found = trace(Normed(), Inputs(torch.randn(4, 8))).graph
    (product,) = (op for op in found.ops if op.name == "matmul")
    names = {found.ops[index].name for index in product.inputs}
    assert "copy" not in names
    assert "parameter" in names
