"""Networks of timm and torchvision by name: their own numbers, their own features, weights from files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from poisonlab.config.models.timm import Timm
from poisonlab.config.models.torchvision import Torchvision
from poisonlab.errors import DamagedError, DataError, PoisonlabError, SettingsError
from poisonlab.models.blocks import blocks_of, features_on_the_way
from poisonlab.models.classifier import Classifier, FrozenFeatures
from poisonlab.models.timm import build as of_timm
from poisonlab.models.torchvision import build as of_torchvision

IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
VIT: dict[str, Any] = {"patch_size": 8, "depth": 2}
SHUFFLE = "shufflenet_v2_x0_5"


def saved(network: nn.Module, path: Path, **changes: Tensor | None) -> str:
    """The network's weights as the libraries publish them, with some of them replaced or left out."""
    tensors = {
        name: tensor.contiguous() for name, tensor in {**network.state_dict(), **changes}.items() if tensor is not None
    }
    save_file(tensors, path)
    return str(path)


@pytest.mark.parametrize(
    ("model", "options"), [("test_resnet", {}), ("test_efficientnet", {}), ("test_vit", VIT), ("test_convnext", {})]
)
def test_timm_s_own_logits_and_features(model: str, options: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(1)
    sized = {"img_size": 32} if options else {}
    plain = timm.create_model(model, num_classes=5, **sized, **options).eval()
    ours = of_timm(5, (3, 32, 32), model, saved(plain, tmp_path / "weights.safetensors"), options).eval()
    with torch.no_grad():
        assert torch.equal(ours(IMAGES), plain(IMAGES))
        expected = plain.forward_head(plain.forward_features(IMAGES), pre_logits=True)
        assert torch.equal(ours.extract(IMAGES), expected)


@pytest.mark.parametrize(("model", "head"), [(SHUFFLE, "fc"), ("mnasnet0_5", "classifier.1")])
def test_torchvision_s_own_logits_and_features(model: str, head: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    plain = torchvision.models.get_model(model, weights=None, num_classes=5).eval()
    seen: list[Tensor] = []
    plain.get_submodule(head).register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    ours = of_torchvision(5, (3, 32, 32), model, saved(plain, tmp_path / "weights.safetensors")).eval()
    with torch.no_grad():
        assert torch.equal(ours(IMAGES), plain(IMAGES))
        assert torch.equal(ours.extract(IMAGES), seen[0])


def test_initial_weights_are_the_library_s() -> None:
    torch.manual_seed(3)
    ours = of_timm(5, (3, 32, 32), "test_resnet")
    torch.manual_seed(3)
    plain = timm.create_model("test_resnet", num_classes=5)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), plain.parameters(), strict=True))


def test_a_transformer_is_made_for_the_image_s_size() -> None:
    network = of_timm(5, (3, 16, 24), "test_vit", None, VIT)
    # Six patches and the class token.
    assert dict(network.named_parameters())["extract.network.pos_embed"].shape == (1, 7, 64)
    assert network(torch.randn(2, 3, 16, 24)).shape == (2, 5)


def test_features_on_the_way_are_those_of_hooks() -> None:
    network = of_timm(5, (3, 32, 32), "test_resnet").eval()
    stages = [network.extract.get_submodule(f"network.layer{number}.0") for number in (1, 2, 3, 4)]
    assert blocks_of(network.extract)[-4:] == stages
    seen: list[Tensor] = []
    hook = stages[2].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        found = features_on_the_way(network, IMAGES, 1)
    hook.remove()
    assert torch.equal(found[0], seen[0])
    assert torch.equal(found[1], network.extract(IMAGES))


def test_frozen_features_stay_as_they_are() -> None:
    """Batch norm and dropout, as in the lab's own networks."""
    whole = of_timm(5, (3, 32, 32), "test_efficientnet", None, {"drop_rate": 0.5})
    frozen = FrozenFeatures(whole.extract, whole.head).train()
    assert torch.equal(frozen(IMAGES), frozen(IMAGES))
    unfrozen = Classifier(whole.extract, whole.head).train()
    assert not torch.equal(unfrozen(IMAGES), unfrozen(IMAGES))


def test_a_head_of_other_classes_is_drawn_anew_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = timm.create_model("test_resnet", num_classes=7)
    ours = of_timm(5, (3, 32, 32), "test_resnet", saved(plain, tmp_path / "weights.safetensors"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "the head of timm's test_resnet is drawn anew" in line
    assert "(5, 96)" in line
    assert "fc.weight (7, 96)" in line
    assert ours.head.weight.shape == (5, 96)
    assert torch.equal(
        dict(ours.named_parameters())["extract.network.layer4.0.conv1.weight"], plain.layer4[0].conv1.weight
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layer1.0.conv1.weight": None}, "holds no layer1.0.conv1.weight, which timm's test_resnet needs"),
        ({"layer1.0.conv1.weight": torch.zeros(1)}, "layer1.0.conv1.weight is (1,), and"),
        ({"layer9.weight": torch.zeros(1)}, "holds layer9.weight, for which timm's test_resnet has no place"),
    ],
)
def test_weights_of_another_network_are_one_line(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = saved(timm.create_model("test_resnet", num_classes=5), tmp_path / "weights.safetensors", **changes)
    with pytest.raises(DataError) as caught:
        of_timm(5, (3, 32, 32), "test_resnet", path)
    assert words in str(caught.value)


def test_older_files_have_no_counts_of_batches(tmp_path: Path) -> None:
    plain = timm.create_model("test_resnet", num_classes=5)
    counts = dict.fromkeys(name for name in plain.state_dict() if name.endswith("num_batches_tracked"))
    assert counts
    of_timm(5, (3, 32, 32), "test_resnet", saved(plain, tmp_path / "weights.safetensors", **counts))


def test_files_that_are_no_weights_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pretrained: there is no file"):
        of_timm(5, (3, 32, 32), "test_resnet", str(tmp_path / "none"))
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(DamagedError, match=r"no \.safetensors file"):
        of_timm(5, (3, 32, 32), "test_resnet", str(tmp_path / "text"))


@pytest.mark.parametrize(
    ("build", "model", "options", "words"),
    [
        (of_timm, "test_resnt", {}, "timm has no network 'test_resnt': did you mean test_resnet, "),
        (of_timm, "hf-hub:a", {}, "timm has no network 'hf-hub:a'"),
        (
            of_timm,
            "test_resnet",
            {"depht": 2},
            "timm's test_resnet cannot be made (ResNet.__init__() got an unexpected",
        ),
        (of_timm, "test_vit", {"patch_size": 64}, "timm's test_vit cannot "),
        (of_timm, "test_mambaout", {"global_pool": "no"}, "timm's test_mambaout cannot be made"),
        (of_torchvision, "shufflenet", {}, "torchvision has no network 'shufflenet': did you mean shufflenet_v2_"),
        (of_torchvision, "squeezenet1_1", {}, "torchvision's squeezenet1_1 has no features with a linear head"),
    ],
)
def test_what_cannot_be_is_one_line(build: Any, model: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build(5, (3, 32, 32), model, None, options)
    assert words in str(caught.value)


def test_a_missing_package_is_named_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(PoisonlabError, match="pip install timm"):
        of_timm(5, (3, 32, 32), "test_resnet")


@pytest.mark.parametrize("option", ["checkpoint_path", "num_classes", "weights", "in_chans"])
def test_what_the_lab_decides_is_no_option(option: str) -> None:
    for kind in (Timm, Torchvision):
        with pytest.raises(ValidationError, match=f"options must not hold {option}"):
            kind.model_validate({"model": "resnet18", "options": {option: "x"}})


def test_options_are_told_as_they_are() -> None:
    told = Timm(
        model="test_vit", options={"depth": 2, "qkv_bias": False, "drop_rate": 0.5, "init": "x", "at": (1, 2)}
    ).told()
    assert told["options"] == {"depth": 2, "qkv_bias": False, "drop_rate": 0.5, "init": "x", "at": [1, 2]}
    assert Timm.model_validate(told) == Timm.model_validate({**told, "options": told["options"]})
