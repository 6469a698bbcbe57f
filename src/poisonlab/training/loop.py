"""The training loop: data on the device, one batched pass per step, exact resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from poisonlab.config.recipe import Recipe
from poisonlab.data.augmentation import augment
from poisonlab.data.training_set import TrainingSet, pixels
from poisonlab.defenses.defense import Batch, Defense, EpochEnd
from poisonlab.errors import DivergedError, PoisonlabError, SettingsError
from poisonlab.models.classifier import Classifier, FrozenFeatures, Normalize
from poisonlab.randomness import generator, stream_seed
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.schedule import learning_rate
from poisonlab.training.sgd import Sgd, sgd_of

EpochRecord = dict[str, float]
"""One epoch's numbers: ``epoch``, ``lr``, ``train_loss``, ``examples`` and what ``observe`` measured."""

Observe = Callable[[nn.Module, TrainingSet, bool], dict[str, float]]
"""Measures a model (normalised images to logits, in eval mode) and what the defenses have left of the training set; the
flag asks for the costly numbers too."""


def train(
    model: nn.Module,
    normalize: Normalize,
    data: TrainingSet,
    recipe: Recipe,
    *,
    seed: int,
    defenses: Sequence[Defense] = (),
    observe: Observe | None = None,
    until: int | None = None,
    checkpoint: Checkpoint | None = None,
    progress: bool = False,
) -> list[EpochRecord]:
    """Train ``model`` in place.

    Each step: gather a batch, scale it to [0, 1], let the defenses change it, normalise, augment, let the defenses mix
    it, and take one SGD step on the cross-entropy or a defense's loss. The same seed, device and thread count give the
    same bits, interrupted or not.

    Args:
        model: maps normalised images (B, C, H, W) to logits (B, K); already on its device, which is used throughout.
        normalize: on the same device.
        data: moved to the device.
        recipe: schedule, augmentation, precision; a defense may have one of its own made of it.
        seed: of batch order, augmentation, noise and dropout; not of the initial weights.
        defenses: applied in order.
        observe: called after every epoch.
        until: stop after this many epochs of the recipe's schedule.
        checkpoint: where to save and resume.
        progress: show a progress bar.

    Returns:
        One record per epoch.

    Raises:
        DivergedError: the loss or a weight became NaN or infinite; epoch and batch are named.
        PoisonlabError: the defenses dropped every example.
    """
    device = next(model.parameters()).device
    for defense in defenses:
        recipe = defense.schedule(recipe)
    for defense in defenses:
        data = defense.prepare(data)
    full = data = data.to(device)
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)
    optimizer = sgd_of(model, recipe)
    last = recipe.epochs if until is None else until
    history: list[EpochRecord] = []
    if checkpoint is not None and (saved := checkpoint.load()) is not None:
        history, data = _restore(saved, model, optimizer, full)
    forward: nn.Module = torch.compile(model) if recipe.compile else model  # type: ignore[assignment]
    features = _fixed_features(model, normalize, full, recipe, defenses)
    with ExitStack() as stack:
        for defense in defenses:
            stack.enter_context(defense.attached(model))
        bar = stack.enter_context(tqdm(total=last, initial=len(history), unit="epoch", disable=not progress))
        for epoch in range(len(history), last):
            loss = _train_epoch(forward, normalize, data, recipe, optimizer, seed, defenses, epoch, features)
            record: EpochRecord = {
                "epoch": epoch,
                "lr": _rate(recipe, defenses, epoch),
                "train_loss": loss,
                "examples": len(data),
            }
            model.eval()
            for defense in defenses:
                data = defense.end_epoch(EpochEnd(epoch, model, normalize, data, full, recipe))
            if len(data) == 0:
                raise PoisonlabError(f"the defenses dropped every example by the end of epoch {epoch}")
            if observe is not None:
                costly = (epoch + 1) % recipe.evaluate_every == 0 or epoch + 1 == last
                record |= observe(model, data, costly)
            history.append(record)
            if checkpoint is not None and epoch + 1 < last and checkpoint.due():
                _save(checkpoint, model, optimizer, data, history)
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()
    model.eval()
    return history


def _train_epoch(
    model: nn.Module,
    normalize: Normalize,
    data: TrainingSet,
    recipe: Recipe,
    optimizer: Sgd,
    seed: int,
    defenses: Sequence[Defense],
    epoch: int,
    features: Tensor | None,
) -> float:
    """One pass over the data, or over its ``features`` by row if they are fixed; returns the mean loss over its
    examples."""
    device = data.labels.device
    model.train()
    augmentation = generator(device, seed, "augment", epoch)
    streams = [generator(device, seed, "defense", place, epoch) for place in range(len(defenses))]
    torch.manual_seed(stream_seed(seed, "dropout", epoch))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    total = torch.zeros((), device=device, dtype=torch.float64)
    losses: list[Tensor] = []
    batches = _batches(len(data), recipe, defenses, seed, epoch, device)
    for number, chosen in enumerate(batches):
        optimizer.rate = _rate(recipe, defenses, epoch + number / len(batches))
        labels, rows = data.labels[chosen], data.rows[chosen]
        if features is not None:
            logits = cast(Classifier, model).head(features[rows])
        else:
            images = pixels(data.images[chosen])
            for defense, stream in zip(defenses, streams, strict=True):
                images = defense.change_batch(Batch(images, labels, rows, epoch, stream, model, normalize))
            inputs = augment(normalize(images), recipe.augmentation, augmentation)
            for defense, stream in zip(defenses, streams, strict=True):
                inputs, labels = defense.change_inputs(Batch(inputs, labels, rows, epoch, stream, model, normalize))
            if recipe.channels_last:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            logits = _forward(model, inputs, recipe)
        loss = _loss(logits, labels, defenses, epoch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for defense, stream in zip(defenses, streams, strict=True):
            defense.change_gradients(parameters, recipe, stream)
        optimizer.step()
        losses.append(loss.detach())
        total += losses[-1] * len(chosen)
        if not _is_finite_so_far(total, number):
            raise _diverged(losses, epoch)
    mean = total.item() / max(1, sum(map(len, batches)))
    if not math.isfinite(mean):
        raise _diverged(losses, epoch)
    # The last step may ruin what no loss tells of any more: such a network would give every image the same label.
    if not all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values()):
        raise DivergedError("a weight is not finite", epoch, len(batches) - 1)
    return mean


def _batches(
    examples: int, recipe: Recipe, defenses: Sequence[Defense], seed: int, epoch: int, device: torch.device
) -> Sequence[Tensor]:
    """Positions (int64, on the device) of the examples of each step: a shuffled pass, unless a defense draws them."""
    stream = generator("cpu", seed, "order", epoch)
    for defense in defenses:
        if (drawn := defense.draw_batches(examples, recipe, stream)) is not None:
            return [batch.to(device) for batch in drawn]
    return torch.split(torch.randperm(examples, generator=stream).to(device), recipe.batch_size)


def _rate(recipe: Recipe, defenses: Sequence[Defense], at: float) -> float:
    for defense in defenses:
        if (rate := defense.learning_rate(recipe, at)) is not None:
            return rate
    return learning_rate(recipe, at)


@torch.no_grad()
def _fixed_features(
    model: nn.Module,
    normalize: Normalize,
    data: TrainingSet,
    recipe: Recipe,
    defenses: Sequence[Defense],
    chunk: int = 1000,
) -> Tensor | None:
    """(rows, D) float32: the frozen features of every row, computed once; None if they differ from epoch to epoch."""
    fixed = isinstance(model, FrozenFeatures) and model.batch_norm == "eval" and recipe.augmentation.kind == "none"
    if not fixed or not all(defense.repeats for defense in defenses):
        return None
    model.eval()
    parts = []
    stream = generator(data.labels.device, 0)  # nothing is drawn: every defense repeats itself
    for images, labels, rows in zip(
        *(torch.split(t, chunk) for t in (data.images, data.labels, data.rows)), strict=True
    ):
        changed = pixels(images)
        for defense in defenses:
            changed = defense.change_batch(Batch(changed, labels, rows, 0, stream, model, normalize))
        with torch.autocast(changed.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            parts.append(cast(Classifier, model).extract(normalize(changed)).float())
    features = torch.cat(parts)
    table = features.new_zeros(int(data.rows.max()) + 1, features.shape[1])
    table[data.rows] = features
    return table


def _is_finite_so_far(total: Tensor, number: int) -> bool:
    """Of the running loss, where reading it costs nothing; on an accelerator now and then, to keep its queue full."""
    return (total.device.type != "cpu" and number % 50 != 49) or math.isfinite(total.item())


def _diverged(losses: Sequence[Tensor], epoch: int) -> DivergedError:
    """The error about the first loss of an epoch that is not finite."""
    values = torch.stack(list(losses)).tolist()
    number = next((place for place, value in enumerate(values) if not math.isfinite(value)), len(values) - 1)
    return DivergedError(f"the loss is {values[number]}", epoch, number)


def _forward(model: nn.Module, inputs: Tensor, recipe: Recipe) -> Tensor:
    reduced = recipe.precision == "bfloat16"
    try:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=reduced):
            return cast(Tensor, model(inputs)).float()
    except ValueError as error:
        if len(inputs) != 1:
            raise
        # A filter or a defense may leave any number of examples.
        raise SettingsError(
            "the last batch of an epoch has one example, which batch norm cannot normalise on its own: choose another "
            "batch_size"
        ) from error


def _loss(logits: Tensor, labels: Tensor, defenses: Sequence[Defense], epoch: int) -> Tensor:
    if len(labels) == 0:  # a batch that a defense draws may be empty; it has a gradient, of 0
        return logits.sum()
    for defense in defenses:
        if (loss := defense.loss(logits, labels, epoch)) is not None:
            return loss
    return F.cross_entropy(logits, labels)


def _save(
    checkpoint: Checkpoint,
    model: nn.Module,
    optimizer: Sgd,
    data: TrainingSet,
    history: list[EpochRecord],
) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        if parameter in optimizer.momenta:
            tensors[f"momentum.{name}"] = optimizer.momenta[parameter]
    tensors["rows"] = data.rows
    checkpoint.save(tensors, {"history": history})


def _restore(
    saved: tuple[dict[str, Tensor], dict[str, Any]],
    model: nn.Module,
    optimizer: Sgd,
    full: TrainingSet,
) -> tuple[list[EpochRecord], TrainingSet]:
    tensors, facts = saved
    model.load_state_dict(
        {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    )
    for name, parameter in model.named_parameters():
        if f"momentum.{name}" in tensors:
            momentum = torch.empty_like(parameter)
            momentum.copy_(tensors[f"momentum.{name}"])
            optimizer.momenta[parameter] = momentum
    # In the saved order, which a defense may have changed.
    position = {row: place for place, row in enumerate(full.rows.tolist())}
    kept = torch.tensor([position[row] for row in tensors["rows"].tolist()], device=full.rows.device)
    return facts["history"], full.keep(kept)
