"""Runs: the model and the process stay as they were, whatever happens; failures are one sentence."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from functional_module import Functional
from torch import nn

from stablelint.errors import TraceTargetError
from stablelint.inputs import Inputs
from stablelint.trace import trace

X = torch.randn(4, 4)


def cnn():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(), nn.Linear(144, 2)
    )


class Stateful(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.register_buffer("steps", torch.zeros(()))
        self.cache = []
        self.last = None

    def forward(self, x):
        self.steps += 1
        self.last = self.layer(x)
        self.cache.append(self.last)
        self.fresh = True
        return self.last


def test_fake_run_leaves_the_model_as_it_was():
    model = Stateful()
    before = {name: (id(tensor), tensor.clone()) for name, tensor in model.state_dict(keep_vars=True).items()}
    attributes = set(vars(model))
    trace(model, Inputs(X))
    for name, tensor in model.state_dict(keep_vars=True).items():
        assert id(tensor) == before[name][0]
        assert torch.equal(tensor, before[name][1])
        assert type(tensor) in (torch.Tensor, nn.Parameter)
    assert set(vars(model)) == attributes
    assert model.cache == []
    assert model.last is None


def watched():
    nn_hooks = nn.modules.module
    state = [nn.Module.__init__, nn.Module.__setstate__, nn.Module._apply, torch.autograd.Function.__dict__["apply"]]
    state += [torch._C.ScriptFunction.__call__, F.multi_head_attention_forward, F.has_torch_function]
    state += [len(nn_hooks._global_forward_hooks), len(nn_hooks._global_forward_pre_hooks)]
    return [*state, len(torch.overrides._get_current_function_mode_stack())]


def test_no_patch_outlives_a_run():
    before = watched()
    trace(Stateful(), Inputs(X))
    assert watched() == before
    with pytest.raises(TraceTargetError):
        trace(Stateful(), Inputs(torch.randn(3, 7)))
    assert watched() == before


def test_random_generators_are_left_alone():
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    trace(Functional(lambda net, x: F.dropout(x) * random.random() * np.random.rand()), Inputs(X))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()


def test_interrupt_leaves_nothing_behind():
    before = watched()
    model = Stateful()
    model.layer.register_forward_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        trace(model, Inputs(X))
    assert watched() == before
    assert type(model.layer[0].weight.data) is torch.Tensor


# ---- what goes wrong


def test_error_names_the_line_and_the_exception():
    def forward(net, x):
        return x @ torch.randn(7, 7)  # fails here

    with pytest.raises(TraceTargetError) as caught:
        trace(Functional(forward), Inputs(X))
    line = forward.__code__.co_firstlineno + 1
    assert f"test_trace_leaves_no_trace.py:{line}: RuntimeError: mat1 and mat2" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_failure_of_fakeness_falls_back_to_real_tensors():
    """Code that refuses fake tensors is run on real ones; the buffers are put back."""

    def forward(net, x):
        net.bn(x)
        if type(x) is not torch.Tensor:
            raise TypeError("no fakes")
        return x.relu()

    model = Functional(forward, bn=nn.BatchNorm1d(4))
    found = trace(model, Inputs(X))
    assert "no fakes" in found.remarks[0]
    assert found.graph.ops[-1].name == "relu"
    assert int(model.bn.num_batches_tracked) == 0
    assert torch.equal(model.bn.running_mean, torch.zeros(4))


def test_tracing_inside_a_trace_is_refused():
    def forward(net, x):
        trace(nn.Linear(4, 4), Inputs(torch.ones(2, 4)))
        return x

    with pytest.raises(TraceTargetError, match="calls stablelint"):
        trace(Functional(forward), Inputs(X))


def test_threads_take_turns():
    graphs = []
    threads = [
        threading.Thread(target=lambda: graphs.append(trace(cnn(), Inputs(torch.randn(2, 3, 8, 8))).graph))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({tuple((op.name, op.inputs) for op in graph) for graph in graphs}) == 1
    assert len(graphs) == 3
