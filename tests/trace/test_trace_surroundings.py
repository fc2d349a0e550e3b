"""A fake run leaves no fake tensor in what the user keeps outside of modules: globals, classes, objects, functions."""

from __future__ import annotations

import collections
import functools
import sys
import types

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from stablelint.errors import TraceTargetError
from stablelint.inputs import Inputs
from stablelint.targets.attempt import Attempts
from stablelint.trace import trace

X = torch.randn(2, 4)
TABLES = {}
SEEN = set()
RECENT = collections.deque(maxlen=2)
LAST = None
COUNTS = {"calls": 0}


def table(width):
    return torch.arange(width).float()


def in_a_dict(x):
    if x.shape[-1] not in SEEN:
        SEEN.add(x.shape[-1])
        TABLES[x.shape[-1]] = {"nested": [table(x.shape[-1])]}
    return TABLES[x.shape[-1]]["nested"][0]


def in_a_global(x):
    global LAST
    if LAST is None:
        LAST = table(x.shape[-1])
    return LAST


def in_a_deque(x):
    if not RECENT:
        RECENT.append(table(x.shape[-1]))
    return RECENT[0]


def in_a_default(x, known={}):  # noqa: B006 (as users write it)
    return known.setdefault(x.shape[-1], table(x.shape[-1]))


def in_a_function(x):
    if not hasattr(in_a_function, "table"):
        in_a_function.table = table(x.shape[-1])
    return in_a_function.table


def closing():
    kept = None

    def call(x):
        nonlocal kept
        if kept is None:
            kept = table(x.shape[-1])
        return kept

    return call


in_a_closure = closing()


class Helper:
    shared = None
    by_width = {}  # noqa: RUF012 (as users write it)

    def __init__(self):
        self.table = None

    def in_an_object(self, x):
        if self.table is None:
            self.table = table(x.shape[-1])
        return self.table

    @classmethod
    def in_a_class(cls, x):
        if cls.shared is None:
            cls.shared = table(x.shape[-1])
        return cls.shared

    @staticmethod
    def in_its_dict(x):
        return Helper.by_width.setdefault(x.shape[-1], table(x.shape[-1]))


HELPER = Helper()


class Net(nn.Module):
    own = None

    def __init__(self, function):
        super().__init__()
        self.helper = Helper()
        self.function = function

    def forward(self, x):
        COUNTS["calls"] += 1
        return x + (self.function or self.kept)(x)

    def kept(self, x):
        if Net.own is None:
            Net.own = table(x.shape[-1])
        return Net.own


KEEPERS = [
    in_a_dict,
    in_a_global,
    in_a_deque,
    in_a_default,
    in_a_function,
    in_a_closure,
    HELPER.in_an_object,
    Helper.in_a_class,
    Helper.in_its_dict,
    None,
]


@pytest.mark.parametrize("function", KEEPERS, ids=[getattr(each, "__qualname__", "model") for each in KEEPERS])
def test_fakes_do_not_stay_with_the_user(function):
    model = Net(function)
    names = [op.name for op in trace(model, Inputs(X)).graph]
    assert names == [op.name for op in trace(model, Inputs(X)).graph]
    assert torch.equal(model(X), X + torch.arange(4))
    assert type(model(X)) is torch.Tensor


def test_fakes_do_not_stay_in_an_object_of_the_model():
    model = Net(None)
    model.function = model.helper.in_an_object
    trace(model, Inputs(X))
    assert model.helper.table is None


def test_fakes_do_not_stay_in_an_object_behind_a_function():
    for wrap in (lambda method: method, lambda method: functools.partial(method)):
        helper = Helper()
        trace(Net(wrap(helper.in_an_object)), Inputs(X))
        assert helper.table is None


def test_fakes_do_not_stay_in_a_module_that_is_not_registered():
    inner = Net(None)
    inner.last = None

    def forward(x):
        inner.last = x.relu()
        return inner.last

    outer = Net(None)
    outer.others = [inner]
    outer.function = lambda x: forward(x) + len(outer.others)
    trace(outer, Inputs(X))
    assert inner.last is None


def test_a_trial_of_inputs_leaves_none_either():
    model = Net(Helper().in_an_object)
    Helper.by_width.clear()
    assert Attempts(model, lambda: model).fake(Inputs(X)).error is None
    model.function = Helper.in_its_dict
    assert Attempts(model, lambda: model).fake(Inputs(X)).error is None
    assert not Helper.by_width


def test_none_stays_after_a_failure():
    def fails(x):
        TABLES["failed"] = table(3)
        raise ValueError("no")

    with pytest.raises(TraceTargetError):
        trace(Net(fails), Inputs(X))
    assert not any(isinstance(each, FakeTensor) for each in TABLES.values())


def test_what_holds_no_fake_is_left_as_the_run_made_it():
    before = COUNTS["calls"]
    trace(Net(torch.relu), Inputs(X))
    assert COUNTS["calls"] == before + 1


def test_values_that_were_there_are_kept():
    TABLES.clear()
    SEEN.clear()
    kept = TABLES["mine"] = torch.ones(3)
    trace(Net(in_a_dict), Inputs(X))
    assert list(TABLES) == ["mine"]
    assert TABLES["mine"] is kept
    assert not SEEN


def test_a_file_that_the_file_of_the_model_imports_from_is_put_back(tmp_path, monkeypatch):
    (tmp_path / "tables_of_mine.py").write_text(
        "import torch\nCACHE = {}\n"
        "def table(width):\n"
        "    if width not in CACHE:\n        CACHE[width] = torch.ones(width)\n    return CACHE[width]\n"
    )
    (tmp_path / "net_of_mine.py").write_text(
        "from torch import nn\nfrom tables_of_mine import table\n"
        "class Net(nn.Module):\n    def forward(self, x):\n        return x * table(4)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import net_of_mine

    trace(net_of_mine.Net(), Inputs(X))
    tables: types.ModuleType = sys.modules["tables_of_mine"]
    assert tables.CACHE == {}
    for name in ("net_of_mine", "tables_of_mine"):
        monkeypatch.delitem(sys.modules, name)
