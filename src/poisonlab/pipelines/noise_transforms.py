"""Fresh random noise as torchvision transforms (FRIENDS: Liu, Yang, Mirzasoleiman 2022, section 3.3)."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from poisonlab.config.defenses.random_noise import RandomNoise as Settings
from poisonlab.data.image_range import check_images
from poisonlab.defenses.random_noise import random_noise
from poisonlab.errors import DataError, SettingsError


class _Noise(v2.Transform):  # type: ignore[misc]
    """Adds fresh random noise to every value of every image, in each call.

    Put it before ``Normalize``, on float images (..., C, H, W) in [0, 1]; boxes and masks pass unchanged. Random
    numbers come from torch's global generator: those of each ``DataLoader`` worker differ, and ``torch.manual_seed``
    repeats them.

    Args:
        mu: magnitude in levels of 1/255, from 1 to 255.
        clip: whether the noisy image is clipped to [0, 1]; the released code of FRIENDS does not.

    Raises:
        SettingsError: ``mu`` is out of range.
        DataError: it is called on a PIL or NumPy image, integers, or values beyond [0, 1].
    """

    _distribution: ClassVar[Literal["bernoulli", "gaussian", "uniform"]]

    def __init__(self, mu: float = 16.0, clip: bool = False) -> None:
        super().__init__()
        try:
            self._settings = Settings(distribution=self._distribution, mu=mu, clip=clip)
        except ValidationError as error:
            why = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            raise SettingsError(f"{type(self).__name__}({mu=}): {why}") from error
        self.mu, self.clip = mu, clip

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        # torchvision passes everything else unchanged, so that a NumPy image would get no noise.
        if not any(isinstance(each, Tensor | Image.Image) for each in flat_inputs):
            found = ", ".join(dict.fromkeys(type(each).__name__ for each in flat_inputs)) or "nothing"
            raise self._refusal(f"{found} without an image tensor")

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if isinstance(inpt, tv_tensors.TVTensor) and not isinstance(inpt, tv_tensors.Image | tv_tensors.Video):
            return inpt
        name = type(self).__name__
        if isinstance(inpt, Image.Image) or not inpt.is_floating_point():
            raise self._refusal("a PIL image" if isinstance(inpt, Image.Image) else inpt.dtype)
        image = inpt.as_subclass(Tensor)
        check_images(image, f"images for {name}, which stands before Normalize,")
        stream = _global_stream(image.device)
        noisy = image + random_noise(image.shape, self._settings, stream, stream.device).to(image)
        noisy = noisy.clamp(0, 1) if self.clip else noisy
        return tv_tensors.wrap(noisy, like=inpt) if isinstance(inpt, tv_tensors.TVTensor) else noisy

    def _refusal(self, found: Any) -> DataError:
        return DataError(
            f"{type(self).__name__} needs float images in [0, 1], not {found}: put v2.ToImage() and "
            "v2.ToDtype(torch.float32, scale=True) before it"
        )


def _global_stream(device: torch.device) -> torch.Generator:
    if device.type != "cuda":
        return torch.default_generator
    number = torch.cuda.current_device() if device.index is None else device.index
    return torch.cuda.default_generators[number]


class BernoulliNoise(_Noise):
    __doc__ = "Noise of -mu or mu levels with equal chance: FRIENDS-B.\n\n" + cleandoc(str(_Noise.__doc__))
    _distribution = "bernoulli"


class UniformNoise(_Noise):
    __doc__ = "Noise uniform between -mu and mu levels: FRIENDS-U.\n\n" + cleandoc(str(_Noise.__doc__))
    _distribution = "uniform"


class GaussianNoise(_Noise):
    __doc__ = "Normal noise with a standard deviation of mu levels: FRIENDS-G.\n\n" + cleandoc(str(_Noise.__doc__))
    _distribution = "gaussian"
