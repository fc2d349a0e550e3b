from __future__ import annotations

import sys

import pytest

from stablelint.errors import ImportTargetError
from stablelint.targets.build import candidates
from stablelint.targets.spec import Request

pytest.importorskip("torchvision")
pytest.importorskip("timm")


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        ("torchvision:resnet18", (2, 3, 224, 224)),
        ("torchvision:vit_b_16", (2, 3, 224, 224)),
        ("torchvision:lraspp_mobilenet_v3_large", (2, 3, 224, 224)),
        ("timm:convnext_atto", (2, 3, 224, 224)),
        ("timm:mobilevitv2_050", (2, 3, 256, 256)),
    ],
)
def test_a_model_by_name_comes_with_inputs_of_its_size(spec: str, shape: tuple[int, ...]) -> None:
    (candidate,) = candidates(Request(spec))
    assert candidate.name == spec
    assert candidate.build().inputs.args[0].shape == shape


def test_a_detector_gets_images_with_boxes() -> None:
    (candidate,) = candidates(Request("torchvision:ssdlite320_mobilenet_v3_large"))
    images, targets = candidate.build().inputs.args
    assert len(images) == len(targets) == 2


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("torchvision:resnet81", "torchvision has no model 'resnet81'; did you mean"),
        ("timm:convnext_ato", "timm has no model 'convnext_ato'; did you mean"),
    ],
)
def test_an_unknown_name_is_one_sentence(spec: str, sentence: str) -> None:
    with pytest.raises(ImportTargetError, match=sentence):
        candidates(Request(spec))


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_library_that_is_missing_is_one_sentence(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportTargetError, match=f"needs {library}, which is not installed: pip install {library}"):
        candidates(Request(f"{library}:anything"))
