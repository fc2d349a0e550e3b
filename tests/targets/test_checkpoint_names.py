"""Names of a checkpoint against those of a model, without files and without torch."""

from __future__ import annotations

import pytest

from stablelint.targets.checkpoint.names import match
from stablelint.targets.checkpoint.pieces import SAMPLE, sample, tiles

MODEL = {"body.0.weight": (8, 4), "body.0.bias": (8,), "body.1.weight": (8, 8), "head.weight": (2, 8)}


def shapes(names: dict[str, tuple[int, ...]], *, add: str = "", cut: str = "") -> dict[str, tuple[int, ...]]:
    return {add + name.removeprefix(cut): shape for name, shape in names.items() if name.startswith(cut)}


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "state_dict.net.", "module._orig_mod."])
def test_a_wrapper_of_all_names_is_seen_through(prefix: str) -> None:
    found = match(MODEL, shapes(MODEL, add=prefix))
    assert found.pairs == {name: prefix + name for name in MODEL}
    assert found.others == ()


@pytest.mark.parametrize("wrapper", ["", "module."])
def test_a_body_without_its_prefix_and_a_head_beside_it(wrapper: str) -> None:
    file = shapes({**shapes(MODEL, cut="body."), "head.weight": (2, 8), "0.num_batches_tracked": ()}, add=wrapper)
    assert match(MODEL, file).pairs == {name: wrapper + name.removeprefix("body.") for name in MODEL}


def test_a_prefix_on_both_sides() -> None:
    body = shapes(MODEL, add="module.", cut="body.")
    assert set(match(MODEL, body).pairs) == {name for name in MODEL if name.startswith("body.")}


def test_a_body_in_a_dictionary_beside_others() -> None:
    file = {**shapes(MODEL, add="weights.net.", cut="body."), "scaler.scale": ()}
    found = match(MODEL, file, {"weights.", "scaler."})
    assert found.pairs == {name: f"weights.net.{name.removeprefix('body.')}" for name in MODEL if "body" in name}


def test_a_wrapper_in_the_middle() -> None:
    file = {name.replace("body.", "body._orig_mod."): shape for name, shape in MODEL.items()}
    assert match(MODEL, file).pairs.keys() == MODEL.keys()
    assert match(file, MODEL).pairs.keys() == file.keys()


def test_of_several_parts_the_one_whose_shapes_fit_is_taken() -> None:
    other = {f"critic.{name}": (*shape, 3) for name, shape in MODEL.items()}
    found = match(MODEL, {**other, **shapes(MODEL, add="generator.")})
    assert found.prefix == "generator."
    assert found.others == ()


def test_the_models_own_weights_go_before_averaged_ones_and_a_choice_is_reported() -> None:
    found = match(MODEL, {**shapes(MODEL, add="ema."), **shapes(MODEL, add="model.")})
    assert (found.prefix, found.others) == ("model.", ("ema.",))


def test_one_stack_is_not_taken_for_another() -> None:
    """Names that are right as they stand are not renamed, though ``decoder`` would fit as well."""
    model = {**shapes(MODEL, add="encoder."), **shapes(MODEL, add="decoder.")}
    found = match(model, shapes(MODEL, add="encoder."))
    assert set(found.pairs) == set(shapes(MODEL, add="encoder."))
    assert found.others == ()


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ("conv.parametrizations.weight.original0", "conv.weight_g"),
        ("conv.parametrizations.weight.original1", "conv.weight_v"),
        ("conv.parametrizations.weight.original", "conv.weight_orig"),
        ("conv.parametrizations.weight.0._u", "conv.weight_u"),
        ("norm.weight", "norm.gamma"),
        ("norm.bias", "norm.beta"),
    ],
)
def test_spellings_of_older_versions(new: str, old: str) -> None:
    assert match({new: (3,)}, {f"module.{old}": (3,)}).pairs == {new: f"module.{old}"}
    assert match({old: (3,)}, {f"module.{new}": (3,)}).pairs == {old: f"module.{new}"}


def test_a_model_with_both_spellings_keeps_them_apart() -> None:
    both = {"norm.gamma": (3,), "norm.weight": (3,)}
    assert match(both, both).pairs == {name: name for name in both}


def test_nothing_in_common() -> None:
    assert match(MODEL, {"conv1.kernel": (3, 3)}).pairs == {}


@pytest.mark.parametrize("shape", [(5,), (1000,), (7, 33), (3, 50, 11), (2, 3, 700), (1, 900), (0, 4), ()])
def test_tiles_cover_every_element_once(shape: tuple[int, ...]) -> None:
    numpy = pytest.importorskip("numpy")
    seen = numpy.zeros(shape, dtype=int)
    for piece in tiles(shape, 64):
        assert seen[piece].size <= 64
        seen[piece] += 1
    assert bool((seen == 1).all())


@pytest.mark.parametrize(
    "shape", [(1 << 24,), (30000, 300), (300, 70000), (1 << 22, 4), (2, 1 << 23), (128, 700, 900), (1, 3, 1 << 22)]
)
def test_a_sample_is_bounded_spread_and_has_the_same_columns_in_all_rows(shape: tuple[int, ...]) -> None:
    groups = sample(shape)
    size = 0
    for group in groups:
        assert all(piece[0] == group[0][0] for piece in group)
        assert [piece[1:] for piece in group] == [piece[1:] for piece in groups[0]]
        for piece in group:
            lengths = [len(range(*each.indices(axis))) for each, axis in zip(piece, shape, strict=False)]
            assert min(lengths) >= 1
            count = 1
            for length in (*lengths, *shape[len(piece) :]):
                count *= length
            size += count
    assert SAMPLE / 8 < size <= SAMPLE
    assert groups[0][0][0].start < shape[0] / 4 or shape[0] < 4
    assert groups[-1][0][0].stop > shape[0] * 3 / 4
