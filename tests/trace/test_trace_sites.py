"""Every op has the line that a user would change, every parameter the line that gave it its values."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from stablelint.inputs import Inputs
from stablelint.trace import observe_build, trace

X = torch.randn(2, 4)


def line_of(marker):
    """The line of this file that carries ``marker`` as a comment."""
    source = Path(__file__).read_text().splitlines()
    (found,) = (number for number, line in enumerate(source, 1) if line.endswith(f"# {marker}"))
    return found


def column_of(marker, text):
    return Path(__file__).read_text().splitlines()[line_of(marker) - 1].index(text) + 1


def site_of(build, name):
    with observe_build() as origins:
        model = build()
    graph = trace(model, Inputs(X), origins=origins).graph
    assert all(op.site.file for op in graph if op.name not in ("input", "parameter"))
    return next(op.site for op in graph if op.name == name)


class Direct(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = nn.Sigmoid()
        self.net = nn.Sequential(
            nn.Linear(4, 4),
            nn.Tanh(),  # built in container
        )

    def forward(self, x):
        x = self.act(x)  # called directly
        x = self.net(x)
        return F.relu(x)  # functional


def bare():
    return nn.Sequential(
        nn.Linear(4, 4),
        nn.ELU(),  # built in bare container
    )


def test_layer_called_by_user_code_has_the_line_of_the_call():
    site = site_of(Direct, "sigmoid")
    assert (site.line, site.column, site.module) == (
        line_of("called directly"), column_of("called directly", "self.act(x)"), "act",
    )  # fmt: skip


def test_function_has_the_line_of_the_call():
    site = site_of(Direct, "relu")
    assert (site.line, site.column, site.module) == (line_of("functional"), column_of("functional", "F.relu"), "")


def test_layer_called_by_a_container_has_the_line_that_built_it():
    site = site_of(Direct, "tanh")
    assert (site.line, site.module) == (line_of("built in container"), "net.1")


def test_bare_container_has_no_forward_of_the_users():
    site = site_of(bare, "elu")
    assert (site.line, site.column) == (
        line_of("built in bare container"), column_of("built in bare container", "nn.ELU"),
    )  # fmt: skip
    assert Path(site.file).name == "test_trace_sites.py"
    assert trace(bare(), Inputs(X)).graph.ops[-1].site.file is None


def test_file_is_relative_to_the_working_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(Path(__file__).parent)
    assert site_of(Direct, "relu").file == "test_trace_sites.py"
    monkeypatch.chdir(tmp_path)
    assert site_of(Direct, "relu").file == str(Path(__file__))


def test_library_models_are_user_code():
    torchvision = pytest.importorskip("torchvision")
    with observe_build() as origins:
        model = torchvision.models.squeezenet1_1()
    graph = trace(model, Inputs(torch.randn(1, 3, 64, 64)), origins=origins).graph
    sites = {op.site.file for op in graph if op.name not in ("input", "parameter")}
    assert {Path(file).name for file in sites} == {"squeezenet.py"}


# ---- origins of values


class Initialised(nn.Module):
    def __init__(self):
        super().__init__()
        self.plain = nn.Linear(4, 4)  # constructed
        self.scaled = nn.Parameter(torch.randn(4, 4) * 0.02)  # randn
        self.empty = nn.Parameter(torch.empty(4, 4))  # empty
        self.filled = nn.Parameter(torch.empty(4, 4))
        self.sliced = nn.Parameter(torch.zeros(4))
        self.halved = nn.Linear(4, 4, bias=False)
        self.truncated = nn.Linear(4, 4, bias=False)
        self.rows = nn.Embedding(5, 4, padding_idx=0)  # rows
        nn.init.orthogonal_(self.filled)  # filled
        with torch.no_grad():
            self.sliced[1:3] = 1.0  # sliced
        self.halved.weight.data.mul_(0.5)  # halved
        nn.init.trunc_normal_(self.truncated.weight, std=0.02)  # truncated

    def forward(self, x):
        return x


def test_origin_of_values():
    with observe_build() as origins:
        model = Initialised()
    found = {name: origins.parameter(parameter) for name, parameter in model.named_parameters()}
    assert {name: (origin[0], origin[1].line) for name, origin in found.items()} == {
        "plain.weight": ("kaiming_uniform_", line_of("constructed")),
        "plain.bias": ("uniform_", line_of("constructed")),
        "scaled": ("randn", line_of("randn")),
        "empty": ("empty", line_of("empty")),
        "filled": ("orthogonal_", line_of("filled")),
        "sliced": ("__setitem__", line_of("sliced")),
        "halved.weight": ("mul_", line_of("halved")),
        "truncated.weight": ("trunc_normal_", line_of("truncated")),
        "rows.weight": ("normal_", line_of("rows")),
    }


def test_origin_reaches_the_graph():
    with observe_build() as origins:
        model = nn.Sequential(nn.Linear(4, 4))
    weight = trace(model, Inputs(X), origins=origins).graph.parameters[0]
    assert weight.init == "kaiming_uniform_"
    assert weight.init_site.module == "0"
    assert Path(weight.init_site.file).name == "test_trace_sites.py"


def test_origin_survives_copies_and_parametrizations():
    with observe_build() as origins:
        layer = nn.Linear(4, 4)  # original
        model = nn.Sequential(copy.deepcopy(layer), parametrizations.orthogonal(nn.Linear(4, 4)))
    assert origins.parameter(model[0].weight)[0] == "kaiming_uniform_"
    assert origins.parameter(model[0].weight)[1].line in (line_of("original"), line_of("original") + 1)
    assert origins.module(model[0]).line == line_of("original") + 1
    assert origins.parameter(model[1].parametrizations.weight.original) is not None


def test_every_layer_of_a_torch_transformer_has_an_origin():
    with observe_build() as origins:
        model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    assert all(origins.parameter(parameter) is not None for parameter in model.parameters())
    assert all(origins.module(module) is not None for module in model.modules())


def test_unobserved_model_has_no_origins():
    with observe_build() as origins:
        pass
    layer = nn.Linear(2, 2)
    assert origins.parameter(layer.weight) is None
    assert origins.module(layer) is None


def test_observation_leaves_nothing_patched():
    before = nn.Module.__init__, nn.Module.__setstate__
    with observe_build():
        assert "in_features" in inspect.signature(nn.Linear).parameters
    assert (nn.Module.__init__, nn.Module.__setstate__) == before
    with pytest.raises(TypeError), observe_build():
        nn.Linear()
    assert (nn.Module.__init__, nn.Module.__setstate__) == before
    assert not torch.overrides._get_current_function_mode_stack()
