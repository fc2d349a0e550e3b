"""Base classes of packages that are missing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from stablelint.targets.build import Built, candidates
from stablelint.targets.imports.placeholder import Reason
from stablelint.targets.imports.standin import stand_in
from stablelint.targets.loading import Loaded
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


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("lightning.LightningModule", True),
        ("transformers.PreTrainedModel", True),
        ("diffusers.ModelMixin", True),
        ("mmcv.runner.BaseModule", True),
        ("hub.PyTorchModelHubMixin", False),
        ("lightning.LightningDataModule", False),
        ("pydantic.BaseModel", False),
        ("abc.Thing", False),
    ],
)
def test_stand_ins_are_modules_where_their_name_says_so(path: str, module: bool) -> None:
    assert issubclass(stand_in(path, Reason("absent"), ()), nn.Module) is module


def test_classes_with_stand_ins_among_their_bases_are_constructed(load: Callable[[str], Loaded]) -> None:
    loaded = load(
        """
        import lightning_absent as pl
        from hub_absent import HubMixin, ConfigMixin, BaseModule, PretrainedConfig, PreTrainedModel, Strange
        class Lit(pl.LightningModule):
            def __init__(self, width=3, rate=0.1, **kwargs):
                super().__init__()
                self.save_hyperparameters(ignore=["rate"])
                self.layer = nn.Linear(self.hparams.width, self.hparams["depth"])
                self.log("width", width)
            def forward(self, x):
                return self.layer(x.to(self.device))
        class Mixed(HubMixin, nn.Module, ConfigMixin, library_name="x"):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(2, 2)
        class Both(nn.Module, BaseModule):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(2, 2)
        class Config(PretrainedConfig):
            def __init__(self, width=4, **kwargs):
                self.width = width
                super().__init__(**kwargs)
        class Pre(PreTrainedModel):
            config_class = Config
            def __init__(self, config):
                super().__init__(config)
                self.layer = nn.Linear(config.width, self.config.bias)
                self.post_init()
        class Plain(Strange):
            def forward(self, x): return x
        """
    )
    module = loaded.module
    assert loaded.left_out == ()
    assert module.Lit(4, depth=5).layer.out_features == 5
    assert "rate" not in module.Lit(4, depth=5).hparams
    assert module.Lit(depth=5).device.type == "cpu"
    assert module.Mixed().layer.in_features == module.Both().layer.in_features == 2
    assert module.Pre(module.Config(bias=7)).layer.out_features == 7
    assert issubclass(module.Plain, nn.Module)  # it has a forward pass
    assert issubclass(module.Lit.__mro__[1], nn.Module)


def test_a_model_that_derives_from_a_stand_in_says_so(write: Write) -> None:
    write("base.py", "from absent_one import BaseModule\n", imports=False)
    write("model.py", "from base import BaseModule\n" + NET.replace("nn.Module", "BaseModule"))
    assert "absent_one is not installed and was stood in for" in build("model.py:Net").remarks
