"""Packages that are missing: what stands in for them, and what is said about it."""

from __future__ import annotations

import copy
import dataclasses
import typing
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from stablelint.errors import BuildTargetError, InputTargetError
from stablelint.targets.build import Built, candidates
from stablelint.targets.imports.placeholder import Placeholder, PlaceholderUse, Reason, marker, touched
from stablelint.targets.loading import Loaded, load_file, settle
from stablelint.targets.spec import Request

Write = Callable[..., str]

NET = """
class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.layer = nn.Linear(width, 2)
    def forward(self, x):
        return self.layer(x)
"""


def build(spec: str) -> Built:
    (candidate,) = candidates(Request(spec))
    return candidate.build()


absent = Placeholder("absent.thing", Reason("absent"))


def test_a_placeholder_can_be_named_anywhere() -> None:
    assert repr(absent.part["key"].other) == "<stand-in for absent.thing.part.other>"
    assert not isinstance(3, absent)  # type: ignore[arg-type]
    assert not issubclass(int, absent)  # type: ignore[arg-type]
    assert typing.get_args(typing.Optional[absent])[0] is absent  # type: ignore[valid-type] # noqa: UP045
    assert (absent | None) is absent
    assert (int | absent) is absent
    assert copy.deepcopy(absent) is absent
    assert absent is not None
    absent.setting = 3
    absent["key"] = 3
    assert not hasattr(absent, "__version__")

    @dataclasses.dataclass
    class Holder:
        field: absent.part = absent.part  # type: ignore[name-defined]

    assert Holder() == Holder()


@pytest.mark.parametrize(
    "use",
    [
        lambda: absent(1),
        lambda: list(absent),
        lambda: bool(absent),
        lambda: absent + 1,
        lambda: 2 * absent,
        lambda: -absent,
        lambda: absent < 3,
        lambda: absent == "1.0",
        lambda: len(absent),
        lambda: 1 in absent,
        lambda: float(absent),
        lambda: f"{absent}",
        lambda: absent.__enter__(),
    ],
)
def test_every_use_of_a_placeholder_raises_one_sentence(use: Callable[[], object]) -> None:
    with pytest.raises(
        PlaceholderUse, match=r"^\S+test_target_imports_missing.py:\d+ uses absent.thing, which is not installed$"
    ):
        use()


def test_an_object_of_a_missing_class_may_be_kept_but_not_used(write: Write) -> None:
    source = "from absent_one import Metric\n" + NET.replace(
        "(width, 2)", "(width, 2)\n        self.metric = Metric(3).to('cpu')"
    )
    write("model.py", source)
    assert "absent_one is not installed and was stood in for" in build("model.py:Net").remarks
    write("second.py", source.replace("self.layer(x)", "self.metric(self.layer(x))"))
    with pytest.raises(InputTargetError, match=r"second.py:11 uses absent_one.Metric\(...\), which is not installed"):
        build("second.py:Net")


def test_what_is_touched_is_known() -> None:
    since = marker()
    assert touched(since) == ()
    _ = absent.part
    assert touched(since) == (Reason("absent"),)
    assert touched(since, "other.py") == ()
    typing.get_type_hints(type("A", (), {"__annotations__": {"x": "absent.part"}}), {"absent": absent})
    again = marker()
    assert touched(again) == ()


def test_a_model_that_does_not_need_a_missing_package_is_built_and_it_is_said(write: Write) -> None:
    source = "import absent_one.sub as one, absent_two\nfrom absent_three import thing, other as alias\n" + NET
    write("model.py", source + "def use(): return one.f(), absent_two.x(), thing(), alias()\n")
    remarks = build("model.py:Net").remarks
    assert "absent_one, absent_three and absent_two are not installed and were stood in for" in remarks


def test_a_model_that_uses_a_missing_package_says_which(write: Write) -> None:
    write("model.py", "from absent_one import ops\n" + NET.replace("self.layer(x)", "ops.fused(self.layer(x))"))
    with pytest.raises(
        InputTargetError, match=r"model.py:10 uses absent_one.ops.fused, which is not installed; install absent_one"
    ):
        build("model.py:Net")


def test_what_is_made_of_something_missing_is_missing_too(write: Write) -> None:
    write(
        "model.py", "from absent_one import Registry\nMODELS = Registry('models')\n@MODELS.register(name='net')" + NET
    )
    built = build("model.py:Net")
    assert built.model.layer.in_features == 8
    write(
        "second.py", "import absent_one\nscale = absent_one.scale()\n" + NET.replace("(width, 2)", "(width, 2 * scale)")
    )
    with pytest.raises(BuildTargetError, match=r"second.py:9 uses scale: absent_one is not installed"):
        build("second.py:Net")


@pytest.mark.parametrize(
    "decorator", ["@absent.register", "@absent.register('x', force=True)", "@register(kind=3)", "@absent.a.b.c"]
)
def test_decorators_of_missing_packages_are_dropped(decorator: str, load: Callable[[str], Loaded]) -> None:
    loaded = load(
        f"import absent\nfrom absent import register\n{decorator}" + NET + f"{decorator}\ndef f(): return 3\n"
    )
    assert issubclass(loaded.module.Net, nn.Module)
    assert loaded.module.f() == 3
    assert loaded.left_out == ()


def test_decorators_of_methods_are_dropped_and_others_stay(load: Callable[[str], Loaded]) -> None:
    loaded = load(
        """
        import functools
        from absent import jit, dispatch
        class Net(nn.Module):
            @staticmethod
            @jit(nopython=True)
            def scale(): return 3
            @functools.lru_cache
            @dispatch
            def cached(self): return self
        """
    )
    assert loaded.module.Net.scale() == 3
    assert hasattr(loaded.module.Net.cached, "cache_info")


def test_a_handler_runs_as_written_and_where_it_fails_too_there_is_a_placeholder(load: Callable[[str], Loaded]) -> None:
    loaded = load(
        """
        import sys
        try:
            import absent_one
            HAS_ONE = True
        except ImportError:
            absent_one, HAS_ONE = None, False
        try:
            import absent_two
        except ImportError as error:
            raise ImportError("pip install absent_two") from error
        try:
            from absent_three import part
        except ModuleNotFoundError:
            sys.exit("absent_three is required")
        with open(__file__) as file:
            import absent_four
        class Net(nn.Module):
            uses = lambda self: (absent_one, HAS_ONE, absent_two, part, absent_four)
        """
    )
    module = loaded.module
    assert (module.absent_one, module.HAS_ONE) == (None, False)
    assert [type(each) for each in (module.absent_two, module.part, module.absent_four)] == [Placeholder] * 3
    assert loaded.missing == ("absent_two", "absent_three", "absent_four")
    assert loaded.left_out == ()


def test_loggers_are_silent_where_they_cannot_be_made(load: Callable[[str], Loaded]) -> None:
    loaded = load(
        """
        from absent import logger
        import absent
        log = absent.get_logger(__name__)
        log.warning("no extension")
        class Net(nn.Module):
            def __init__(self):
                log.info("built")
                logger.success("built")
        """
    )
    loaded.module.Net()


def test_names_that_a_missing_module_may_have_given_are_stood_in_for(load: Callable[[str], Loaded]) -> None:
    loaded = load("from absent import *\nclass Net(Base):\n    def forward(self, x): return helper(x)\n")
    assert issubclass(loaded.module.Net, nn.Module)
    assert isinstance(loaded.module.helper, Placeholder)
    assert not hasattr(loaded.module, "x")


def test_names_that_a_users_module_lacks_are_stood_in_for(write: Write) -> None:
    write("helper.py", "def load():\n    return open('absent.txt')\ndata = load()\nWIDTH = 4\n", imports=False)
    write(
        "model.py", "from helper import WIDTH, data, gone\nfrom nowhere.at import all\n" + NET.replace("=8", "=WIDTH")
    )
    settle()
    module = load_file(Path("model.py")).module
    assert module.Net().layer.in_features == 4
    with pytest.raises(PlaceholderUse, match=r"helper.data, which is missing, for line 3 of helper.py was left out"):
        iter(module.data)
    with pytest.raises(PlaceholderUse, match=r"helper.gone, which cannot be found"):
        iter(module.gone)


def test_a_users_module_that_is_not_python_is_a_placeholder(write: Write) -> None:
    write("helper.py", "def load(:\n", imports=False)
    settle()
    module = load_file(Path(write("model.py", "import helper\nfrom helper import f\n" + NET))).module
    with pytest.raises(PlaceholderUse, match=r"helper.f, which cannot be read: helper.py:1 is not Python"):
        module.f()


def test_a_library_that_lacks_something_is_a_placeholder(load: Callable[[str], Loaded]) -> None:
    module = load("import torch.absent\nfrom torch.absent import one\nfrom json import two\n" + NET).module
    assert module.torch.nn is nn
    with pytest.raises(PlaceholderUse, match=r"torch.absent.one, which is not part of the installed torch"):
        module.one()
    with pytest.raises(PlaceholderUse, match=r"json.two, which is not part of the installed json"):
        module.two()
