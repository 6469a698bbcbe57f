"""Operations whose bits cannot be made to repeat on a GPU, watched for on a CPU."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

WITHOUT = frozenset(
    {
        "_adaptive_avg_pool2d_backward",
        "_adaptive_avg_pool3d_backward",
        "_ctc_loss_backward",
        "_embedding_bag",
        "_scaled_dot_product_efficient_attention_backward",
        "adaptive_max_pool2d_backward",
        "adaptive_max_pool3d_backward",
        "avg_pool3d_backward",
        "fractional_max_pool2d_backward",
        "fractional_max_pool3d_backward",
        "grid_sampler_2d_backward",
        "grid_sampler_3d_backward",
        "histc",
        "kthvalue",
        "max_pool3d_with_indices_backward",
        "max_unpool2d",
        "max_unpool3d",
        "nll_loss2d_forward",
        "put",
        "put_",
        "reflection_pad1d_backward",
        "reflection_pad2d_backward",
        "reflection_pad3d_backward",
        "scatter_reduce",
        "scatter_reduce_",
        "upsample_bicubic2d_backward",
        "upsample_bilinear2d_backward",
        "upsample_linear1d_backward",
        "upsample_trilinear3d_backward",
    }
)
"""Those that ``torch.use_deterministic_algorithms`` warns of on CUDA, by their names in ATen. The documentation of
torch 2.15 lists them by their names in Python, and with them median with indices and bincount with weights."""


class Watched(TorchDispatchMode):
    """Collects the operations without a deterministic form that run within.

    Attributes:
        found: their names.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        full = func.name().removeprefix("aten::")
        name = full.split(".")[0]
        weighted = name == "bincount" and [*args, None][1] is not None
        if name in WITHOUT or full in ("median.dim", "nanmedian.dim") or weighted:
            self.found.add(name)
        return func(*args, **kwargs)
