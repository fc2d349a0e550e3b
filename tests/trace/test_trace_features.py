"""Features of torch that break tracers: each gives the same ops on fake and on real tensors, joined to its weights."""

from __future__ import annotations

import pytest
import torch
from functional_module import Functional
from torch import nn

from stablelint.inputs import Inputs
from stablelint.trace import trace

X = torch.randn(4, 4)
LEAVES = ("input", "parameter", "constant")


def compiled_in_place():
    model = Functional(lambda net, x: net.a(x).relu(), a=nn.Linear(4, 4))
    model.compile(backend="eager")
    return model


def compiled_function():
    wave = torch.compile(lambda x: x.sin() * x.cos(), backend="eager")
    return Functional(lambda net, x: wave(net.a(x)), a=nn.Linear(4, 4))


def double_backward(net, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(net.a(x).tanh().sum(), x, create_graph=True)[0]


def ensemble(net, x):
    parameters, buffers = torch.func.stack_module_state(list(net.members))

    def one(parameters, buffers):
        return torch.func.functional_call(net.members[0], (parameters, buffers), (x,))

    return torch.func.vmap(one)(parameters, buffers)


def parameter_in_forward(net, x):
    net.scale = nn.Parameter(torch.ones(x.shape[1]))
    return net.a(x) * net.scale


def python_lists(net, x):
    return net.a(x) * x.tolist()[0][0] + len(x.sum(0).tolist())


def spectral_mixing(net, x):
    return torch.fft.irfft(torch.fft.rfft(net.a(x)) * 2j, n=4)


def autocast(net, x):
    with torch.autocast("cpu", torch.bfloat16):
        return net.a(x)


def sparse_product(net, x):
    return torch.sparse.mm(torch.eye(4).to_sparse(), net.a(x))


def chosen(net, x):
    return torch.cond(torch.tensor(True), lambda x: net.a(x), lambda x: x.neg(), (x,))


MODELS = {
    "compiled": lambda: torch.compile(Functional(lambda net, x: net.a(x).relu(), a=nn.Linear(4, 4)), backend="eager"),
    "compiled in place": compiled_in_place,
    "compiled child": lambda: nn.Sequential(torch.compile(nn.Linear(4, 4), backend="eager"), nn.ReLU()),
    "compiled function": compiled_function,
    "gradient as output": lambda: Functional(double_backward, a=nn.Linear(4, 4)),
    "jacobian": lambda: Functional(lambda net, x: torch.func.vmap(torch.func.jacrev(net.a))(x), a=nn.Linear(4, 4)),
    "tangent": lambda: Functional(lambda net, x: torch.func.jvp(net.a, (x,), (x,))[1], a=nn.Linear(4, 4)),
    "ensemble": lambda: Functional(ensemble, members=nn.ModuleList(nn.Linear(4, 4) for _ in range(2))),
    "parameter in forward": lambda: Functional(parameter_in_forward, a=nn.Linear(4, 4)),
    "python lists": lambda: Functional(python_lists, a=nn.Linear(4, 4)),
    "fourier": lambda: Functional(spectral_mixing, a=nn.Linear(4, 4)),
    "complex weights": lambda: Functional(lambda net, x: (x + 0j) @ net.w, w=nn.Parameter(torch.eye(4) * 1j)),
    "autocast": lambda: Functional(autocast, a=nn.Linear(4, 4)),
    "data parallel": lambda: nn.DataParallel(nn.Sequential(nn.Linear(4, 4), nn.ReLU())),
    "old weight norm": lambda: nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(4, 4))),
    "sparse": lambda: Functional(sparse_product, a=nn.Linear(4, 4)),
    "cond": lambda: Functional(chosen, a=nn.Linear(4, 4)),
    "fake quantised": lambda: Functional(
        lambda net, x: torch.fake_quantize_per_tensor_affine(net.a(x), 0.1, 0, -128, 127), a=nn.Linear(4, 4)
    ),
}


@pytest.mark.filterwarnings("ignore")  # torch: several of these are deprecated or experimental
@pytest.mark.parametrize("name", MODELS)
def test_fake_and_real_runs_agree_and_reach_the_weights(name):
    torch.manual_seed(0)
    model = MODELS[name]()
    fake, real = trace(model, Inputs(X)), trace(model, Inputs(X), fake=False)
    ours, theirs = ([(op.name, op.shape) for op in run.graph if op.name not in LEAVES] for run in (fake, real))
    assert ours == theirs
    assert fake.remarks == ()
    assert any(op.live and op.parameter is not None for op in fake.graph)
    assert not isinstance(model(X), torch._subclasses.FakeTensor)


@pytest.mark.filterwarnings("ignore")  # torch: nested tensors are a prototype
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors_have_a_shape_of_whole_numbers(layout):
    def forward(net, x):
        return net.a(torch.nested.nested_tensor([x, x[:2]], layout=layout)).relu()

    graph = trace(Functional(forward, a=nn.Linear(4, 4)), Inputs(X)).graph
    longest = 4 if layout is torch.strided else 3  # on average
    assert graph.ops[-1].name == "relu"
    assert graph.ops[-1].shape == (2, longest, 4)


def test_a_gradient_inside_the_model_is_one_op():
    graph = trace(Functional(double_backward, a=nn.Linear(4, 4)), Inputs(X)).graph
    (op,) = (op for op in graph if op.name == "autograd_grad")
    assert op.live
    assert "tanh" in {graph.ops[index].name for index in graph.ops[op.inputs[0]].inputs}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_control_flow_and_lists_are_as_before(error):
    before = torch.cond, torch._subclasses.FakeTensor.tolist

    def forward(net, x):
        raise error("stop")

    with pytest.raises(BaseException, match="stop"):
        trace(Functional(forward), Inputs(X))
    assert (torch.cond, torch._subclasses.FakeTensor.tolist) == before


def test_attention_in_a_layer_of_torch_is_seen_in_eval_mode_too():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    names = [op.name for op in trace(layer, Inputs(torch.randn(2, 5, 8))).graph]
    assert "sdpa" in names or "softmax" in names or "scaled_dot_product_attention" in names
