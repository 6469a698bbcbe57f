"""The training loop: data on the device, one batched pass per step, exact resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from poisonlab import modules
from poisonlab.config.recipe import Recipe
from poisonlab.data.augmentation import alternating_flips, augment
from poisonlab.data.image_range import check_images
from poisonlab.data.training_set import TrainingSet, pixels
from poisonlab.errors import DataError, DivergedError, PoisonlabError, SettingsError
from poisonlab.models.chunks import images_at_once, in_chunks, memory_for, shape_of
from poisonlab.models.classifier import Classifier, FrozenFeatures, Normalize
from poisonlab.models.classifier import logits as logits_of
from poisonlab.models.layout import layout
from poisonlab.models.outputs import outputs_of
from poisonlab.models.surroundings import random_streams_kept, weights_of_float32, with_gradients
from poisonlab.precision import passes
from poisonlab.randomness import generator, stream_seed
from poisonlab.training.capture import Capture, can_capture
from poisonlab.training.checkpoint import Checkpoint, named
from poisonlab.training.defense import Batch, Defense, EpochEnd, EpochRecord
from poisonlab.training.optimizer import Optimizer
from poisonlab.training.schedule import learning_rate
from poisonlab.training.sgd import sgd_of

Observe = Callable[[nn.Module, TrainingSet, bool], dict[str, float]]
"""Measures a model (normalised images to logits, in eval mode) after an epoch on the training set; the flag requests
the costly numbers, too."""


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Attributes:
        history: one record per epoch.
        data: the part of the training set that the defenses kept until the end, on the training's device.
        observed: the numbers of ``observe`` for the final weights; empty without ``observe``.
    """

    history: list[EpochRecord]
    data: TrainingSet
    observed: dict[str, float]


@with_gradients()
def train(
    model: nn.Module,
    normalize: Normalize,
    data: TrainingSet,
    recipe: Recipe,
    *,
    seed: int,
    defenses: Sequence[Defense] = (),
    validation: TrainingSet | None = None,
    observe: Observe | None = None,
    until: int | None = None,
    checkpoint: Checkpoint | None = None,
    capture: bool = False,
    progress: bool = False,
) -> Trained:
    """Train ``model`` in place.

    Each step: gather a batch, scale it to [0, 1], let the defenses change it, normalise, augment, let the defenses mix
    it, and take one step on the cross-entropy or a defense's loss. Each epoch: measure, let the defenses stop the
    training, or else choose the data of the next epoch. The same seed, device and thread count give the same
    bits, interrupted or not.

    Args:
        model: maps normalised images (B, C, H, W) to logits (B, K); everything is computed on its device.
        normalize: on the same device.
        data: moved to the device.
        recipe: schedule, augmentation, precision; a defense may change it (``Defense.schedule``).
        seed: of batch order, augmentation, noise and dropout; not of the initial weights.
        defenses: applied in order.
        validation: held-out images; accuracy and loss on them are recorded after every epoch.
        observe: called after every epoch, before a defense changes the data; and at the end, if the weights of an
            earlier epoch are kept.
        until: stop after this many epochs of the recipe's schedule, with the weights at that point.
        checkpoint: where to save and resume.
        capture: on a GPU, repeat the steps of each epoch as a CUDA graph, with the same outcome within rounding. The
            network must neither look at values nor draw random numbers outside torch. With a defense that does, steps
            are not recorded.
        progress: show a progress bar.

    Raises:
        DivergedError: the loss or a weight became NaN or infinite; the error names epoch and batch.
        DataError: images are floats beyond [0, 1], ``data`` is no training set, or a label has no logit.
        SettingsError: ``recipe`` is no ``Recipe``, ``normalize`` is no ``Normalize`` or on another device, a defense is
            none, the network's weights are not float32, ``until`` exceeds the schedule, or a defense needs a validation
            set and there is none.
        PoisonlabError: no example is left to train on.
    """
    if not isinstance(data, TrainingSet):
        raise DataError(f"train takes a TrainingSet, not a {type(data).__name__}: make one by training_set(dataset)")
    if not isinstance(recipe, Recipe):
        raise SettingsError(f"the recipe is a {type(recipe).__name__}: pass Recipe(...) of poisonlab.config.recipe")
    if not isinstance(normalize, Normalize):
        raise SettingsError(
            f"normalize is a {type(normalize).__name__}: pass build_normalize(dataset), or for a network that takes "
            "pixels in [0, 1] Normalize((0, 0, 0), (1, 1, 1)) of poisonlab.models.classifier"
        )
    if other := [defense for defense in defenses if not isinstance(defense, Defense)]:
        raise SettingsError(f"a defense is a {type(other[0]).__name__}: build_defenses makes them of mappings")
    if not isinstance(validation, TrainingSet | None):
        raise DataError(f"validation is a {type(validation).__name__}: give a TrainingSet of images and labels")
    _check_validation(defenses, validation)
    for images in (data.images, *([] if validation is None else [validation.images])):
        check_images(images, "images to train on")
    device = next(model.parameters()).device
    if normalize.mean.device != device:
        raise SettingsError(f"normalize is on {normalize.mean.device}, the network on {device}: move one of them")
    for defense in defenses:
        recipe = defense.schedule(recipe)
    if until is not None and not 0 <= until <= recipe.epochs:
        raise SettingsError(f"until is {until}, but the recipe has {recipe.epochs} epochs: give 0 to {recipe.epochs}")
    for defense in defenses:
        data = defense.prepare(data)
    size = f"{len(data)} training images of {shape_of(data.images)} on the {device.type.upper()}"
    with memory_for(size, "take fewer of them"):
        full = data = data.to(device)
    order = layout(model)
    if recipe.channels_last:
        model.to(memory_format=order)
    _check_labels(model, normalize, data)
    batches = f"training on batches of {min(recipe.batch_size, len(data))} images of {shape_of(data.images)}"
    optimizer = _optimizer_of(model, recipe)
    steps = Capture(capture and can_capture(device) and all(defense.captured for defense in defenses))
    last = recipe.epochs if until is None else until
    history: list[EpochRecord] = []
    best = _Best()
    if checkpoint is not None and (saved := checkpoint.load()) is not None:
        history, data, best = _restore(saved, model, optimizer, full)
    forward: nn.Module = torch.compile(model) if recipe.compile else model  # type: ignore[assignment]
    features = _fixed_features(model, normalize, full, recipe, defenses)
    mirrored = None
    if recipe.augmentation.flip == "alternating":
        mirrored = alternating_flips(int(full.rows.max()) + 1, seed).to(device)
    finite = [bool(tensor.isfinite().all()) for tensor in model.state_dict().values()]
    training = _Training(
        forward, normalize, recipe, optimizer, seed, defenses, features, mirrored, finite, steps, order
    )
    observed: dict[str, float] = {}
    with ExitStack() as stack:
        stack.enter_context(random_streams_kept(device))
        for defense in defenses:
            stack.enter_context(defense.attached(model))
        bar = stack.enter_context(tqdm(total=last, initial=len(history), unit="epoch", disable=not progress))
        for epoch in range(len(history), last):
            with memory_for(batches, "lower the recipe's batch_size"):
                loss = training.epoch(epoch, data)
            record: EpochRecord = {
                "epoch": epoch,
                "lr": _rate(recipe, defenses, epoch),
                "train_loss": loss,
                "examples": len(data),
            }
            model.eval()
            if validation is not None:
                record |= _validated(model, normalize, validation)
            history.append(record)
            best = best.after(model, history, defenses)
            ends = epoch + 1 == last or any(defense.stops(history) for defense in defenses)
            if observe is not None:
                observed = observe(model, data, ends or (epoch + 1) % recipe.evaluate_every == 0)
                record |= observed
            # After a stop no epoch follows to choose examples for. After the whole schedule, ABL still sorts them.
            for defense in () if ends and epoch + 1 < recipe.epochs else defenses:
                data = defense.end_epoch(EpochEnd(epoch, model, normalize, data, full, recipe))
            if len(data) == 0:
                raise PoisonlabError(
                    f"no example is left to train on by the end of epoch {epoch}: soften the defenses that drop "
                    "examples, or where held_out_per_class keeps whole classes back, lower it"
                )
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()
            if ends:
                break
            if checkpoint is not None and checkpoint.due():
                _save(checkpoint, model, optimizer, data, history, best)
    model.eval()
    if until is None and best.epoch is not None and best.epoch + 1 < len(history):
        model.load_state_dict(best.weights)
        observed = {} if observe is None else observe(model, data, True)
    return Trained(history, data, observed)


@dataclass(frozen=True)
class _Best:
    """The best weights so far, with which the training ends if none are better; ``epoch`` is None if no defense
    chooses."""

    epoch: int | None = None
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    def after(self, model: nn.Module, history: Sequence[EpochRecord], defenses: Sequence[Defense]) -> _Best:
        """The defenses' choice after the last epoch of ``history``, whose weights are in ``model``."""
        chosen = next((best for defense in defenses if (best := defense.best_epoch(history)) is not None), None)
        if chosen == self.epoch:
            return self
        assert chosen == len(history) - 1, f"the weights of epoch {chosen} are gone"
        return _Best(chosen, {name: tensor.detach().clone() for name, tensor in model.state_dict().items()})


def _optimizer_of(model: nn.Module, recipe: Recipe) -> Optimizer:
    """The recipe's optimiser. All but SGD are loaded by name, so that only jobs that use a module depend on it."""
    if recipe.optimizer == "sgd":
        return sgd_of(model, recipe)
    found: Optimizer = modules.load("training", recipe.optimizer).optimizer_of(model, recipe)
    return found


def _check_labels(model: nn.Module, normalize: Normalize, data: TrainingSet) -> None:
    """Check that every label has a logit: otherwise torch, or the GPU, would fail with an obscure error."""
    if len(data) == 0:
        return
    if isinstance(model, Classifier):
        classes = model.head.out_features
    else:
        with weights_of_float32(model):
            classes = outputs_of(model, normalize, data.images[:1]).shape[1]
    if (largest := int(data.labels.max())) >= classes:
        raise DataError(
            f"a label of the training set is {largest}, but the network gives {classes} logits, for labels 0 to "
            f"{classes - 1}: build it for {largest + 1} classes or more"
        )


def _check_validation(defenses: Sequence[Defense], validation: TrainingSet | None) -> None:
    for defense in defenses:
        if defense.needs_validation and validation is None:
            raise SettingsError(
                f"{type(defense).__name__} needs a validation set, and there is none: set "
                "dataset.validation to a share or a number of images per class"
            )


@torch.no_grad()
def _validated(model: nn.Module, normalize: Normalize, validation: TrainingSet) -> EpochRecord:
    logits, labels = outputs_of(model, normalize, validation.images), validation.labels.to(normalize.mean.device)
    return {
        "validation_accuracy": float((logits.argmax(1) == labels).double().mean()),
        "validation_loss": float(F.cross_entropy(logits.double(), labels)),
    }


class _Epoch(NamedTuple):
    """Everything that the steps of one epoch share.

    Attributes:
        number: 0-based.
        data: the epoch's training set, on the device.
        augmentation: the random stream of the augmentation, on the device.
        streams: one random stream per defense, on the device.
    """

    number: int
    data: TrainingSet
    augmentation: torch.Generator
    streams: Sequence[torch.Generator]


@dataclass(frozen=True)
class _Training:
    """Everything that all steps of a training share.

    Attributes:
        features: (R, D) by row, if the network's features are fixed; else None.
        mirrored: (R,) bool by row, drawn by ``alternating_flips``, if flips alternate; else None.
        order: of the inputs in memory, if the recipe has ``channels_last``.
        finite: for each weight and buffer, whether it is finite at the start; an attention mask may hold infinities.
    """

    model: nn.Module
    normalize: Normalize
    recipe: Recipe
    optimizer: Optimizer
    seed: int
    defenses: Sequence[Defense]
    features: Tensor | None
    mirrored: Tensor | None
    finite: Sequence[bool]
    capture: Capture
    order: torch.memory_format

    def epoch(self, number: int, data: TrainingSet) -> float:
        """One pass over the data; returns the mean loss over its examples."""
        device, recipe, seed = data.labels.device, self.recipe, self.seed
        self.model.train()
        augmentation = generator(device, seed, "augment", number)
        streams = [generator(device, seed, "defense", place, number) for place in range(len(self.defenses))]
        torch.manual_seed(stream_seed(seed, "dropout", number))
        epoch = _Epoch(number, data, augmentation, streams)
        step = self.capture.steps(partial(self._step, epoch), recipe.batch_size, [augmentation, *streams])
        batches = _batches(len(data), recipe, self.defenses, seed, number, device)
        losses = torch.zeros(len(batches), device=device)
        total = torch.zeros((), device=device, dtype=torch.float64)
        for place, chosen in enumerate(batches):
            self.optimizer.rate = _rate(recipe, self.defenses, number + place / len(batches))
            losses[place] = loss = step(chosen)
            total += loss * len(chosen)
            if not _is_finite_so_far(total, place):
                raise _diverged(losses[: place + 1], number)
        mean = total.item() / max(1, sum(map(len, batches)))
        if not math.isfinite(mean):
            raise _diverged(losses, number)
        # No loss shows what the last step did to the weights. A network that is not finite gives all images one label.
        tensors = self.model.state_dict().values()
        if not all(bool(tensor.isfinite().all()) for tensor, was in zip(tensors, self.finite, strict=True) if was):
            raise DivergedError("a weight is not finite", number, len(batches) - 1)
        return mean

    def _step(self, epoch: _Epoch, chosen: Tensor) -> Tensor:
        """Learn from the examples at positions (B,) int64; returns the loss, a scalar.

        The step may be recorded and repeated (``training.capture``), so it never looks at a value on the device.
        """
        logits, labels = self._outputs(epoch, chosen)
        loss = _loss(logits, labels, self.recipe, self.defenses, epoch.number)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        for defense, stream in zip(self.defenses, epoch.streams, strict=True):
            defense.change_gradients(parameters, self.recipe, stream)
        self.optimizer.step()
        return loss.detach()

    def _outputs(self, epoch: _Epoch, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (M, K), and the labels to learn from."""
        number, data, augmentation, streams = epoch
        model, normalize, recipe = self.model, self.normalize, self.recipe
        labels, rows = data.labels[chosen], data.rows[chosen]
        if self.features is not None:
            return cast(Classifier, model).head(self.features[rows]), labels
        images = pixels(data.images[chosen])
        for defense, stream in zip(self.defenses, streams, strict=True):
            images = defense.change_batch(Batch(images, labels, rows, number, stream, model, normalize))
        flips = None if self.mirrored is None else self.mirrored[rows] ^ bool(number % 2)
        inputs = augment(normalize(images), recipe.augmentation, augmentation, normalize.black, flips)
        for defense, stream in zip(self.defenses, streams, strict=True):
            inputs, labels = defense.change_inputs(Batch(inputs, labels, rows, number, stream, model, normalize))
        if recipe.channels_last:
            inputs = inputs.contiguous(memory_format=self.order)
        return _forward(model, inputs, recipe), labels


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
) -> Tensor | None:
    """(rows, D) float32: the frozen features of every row, computed once; None if they change between epochs."""
    fixed = isinstance(model, FrozenFeatures) and model.batch_norm == "eval" and recipe.augmentation.kind == "none"
    if not fixed or not all(defense.repeats for defense in defenses):
        return None
    model.eval()
    stream = generator(data.labels.device, 0)  # nothing is drawn: every defense repeats itself

    def extracted(part: slice) -> Tensor:
        changed = pixels(data.images[part])
        for defense in defenses:
            batch = Batch(changed, data.labels[part], data.rows[part], 0, stream, model, normalize)
            changed = defense.change_batch(batch)
        with passes(changed.device, recipe.precision):
            found: Tensor = cast(Classifier, model).extract(normalize(changed)).float()
            return found

    parts = in_chunks(extracted, len(data), images_at_once(data.images), "images to extract features from")
    features = torch.cat(list(parts))
    table = features.new_zeros(int(data.rows.max()) + 1, features.shape[1])
    table[data.rows] = features
    return table


def _is_finite_so_far(total: Tensor, number: int) -> bool:
    """Whether the running loss is finite. A CPU checks it always, an accelerator at every 50th step, because reading it
    empties the accelerator's queue."""
    return (total.device.type != "cpu" and number % 50 != 49) or math.isfinite(total.item())


def _diverged(losses: Tensor, epoch: int) -> DivergedError:
    """The error about the first loss in ``losses`` (steps,) of an epoch that is not finite."""
    values = losses.tolist()
    number = next((place for place, value in enumerate(values) if not math.isfinite(value)), len(values) - 1)
    return DivergedError(f"the loss is {values[number]}", epoch, number)


def _forward(model: nn.Module, inputs: Tensor, recipe: Recipe) -> Tensor:
    try:
        with passes(inputs.device, recipe.precision), weights_of_float32(model):
            return logits_of(model(inputs)).float()
    except ValueError as error:
        if len(inputs) != 1:
            raise
        # A filter or a defense may keep any number of examples, so the last batch may have one.
        raise SettingsError(
            "the last batch of an epoch has one example, and batch norm cannot normalise a single example: choose "
            "another batch_size"
        ) from error


def _loss(logits: Tensor, labels: Tensor, recipe: Recipe, defenses: Sequence[Defense], epoch: int) -> Tensor:
    if len(labels) == 0:  # a batch drawn by a defense may be empty; the sum gives it a zero gradient
        return logits.sum()
    for defense in defenses:
        if (loss := defense.loss(logits, labels, epoch)) is not None:
            return loss
    return F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)


def _save(
    checkpoint: Checkpoint,
    model: nn.Module,
    optimizer: Optimizer,
    data: TrainingSet,
    history: list[EpochRecord],
    best: _Best,
) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= optimizer.tensors(model)
    tensors["rows"] = data.rows
    tensors |= {f"best.{name}": tensor for name, tensor in best.weights.items()}
    checkpoint.save(tensors, {"history": history, "best": best.epoch})


def _restore(
    saved: tuple[dict[str, Tensor], dict[str, Any]],
    model: nn.Module,
    optimizer: Optimizer,
    full: TrainingSet,
) -> tuple[list[EpochRecord], TrainingSet, _Best]:
    tensors, facts = saved
    device = full.rows.device
    model.load_state_dict(named("model.", tensors))
    best = _Best(facts["best"], {name: value.to(device) for name, value in named("best.", tensors).items()})
    optimizer.restore(model, tensors)
    # Keep the saved order, which a defense may have changed.
    position = {row: place for place, row in enumerate(full.rows.tolist())}
    kept = torch.tensor([position[row] for row in tensors["rows"].tolist()], device=device)
    return facts["history"], full.keep(kept), best
