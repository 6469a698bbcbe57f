"""FriendlyDataset: each example gets its own noise, wherever and in whatever order it is read."""

from __future__ import annotations

import pickle
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from poisonlab import BernoulliNoise, FriendlyDataset, images_of, load_noise, save_noise
from poisonlab.errors import DataError, SettingsError

COUNT = 12


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (COUNT, 3, 8, 10), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.fixture
def noise() -> Tensor:
    """Levels that float16 holds exactly enough: at most 16."""
    return (torch.rand(COUNT, 3, 8, 10, generator=torch.Generator().manual_seed(2)) - 0.5) * (32 / 255)


def expected(images: Tensor, noise: Tensor) -> Tensor:
    return (images.float() / 255 + noise).clamp(0, 1)


class Listed(Dataset[Any]):
    """Examples as they are given."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __getitem__(self, index: int) -> Any:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)


def as_pil(images: Tensor) -> list[Image.Image]:
    return [v2.functional.to_pil_image(image) for image in images]


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64", "PIL", "named", "list", "mapping"])
def test_every_kind_of_example_gets_its_own_noise(kind: str, images: Tensor, noise: Tensor) -> None:
    pairs: list[Any] = list(zip(images, range(COUNT), strict=True))
    key: int | str = 0
    if kind.startswith("float"):
        pairs = [((image.double() / 255).to(getattr(torch, kind)), label) for image, label in pairs]
    if kind == "PIL":
        pairs = list(zip(as_pil(images), range(COUNT), strict=True))
    if kind == "named":
        pairs = [namedtuple("Pair", "image label")(*pair) for pair in pairs]
    if kind == "list":
        pairs = [[label, image] for image, label in pairs]
        key = 1
    if kind == "mapping":
        pairs = [{"image": image, "label": label} for image, label in zip(as_pil(images), range(COUNT), strict=True)]
        key = "image"
    made = FriendlyDataset(Listed(pairs), noise, key=key)
    for row in range(COUNT):
        item = made[row]
        assert type(item) is type(pairs[row])
        assert torch.allclose(item[key], expected(images, noise)[row], atol=1e-6)
        assert item[key].dtype == torch.float32
        others = [value for value in (item.values() if isinstance(item, dict) else item) if isinstance(value, int)]
        assert others == [row]
    assert len(made) == COUNT
    assert torch.equal(made[-1][key], made[COUNT - 1][key])
    with pytest.raises(IndexError):
        made[COUNT]


def test_what_is_not_the_image_is_handed_on(images: Tensor, noise: Tensor) -> None:
    made = FriendlyDataset(Listed([(image, 3, "name", {"more": 1}) for image in images]), noise)
    assert made[4][1:] == (3, "name", {"more": 1})


def test_rounded_images_of_eight_bits_are_within_half_a_level(images: Tensor, noise: Tensor) -> None:
    made = FriendlyDataset(TensorDataset(images, torch.arange(COUNT)), noise, output="pil")
    image = made[2][0]
    assert isinstance(image, Image.Image)
    assert (
        v2.functional.to_dtype(v2.functional.to_image(image), scale=True) - expected(images, noise)[2]
    ).abs().max() <= 0.501 / 255


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_samplers_and_subsets_keep_noise_and_image_together(
    workers: int, images: Tensor, noise: Tensor, tmp_path: Path
) -> None:
    save_noise(tmp_path / "noise.safetensors", noise)
    made = FriendlyDataset(TensorDataset(images, torch.arange(COUNT)), tmp_path / "noise.safetensors")
    wanted = expected(images, noise.half().float())
    loader = DataLoader(made, batch_size=5, shuffle=True, num_workers=workers)
    for _epoch in range(2):
        batches = list(loader)
        seen = torch.cat([rows for _, rows in batches])
        assert sorted(seen.tolist()) == list(range(COUNT))
        assert torch.equal(torch.cat([batch for batch, _ in batches]), wanted[seen])
    chosen = [7, 2, 9]
    batch, rows = next(iter(DataLoader(Subset(made, chosen), batch_size=3, num_workers=workers)))
    assert rows.tolist() == chosen
    assert torch.equal(batch, wanted[chosen])
    shares = []
    for rank in range(2):
        sampler: DistributedSampler[Any] = DistributedSampler(made, num_replicas=2, rank=rank, shuffle=True)
        for batch, rows in DataLoader(made, batch_size=4, sampler=sampler, num_workers=workers):
            assert torch.equal(batch, wanted[rows])
            shares += rows.tolist()
    assert sorted(shares) == list(range(COUNT))


def test_random_noise_is_fresh_in_every_draw_and_differs_between_workers(images: Tensor, noise: Tensor) -> None:
    same = TensorDataset(images[:1].expand(8, -1, -1, -1), torch.arange(8))
    made = FriendlyDataset(same, noise[:1].expand(8, -1, -1, -1), BernoulliNoise(16))
    loader = DataLoader(made, batch_size=1, num_workers=2, generator=torch.Generator().manual_seed(0))
    drawn = [batch.flatten().tolist() for _epoch in range(2) for batch, _ in loader]
    assert len({tuple(each) for each in drawn}) == 16
    again = DataLoader(made, batch_size=1, num_workers=2, generator=torch.Generator().manual_seed(0))
    assert [batch.flatten().tolist() for _epoch in range(2) for batch, _ in again] == drawn


def test_noise_comes_before_the_transform(images: Tensor, noise: Tensor) -> None:
    flip = v2.RandomHorizontalFlip(1.0)
    made = FriendlyDataset(TensorDataset(images, torch.arange(COUNT)), noise, flip)
    assert torch.equal(made[3][0], expected(images, noise)[3].flip(-1))
    made.transform = None
    assert torch.equal(made[3][0], expected(images, noise)[3])


def test_a_file_s_noise_is_mapped_and_reopened_in_workers(images: Tensor, noise: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "noise.safetensors"
    save_noise(path, noise)
    made = FriendlyDataset(TensorDataset(images, torch.arange(COUNT)), path)
    assert str(path) in Path("/proc/self/maps").read_text("utf-8")
    packed = pickle.dumps(made.noise)
    assert len(packed) < 1000
    assert torch.equal(pickle.loads(packed).values, noise.half())
    loader = DataLoader(made, batch_size=COUNT, num_workers=1, multiprocessing_context="spawn")
    assert torch.equal(next(iter(loader))[0], expected(images, noise.half().float()))


def folder_of(images: Tensor, place: Path) -> Path:
    """Class folders that torchvision sorts as text (1, 10, 2) and the lab by number."""
    for row, image in enumerate(as_pil(images)):
        path = place / ("1", "2", "10")[row % 3] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return place


def test_names_find_the_noise_of_a_folder_in_another_order(images: Tensor, noise: Tensor, tmp_path: Path) -> None:
    folder = ImageFolder(str(folder_of(images, tmp_path / "train")))
    names = [f"{('1', '2', '10')[row % 3]}/{row}.png" for row in range(COUNT)]
    save_noise(tmp_path / "noise.safetensors", noise, names)
    made = FriendlyDataset(folder, tmp_path / "noise.safetensors")
    rows = [int(Path(path).stem) for path, _ in folder.samples]
    assert rows != list(range(COUNT))
    for place, row in enumerate(rows):
        assert torch.equal(made[place][0], expected(images, noise.half().float())[row])
    some = Subset(folder, [3, 1])
    part = FriendlyDataset(
        some, load_noise(tmp_path / "noise.safetensors"), names=[folder.samples[3][0], names[rows[1]]]
    )
    assert torch.equal(part[0][0], made[3][0])
    with pytest.raises(DataError, match=r"no noise for 1 of 1 images, '1/none\.png' first"):
        load_noise(tmp_path / "noise.safetensors").rows(["1/none.png"])


def test_a_file_that_names_its_images_is_never_read_in_another_order(
    images: Tensor, noise: Tensor, tmp_path: Path
) -> None:
    """Equal lengths prove nothing: classes, or a shuffled Subset, may stand in another order."""
    for number, image in enumerate(as_pil(images)):
        (tmp_path / "folder" / f"class{number % 2}").mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "folder" / f"class{number % 2}" / f"{number:02}.png")
    folder = ImageFolder(str(tmp_path / "folder"), v2.ToImage())
    file = tmp_path / "noise.safetensors"
    save_noise(file, noise, [path for path, _ in folder.samples])
    plain = FriendlyDataset(folder, file)
    for order in (torch.randperm(COUNT, generator=torch.Generator().manual_seed(3)).tolist(), [7, 2]):
        shuffled = FriendlyDataset(Subset(folder, order), file)
        for place, row in enumerate(order):
            assert torch.equal(shuffled[place][0], plain[row][0])
    tensors = TensorDataset(images, torch.arange(COUNT))
    with pytest.raises(DataError, match=r"the dataset has no names: pass names=.*load_noise\(path\)\.values"):
        FriendlyDataset(tensors, file)
    assert len(FriendlyDataset(tensors, load_noise(file).values)) == COUNT


def test_all_images_of_a_dataset_in_one_tensor(images: Tensor) -> None:
    assert torch.equal(images_of(Listed([{"img": image} for image in as_pil(images)]), "img"), images)
    with pytest.raises(DataError, match=r"image 1 of the dataset is torch.uint8 of .*3, 8, 9.* resize"):
        images_of(Listed([(images[0], 0), (images[1, :, :, 1:], 0)]))
    with pytest.raises(DataError, match="empty"):
        images_of(Listed([]))


def test_a_dataset_that_augments_is_refused(images: Tensor, noise: Tensor) -> None:
    class Augmented(Listed):
        def __getitem__(self, index: int) -> Any:
            image, label = self.items[index]
            return v2.RandomCrop(8, padding=4, pad_if_needed=True)(image), label

    with pytest.raises(DataError, match=r"another image at each reading.*transform="):
        FriendlyDataset(Augmented(list(zip(images[:, :, :, :8], range(COUNT), strict=True))), noise[:, :, :, :8])


def test_a_dataset_that_only_mirrors_is_refused_whatever_the_draw(images: Tensor, noise: Tensor) -> None:
    class Mirrored(Listed):
        def __getitem__(self, index: int) -> Any:
            image, label = super().__getitem__(index)
            return v2.RandomHorizontalFlip()(image), label

    data = Mirrored(list(zip(images, range(COUNT), strict=True)))
    for seed in range(50):
        torch.manual_seed(seed)
        with pytest.raises(DataError, match="another image at each reading"):
            FriendlyDataset(data, noise)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda images, noise: (images, noise[:5]), "noise of 5 images does not fit a dataset of 12: take a Subset"),
        (lambda images, noise: (images, noise[:, :, :7]), "make the noise for images as the dataset gives them"),
        (lambda images, noise: (images, noise * 255), "unit is the .0, 1. pixel range: divide levels by 255"),
        (
            lambda images, noise: (images, torch.cat([noise[:1] * 0, noise[1:] * 255])),
            "unit is the .0, 1. pixel range: divide levels by 255",
        ),
        (
            lambda images, noise: (images, torch.cat([noise[:-1], noise[-1:] / 0])),
            "noise lies in .nan|noise lies in .-inf",
        ),
        (lambda images, noise: (images, noise[0]), "noise of 3 images does not fit"),
        (lambda images, noise: (images.float() / 100 - 1, noise), "undo their normalisation"),
        (lambda images, noise: (images.float(), noise), "divide them by 255"),
        (lambda images, noise: (images.int(), noise), "not int32"),
        (lambda images, noise: (images[:, 0], noise), r"has shape \(8, 10\): images must be \(C, H, W\)"),
    ],
)
def test_what_does_not_fit_is_one_line(spoil: Any, message: str, images: Tensor, noise: Tensor) -> None:
    images, noise = spoil(images, noise)
    with pytest.raises(DataError, match=message) as caught:
        FriendlyDataset(TensorDataset(images, torch.arange(COUNT)), noise)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_a_pil_image_of_more_than_8_bits_is_not_to_be_converted(mode: str) -> None:
    """Pillow's convert makes every value above 255 white."""
    assert Image.new(mode, (1, 1), 4000).convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(DataError, match=f"mode {mode}: let the dataset scale its values to 0 to 255"):
        images_of([(Image.new(mode, (8, 8)), 0)])


def test_other_examples_than_pairs_are_refused(images: Tensor, noise: Tensor) -> None:
    for items, key, message in (
        (list(images), 0, "is a Tensor: a dataset must give"),
        ([{"image": image} for image in images], 0, "has no 0: key names"),
        ([(image.numpy(), 0) for image in images], 0, "is a ndarray"),
        ([(image.convert("P"), 0) for image in as_pil(images)], 0, 'mode P: let the dataset convert."RGB".'),
    ):
        with pytest.raises(DataError, match=message):
            FriendlyDataset(Listed(items), noise, key=key)
    with pytest.raises(DataError, match="empty"):
        FriendlyDataset(Listed([]), noise[:0])
    with pytest.raises(DataError, match="names find rows of a file"):
        FriendlyDataset(TensorDataset(images, torch.arange(COUNT)), noise, names=["a/b.png"] * COUNT)
    with pytest.raises(DataError, match=r"has no length: .* pass a map-style dataset"):
        FriendlyDataset(iter([]), noise)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="output is 'PIL': choose 'tensor' or 'pil'"):
        FriendlyDataset(TensorDataset(images, torch.arange(COUNT)), noise, output="PIL")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"none\.safetensors is missing: correct the path, or make the noise"):
        FriendlyDataset(TensorDataset(images, torch.arange(COUNT)), "none.safetensors")
