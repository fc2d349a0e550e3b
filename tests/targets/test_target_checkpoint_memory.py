"""A checkpoint and memory: a model that is not allocated, a tensor that is read in pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_cases import built, parameters, weights
from safetensors.torch import save_file
from torch import nn

from stablelint.targets.checkpoint import files, fill, pieces, values
from stablelint.trace import observe_build
from stablelint.trace.weights import statistics


def test_a_model_without_memory_gets_statistics(user_folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tiny = {"num_hidden_layers": 1, "hidden_size": 264, "num_attention_heads": 4, "vocab_size": 300}
    config = transformers.LlamaConfig(**tiny, intermediate_size=300, tie_word_embeddings=True)
    state = weights(transformers.LlamaForCausalLM(config))
    del state["lm_head.weight"]
    # the body alone, as AutoModel saves it
    save_file({name.removeprefix("model."): value for name, value in state.items()}, "model.safetensors")
    query = "&".join(f"{key}={value}" for key, value in tiny.items())
    found = built(
        f"hf:LlamaConfig?{query}&intermediate_size=300&tie_word_embeddings=True", user_folder / "model.safetensors"
    )
    assert found.model.model.embed_tokens.weight.is_meta
    assert not any("safetensors" in remark for remark in found.remarks)
    described = parameters(found)
    assert described.keys() >= state.keys()
    for name, value in state.items():
        each = described[name]
        assert (each.init, each.init_site) == ("checkpoint", None)
        *moments, similarity = statistics(value)
        assert (each.mean, each.std, each.rms) == pytest.approx(tuple(moments), rel=1e-5)
        assert each.row_similarity == similarity


class Reads:
    """What is read between two mappings of a file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.mappings = 0
        original, opened = files._File.read, files._Safetensors._handle

        def read(file: Any, name: str, piece: Any) -> torch.Tensor:
            found = original(file, name, piece)
            self.sizes.append(found.numel())
            return found

        def handle(file: Any) -> Any:
            self.mappings += file._opened is None
            return opened(file)

        monkeypatch.setattr(files._File, "read", read)
        monkeypatch.setattr(files._Safetensors, "_handle", handle)


@pytest.mark.parametrize("meta", [True, False])
def test_a_large_tensor_is_never_in_memory(meta: bool, monkeypatch: pytest.MonkeyPatch, user_folder: Path) -> None:
    """Six million elements of which a hundred thousand may be read at once, and a megabyte of one mapping."""
    table = torch.randn(3000, 2000, generator=torch.Generator().manual_seed(3)) * torch.linspace(1, 2, 3000)[:, None]
    save_file({"weight": table.half()}, "large.safetensors")
    with observe_build(allocate=not meta) as origins:
        model = nn.Embedding(3000, 2000)
    monkeypatch.setattr(files, "_MAPPED", 1 << 20)
    monkeypatch.setattr(values, "WHOLE", 100_000)
    reads = Reads(monkeypatch)
    fill(model, origins, user_folder / "large.safetensors", "it")
    assert max(reads.sizes) <= 100_000
    if meta:
        assert sum(reads.sizes) <= pieces.SAMPLE
        assert len(reads.sizes) >= 256
        found = origins.provenance.moments(model.weight)
        assert found is not None
        assert (found.std, found.rms) == pytest.approx(statistics(table)[1:3], rel=0.02)
        assert found.row_similarity == pytest.approx(0.0, abs=1e-3)
    else:
        assert torch.equal(model.weight, table.half().float())
    assert reads.mappings > 4
