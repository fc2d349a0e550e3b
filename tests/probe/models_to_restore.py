"""Models that do in a forward pass whatever a measurement has to undo; each with inputs."""

from __future__ import annotations

import collections
import random
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from stablelint.inputs import Inputs

Make = Callable[[], tuple[nn.Module, Inputs]]
SMALL: dict[str, Make] = {}


def row(*shape: int) -> Inputs:
    return Inputs(torch.randn(*(shape or (8, 8))))


def small(name: str, *shape: int) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Register a class or function without arguments; its inputs are N(0, 1) of this shape."""

    def register(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        assert name not in SMALL
        SMALL[name] = lambda: (build(), row(*shape))
        return build

    return register


class Net(nn.Module):
    """A layer, and what a subclass does around it in ``act``."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(8, 8), nn.Linear(8, 8)
        self.prepare()

    def prepare(self) -> None: ...

    def act(self, h: torch.Tensor) -> torch.Tensor:
        return h

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.act(self.fc(x))))


@small("in-place ReLU, batch norm partly in eval, dropout", 4, 3, 8, 8)
def _() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout2d(0.5))
    model.append(nn.Conv2d(4, 4, 3)).append(nn.SyncBatchNorm(4)).append(nn.ReLU6(inplace=True))
    model[1].eval()
    return model


@small("whole model in eval")
def _() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)).eval()


@small("state of every kind")
class _(Net):
    def prepare(self) -> None:
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("rebound", torch.zeros(8))
        self.register_buffer("shared", torch.ones(1).expand(8))
        self.count, self.last, self.seen = 0, None, set()
        self.cache, self.table, self.recent = [], {"h": [torch.zeros(8)]}, collections.deque(maxlen=3)
        self.plain, self.array = torch.zeros(8), np.zeros(3)
        self.settings = types.SimpleNamespace(step=0, history=[])
        self.nested = ([], {"inner": {"deep": []}})
        self.doomed = "there"

    def act(self, h: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.rebound = self.rebound + h.detach().mean(0)
        self.count += 1
        self.last = h
        self.seen.add(self.count)
        self.cache.append(h)
        self.table["h"].append(h)
        self.table[self.count] = h.detach()
        self.recent.append(h)
        self.plain += h.detach().mean(0)
        self.array += 1
        self.settings.step += 1
        self.settings.history.append(self.settings.step)
        self.nested[0].append(1)
        self.nested[1]["inner"]["deep"].append(h)
        if hasattr(self, "doomed"):
            del self.doomed
        return h


@small("random generators of its own")
class _(Net):
    def prepare(self) -> None:
        self.torch_generator = torch.Generator().manual_seed(1)
        self.numpy_generator = np.random.default_rng(1)
        self.holder = types.SimpleNamespace(python=random.Random(1), legacy=[np.random.default_rng(2)])

    def act(self, h: torch.Tensor) -> torch.Tensor:
        noise = torch.rand(h.shape, generator=self.torch_generator)
        scale = self.numpy_generator.random() + self.holder.python.random() + self.holder.legacy[0].random()
        return h + noise * scale * (torch.rand(()) + random.random() + np.random.random())


@small("hooks of modules and tensors, gradients that are there")
def _() -> nn.Module:
    model = Net()
    model.heard = []
    model.fc.register_forward_hook(lambda module, args, output: output * 2)
    model.fc.register_forward_pre_hook(lambda module, args: model.heard.append("pre"))
    model.head.register_full_backward_hook(lambda module, grads, more: model.heard.append("back"))
    model.fc.weight.register_hook(lambda grad: model.heard.append("grad"))

    def step(parameter: torch.Tensor) -> None:  # an optimiser that runs in the backward pass
        with torch.no_grad():
            parameter -= 0.1 * parameter.grad
        parameter.grad = None

    model(torch.randn(4, 8)).sum().backward()
    model.head.weight.register_post_accumulate_grad_hook(step)
    model.fc.weight.main_grad = torch.ones(8, 8)
    model.heard.clear()
    return model


@small("hooks and modules that the forward adds")
class _(Net):
    def act(self, h: torch.Tensor) -> torch.Tensor:
        self.fc.weight.register_hook(lambda grad: grad * 2)
        self.head.weight.register_post_accumulate_grad_hook(lambda parameter: None)
        self.head.register_forward_hook(lambda module, args, output: output + 1)
        self.fc.weight.note = h
        self.late = nn.Linear(8, 8)
        self.register_buffer("late_buffer", h.detach())
        self.fc.bias.contiguous().mul(2)  # an op whose result is the parameter itself
        return self.late(h)


@small("flags that the forward toggles")
class _(Net):
    def act(self, h: torch.Tensor) -> torch.Tensor:
        self.training = not self.training
        self.head.train(not self.head.training)
        self.fc.bias.requires_grad_(not self.fc.bias.requires_grad)
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True)
        torch.set_float32_matmul_precision("medium")
        torch.set_autocast_enabled("cpu", False)
        torch.set_autocast_dtype("cpu", torch.float16)
        torch.set_anomaly_enabled(False)
        return h


@small("grad mode switched off behind the loss")
class _(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = super().forward(x)
        torch.set_grad_enabled(False)
        return output


@small("values and memory of weights changed by the forward")
class _(Net):
    def act(self, h: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.head.bias.add_(1)
        self.head.weight.data = self.head.weight.data * 0.9
        return h


@small("a buffer that takes the graph into itself")
class _(Net):
    def prepare(self) -> None:
        self.register_buffer("average", torch.zeros(8))

    def act(self, h: torch.Tensor) -> torch.Tensor:
        self.average.mul_(0.9).add_(h.mean(0))
        return h - self.average


@small("parts that are not registered")
class _(Net):
    def prepare(self) -> None:
        self.blocks = [nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)) for _ in range(2)]
        self.scale = torch.ones(8, requires_grad=True)
        self.named = {"block": nn.BatchNorm1d(8)}

    def act(self, h: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            h = block(h)
        return self.named["block"](h) * self.scale


@small("a teacher that follows the student")
class _(Net):
    def prepare(self) -> None:
        self.teacher = nn.Linear(8, 8).requires_grad_(False)

    def act(self, h: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            for mine, follower in zip(self.fc.parameters(), self.teacher.parameters(), strict=True):
                follower.lerp_(mine, 0.1)
        return h + self.teacher(h)


@small("writes into its inputs")
class _(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.mul_(2))


@small("multi-head attention", 2, 5, 8)
class _(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.attention(x, x, x)[0]


@small("transformer layer", 2, 5, 8)
def _() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


class Tied(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.emb = nn.Embedding(20, 8, **options)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.emb.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.emb(ids)))


SMALL["tied weights"] = lambda: (Tied(), Inputs(torch.randint(20, (4, 6))))
SMALL["an embedding that is renormed in place"] = lambda: (
    nn.Sequential(nn.Embedding(20, 8, max_norm=1.0), nn.Linear(8, 8)),
    Inputs(torch.randint(20, (4, 6))),
)


@small("spectral norm and weight norm")
def _() -> nn.Module:
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    return nn.Sequential(parametrizations.spectral_norm(first), nn.Tanh(), parametrizations.weight_norm(second))


@small("spectral norm and weight norm of old")
def _() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = nn.utils.spectral_norm(nn.Linear(8, 8)), nn.utils.weight_norm(nn.Linear(8, 8))
    return nn.Sequential(first, nn.Tanh(), second)


@small("orthogonal parametrization")
def _() -> nn.Module:
    return nn.Sequential(parametrizations.orthogonal(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 8))


class Square(torch.autograd.Function):
    calls = 0

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * grad


@small("a custom autograd function")
class _(Net):
    def act(self, h: torch.Tensor) -> torch.Tensor:
        return Square.apply(h)


class Checkpointed(Net):
    reentrant = False

    def prepare(self) -> None:
        self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout(0.5)

    def act(self, h: torch.Tensor) -> torch.Tensor:
        return checkpoint(lambda h: self.drop(self.norm(h)), h, use_reentrant=self.reentrant)


class Reentrant(Checkpointed):
    reentrant = True


small("gradient checkpointing")(Checkpointed)
small("reentrant gradient checkpointing")(Reentrant)


@small("partly frozen, with a zero head")
def _() -> nn.Module:
    model = Net()
    model.fc.requires_grad_(False)
    nn.init.zeros_(model.head.weight)
    return model


@small("stochastic depth")
class _(Net):
    def act(self, h: torch.Tensor) -> torch.Tensor:
        from torchvision.ops import stochastic_depth

        return h + stochastic_depth(F.relu(h, inplace=False), 0.5, "row", self.training)


@small("recurrent", 4, 6, 8)
class _(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.state = nn.LSTM(8, 8, 2, dropout=0.1, batch_first=True), None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output, self.state = self.lstm(x, self.state)  # carries the state and its graph from call to call
        return output


@small("scripted part")
class _(Net):
    def prepare(self) -> None:
        self.script = torch.jit.trace(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)), torch.randn(4, 8))

    def act(self, h: torch.Tensor) -> torch.Tensor:
        return self.script(h)


class Structured(Net):
    """Takes what loaders give: a table with lists, which it writes into."""

    def forward(self, batch: dict[str, Any], pair: Any) -> torch.Tensor:
        batch["x"].add_(1)
        batch["more"].append(batch.pop("x"))
        pair.first.mul_(2)
        return super().forward(batch["more"][-1] + pair.first + batch["more"][0])


Pair = collections.namedtuple("Pair", "first second")
SMALL["structured inputs that are written into"] = lambda: (
    Structured(),
    Inputs({"x": torch.randn(8, 8), "more": [torch.randn(8, 8)]}, Pair(torch.randn(8, 8), None)),
)


def lazy() -> tuple[nn.Module, Inputs]:
    class Lazy(Net):
        def prepare(self) -> None:
            self.conv, self.norm = nn.LazyConv1d(4, 3, padding=1), nn.LazyBatchNorm1d()
            self.late, self.known = nn.LazyLinear(8), nn.BatchNorm1d(8)
            self.count = [0]

        def act(self, h: torch.Tensor) -> torch.Tensor:
            self.count[0] += 1
            h = F.relu(self.norm(self.conv(h[:, None])), inplace=True)
            return self.known(self.late(h.flatten(1)))

    return Lazy(), row()


# ---- released architectures


def vision(name: str, size: int = 64, **options: Any) -> Make:
    def make() -> tuple[nn.Module, Inputs]:
        import torchvision

        return torchvision.models.get_model(name, weights=None, **options), row(2, 3, size, size)

    return make


def detector() -> tuple[nn.Module, Inputs]:
    import torchvision

    model = torchvision.models.get_model(
        "fasterrcnn_mobilenet_v3_large_320_fpn", weights=None, weights_backbone=None, num_classes=5
    )
    model.transform.min_size, model.transform.max_size = (96,), 96
    boxes = torch.tensor([[10.0, 10.0, 50.0, 60.0]])
    targets = [{"boxes": boxes.clone(), "labels": torch.tensor([1])} for _ in range(2)]
    return model, Inputs([torch.rand(3, 96, 96) for _ in range(2)], targets)


def timm_model(name: str, size: int, **options: Any) -> Make:
    def make() -> tuple[nn.Module, Inputs]:
        import timm

        return timm.create_model(name, pretrained=False, **options), row(2, 3, size, size)

    return make


def text(config: str, model: str, *, labels: bool = False, checkpointed: bool = False, **options: Any) -> Make:
    def make() -> tuple[nn.Module, Inputs]:
        import transformers

        built = getattr(transformers, model)(getattr(transformers, config)(vocab_size=100, **options))
        if checkpointed:
            built.gradient_checkpointing_enable()
        ids = torch.randint(3, 100, (2, 16))
        return built, Inputs(input_ids=ids, **({"labels": ids.clone()} if labels else {}))

    return make


def speech() -> tuple[nn.Module, Inputs]:
    """Weight norm by parametrization, and spans of time that NumPy's global generator masks."""
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    convolutions = {"conv_dim": (32,) * 3, "conv_kernel": (10, 3, 3), "conv_stride": (5, 2, 2)}
    config = transformers.Wav2Vec2Config(**sizes, **convolutions, num_conv_pos_embeddings=16, mask_time_prob=0.3)
    model = transformers.Wav2Vec2Model(config)
    model.freeze_feature_encoder()
    return model, row(2, 1600)


BODY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
T5 = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
RELEASED: dict[str, Make] = {
    "resnet18": vision("resnet18"),
    "mobilenet_v3_small": vision("mobilenet_v3_small"),
    "densenet121 with checkpointing": vision("densenet121", memory_efficient=True),
    "efficientnet_b0": vision("efficientnet_b0"),
    "swin_t": vision("swin_t", 96),
    "faster r-cnn": detector,
    "convnext_atto": timm_model("convnext_atto", 64, drop_path_rate=0.2),
    "deit_tiny": timm_model("deit_tiny_patch16_224", 224, depth=2, drop_path_rate=0.2),
    "mixer_s16_224": timm_model("mixer_s16_224", 224),
    "regnetz_b16": timm_model("regnetz_b16", 96),
    "bert": text("BertConfig", "BertModel", **BODY),
    "gpt2 with labels": text("GPT2Config", "GPT2LMHeadModel", labels=True, n_embd=64, n_layer=2, n_head=4),
    "llama with labels and cache": text("LlamaConfig", "LlamaForCausalLM", labels=True, **BODY),
    "qwen3 with checkpointing": text(
        "Qwen3Config", "Qwen3ForCausalLM", labels=True, checkpointed=True, head_dim=16, num_key_value_heads=2, **BODY
    ),
    "t5 with labels": text("T5Config", "T5ForConditionalGeneration", labels=True, decoder_start_token_id=0, **T5),
    "wav2vec2": speech,
}
