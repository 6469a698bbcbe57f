"""MetaPoison (Huang et al. 2020; algorithm 1): differentiate through the victim's training steps.

Several surrogates are at different stages of training. For each, unroll K steps of SGD whose first batch holds poisons,
and judge the target by the resulting network:

    minimise over |delta| <= eps   mean over surrogates, over states theta_1 ... theta_K   L_adv(theta_k; x_t, y_adv)
    theta_1 = theta_0 - lr * grad L(theta_0; poisons + delta, clean images)
    theta_2 = theta_1 - lr * grad L(theta_1; clean images), and so on

The gradient reaches the poisons through the first step alone; later batches carry it back to theta_1. Between two
crafting steps every surrogate continues its clean training. A surrogate at the end of its training is replaced by a new
one at the first stage.

The released code differs (``convention: released``). An unrolling begins at each batch of the surrogate's epoch that
holds a poison. Its later batches are the next ones of the epoch, with the same poisons in them as constants. The target
is judged as one more image of the next batch. The rate of the unrolled steps follows the surrogate's rate. A surrogate
restarts where the stages of all surrogates end. delta starts uniform in +-eps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.color import Palette
from poisonlab.attacks.shipping import ship
from poisonlab.attacks.threat import Threat, choose_threat
from poisonlab.attacks.unrolling import Batch, Unrolling, Weights
from poisonlab.config.attacks.metapoison import MetaPoison as Settings
from poisonlab.data.augmentation import augment
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import pixels
from poisonlab.errors import PoisonlabError, SettingsError
from poisonlab.models.chunks import memory_for
from poisonlab.models.classifier import Classifier
from poisonlab.models.double_backward import check_twice_differentiable, twice_differentiable
from poisonlab.precision import passes
from poisonlab.randomness import generator, stream_seed
from poisonlab.training.checkpoint import named, optimizer_state, restore_optimizer
from poisonlab.training.schedule import learning_rate
from poisonlab.training.sgd import Sgd, sgd_of

_WARM_UP = 5


def craft(
    dataset: ImageDataset, attacker: Attacker, settings: Settings, *, seed: int, progress: bool = False
) -> PoisonSet:
    """Craft poisons for the target and bases that ``seed`` draws.

    Args:
        dataset: clean data.
        attacker: ``fresh`` builds the surrogates and the recipe trains them; its own trained ``surrogates`` only decide
            which test images can be the target.
        settings: surrogates, unrolled steps, bound.
        seed: of the threat, the surrogates, the batches and the start.
        progress: show a progress bar.

    Returns:
        The poisons; ``diagnostics["adversarial_loss"]`` is (steps,) float32, the outer loss averaged over surrogates.

    Raises:
        SettingsError: the budget exceeds the adversarial class, no test image can be the target, ``recolor`` is set and
            the images are grey, or ``derivative`` is exact and a layer cannot be differentiated twice.
        PoisonlabError: the outer loss is not finite.
    """
    if settings.recolor is not None and dataset.image_shape[0] != 3:
        raise SettingsError("recolor changes the colours of RGB images, and these are grey: take it away")
    threat = choose_threat(dataset, attacker, settings, seed)
    bases = dataset.train_images[threat.base_indices]
    crafting = _Crafting(dataset, attacker, settings, threat, seed)
    losses = crafting.run(progress)
    poisons = crafting.poisons().detach().cpu()
    change = poisons * 255 - bases
    bound = settings.eps if settings.recolor is None else 255.0
    return PoisonSet(
        indices=threat.base_indices,
        images=ship(bases, change, bound, settings.precision),
        labels=dataset.train_labels[threat.base_indices],
        base_images=bases,
        goal=threat.goal(dataset),
        diagnostics={"adversarial_loss": losses},
        facts={"target_index": threat.target_index},
    )


@dataclass
class _Surrogate:
    """One network in clean training, which restarts when its training ends.

    Attributes:
        batches: batches done since its last start.
        run: number of restarts so far.
    """

    model: Classifier
    optimizer: Sgd
    number: int
    batches: int = 0
    run: int = 0


class _Crafting:
    """The state of one attack: surrogates, perturbation, optimiser."""

    def __init__(
        self, dataset: ImageDataset, attacker: Attacker, settings: Settings, threat: Threat, seed: int
    ) -> None:
        self.attacker, self.settings, self.threat, self.seed = attacker, settings, threat, seed
        if (wrong := settings.too_short(attacker.recipe.epochs)) is not None:
            raise SettingsError(wrong)
        device = attacker.device
        rows = attacker.pool(dataset)
        self.images = dataset.train_images[rows].to(device)
        self.labels = dataset.train_labels[rows].to(device)
        clean = ~torch.isin(rows, threat.base_indices)
        own = dataset.train_labels[rows] == threat.adversarial_label
        self.own_rows = torch.nonzero(clean & own).flatten().to(device)
        self.other_rows = torch.nonzero(~own).flatten().to(device)
        self.own_share = float(own.float().mean())
        self.bases = pixels(dataset.train_images[threat.base_indices].to(device))
        self.target = attacker.normalize(pixels(dataset.test_images[threat.target_index][None].to(device)))
        self.released = settings.convention == "released"
        own_epoch = settings.poisons_per_batch is None and settings.clean_batches is None
        self.along = self.released and own_epoch
        poisoned = torch.isin(rows, threat.base_indices)
        self.poison_at = torch.where(poisoned, poisoned.cumsum(0) - 1, -1)
        self.palette = None
        if settings.recolor is not None:
            self.palette = Palette(settings.recolor, len(self.bases), device, settings.convention)
        self.delta = self._start().requires_grad_(True)
        self.surrogates: list[_Surrogate] = []

    def run(self, progress: bool) -> Tensor:
        """Take all crafting steps; returns the outer loss at each, (steps,)."""
        settings = self.settings
        groups = [{"params": [self.delta], "lr": settings.lr / 255}]
        if self.palette is not None and settings.recolor is not None:
            groups.append({"params": [self.palette.grid], "lr": settings.recolor.lr})
        optimizer = torch.optim.Adam(groups)
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        losses = torch.full((settings.steps,), torch.nan)
        checkpoint, begun = self.attacker.checkpoint, 0
        if checkpoint is not None and (saved := checkpoint.load()) is not None:
            begun = self._restore(*saved, optimizer, losses)
        else:
            self.surrogates = [self._surrogate(number) for number in range(settings.ensemble)]
        if settings.derivative == "exact":
            model = self.surrogates[0].model.eval()
            check_twice_differentiable(model, self.target, model(self.target))
        for step in tqdm(
            range(begun, settings.steps), initial=begun, total=settings.steps, unit="step", disable=not progress
        ):
            if checkpoint is not None and checkpoint.due():
                checkpoint.save(*self._state(step, optimizer, losses))
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule(step, settings.steps)
            optimizer.zero_grad()
            with memory_for(
                f"{settings.unroll} unrolled steps on batches of {settings.batch_size} images",
                "set derivative: differences, or lower the attack's batch_size or unroll",
            ):
                losses[step] = self._step(step)
            optimizer.step()
            self._project()
        return losses

    def _state(self, step: int, optimizer: torch.optim.Optimizer, losses: Tensor) -> tuple[Weights, dict[str, object]]:
        """The state before crafting step ``step``."""
        tensors = {"delta": self.delta, "losses": losses, **optimizer_state(optimizer)}
        if self.palette is not None:
            tensors["grid"] = self.palette.grid
        for surrogate in self.surrogates:
            own = f"surrogate.{surrogate.number}"
            tensors |= {f"{own}.model.{name}": value for name, value in surrogate.model.state_dict().items()}
            momenta = surrogate.optimizer.tensors(surrogate.model)
            tensors |= {f"{own}.{name}": momentum for name, momentum in momenta.items()}
        lives = [[surrogate.batches, surrogate.run] for surrogate in self.surrogates]
        return tensors, {"step": step, "surrogates": lives}

    def _restore(
        self, tensors: Weights, facts: dict[str, Any], optimizer: torch.optim.Optimizer, losses: Tensor
    ) -> int:
        """Restore what ``_state`` returned; returns the number of the next step."""
        with torch.no_grad():
            self.delta.copy_(tensors["delta"])
            if self.palette is not None:
                self.palette.grid.copy_(tensors["grid"])
        losses.copy_(tensors["losses"])
        restore_optimizer(optimizer, tensors)
        for number, (batches, run) in enumerate(facts["surrogates"]):
            surrogate = self._fresh(number, run)
            surrogate.batches = batches
            surrogate.model.load_state_dict(named(f"surrogate.{number}.model.", tensors))
            surrogate.optimizer.restore(surrogate.model, named(f"surrogate.{number}.", tensors))
            self.surrogates.append(surrogate)
        return int(facts["step"])

    def poisons(self, which: Tensor | slice = slice(None)) -> Tensor:
        """The poisons at the positions ``which``, by default all: (P, C, H, W) in [0, 1]."""
        bases = self.bases[which]
        colored = bases if self.palette is None else self.palette(bases, which)
        return (colored + self.delta[which]).clamp(0, 1)

    def _start(self) -> Tensor:
        stream = generator(self.attacker.device, self.seed, "metapoison", "start")
        uniform = torch.rand(self.bases.shape, generator=stream, device=self.attacker.device)
        if self.released:
            return (self.bases + (uniform * 2 - 1) * self.settings.eps / 255).clamp(0, 1) - self.bases
        return (uniform * 2 - 1) * min(self.settings.init, self.settings.eps) / 255

    def _project(self) -> None:
        bound = self.settings.eps / 255
        with torch.no_grad():
            self.delta.clamp_(-bound, bound)
            if self.palette is None:
                self.delta.copy_((self.bases + self.delta).clamp(0, 1) - self.bases)
            else:
                self.palette.project()

    def _step(self, step: int) -> float:
        """Sum the gradients of a crafting step over surrogates and batches of poisons; returns the mean outer loss."""
        total, count = 0.0, 0
        for surrogate in self.surrogates:
            if self.released and surrogate.batches >= self._length():
                self._renew(surrogate)
            for number, (poisons, rows) in enumerate(self._unrollings(step, surrogate)):
                total += self._unroll(surrogate, poisons, rows, step, number)
                count += 1
        if not math.isfinite(total):
            raise PoisonlabError(
                f"the adversarial loss is not finite at crafting step {step}: lower unroll_lr, or check the data"
            )
        if count == 0:
            size = self.settings.batch_size
            raise SettingsError(
                f"no whole batch of {size} holds a poison in an epoch of {len(self.labels)} images: lower "
                "batch_size, or raise budget or ensemble"
            )
        return total / count

    def _unrollings(self, step: int, surrogate: _Surrogate) -> Iterator[tuple[Tensor, list[Tensor] | None]]:
        """The unrollings of a crafting step: positions of poisons, and rows of clean images for each batch (None: drawn
        at random). The surrogate's clean training continues in between."""
        if self.along:
            yield from self._along_the_epoch(surrogate)
            return
        for poisons in self._poison_batches(step, surrogate.number):
            yield poisons, None
        self._advance(surrogate, self.settings.clean_batches or self._epoch())

    def _along_the_epoch(self, surrogate: _Surrogate) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """The batches with poisons in the surrogate's next epoch; each is unrolled from the surrogate's state there."""
        begun, size = surrogate.batches, min(self.settings.batch_size, len(self.labels))
        order = self._order(surrogate, begun // self._epoch())
        batches = [order[place : place + size] for place in range(0, len(order) - size + 1, size)]
        for number, rows in enumerate(batches):
            poisons = self.poison_at[rows]
            clean = poisons < 0
            if clean.all():
                continue
            reached = number * size // self.attacker.recipe.batch_size
            self._advance(surrogate, begun + reached - surrogate.batches)
            # Later batches hold the same poisons instead of their own. After the epoch's last batch comes its first.
            later = (batches[(number + ahead) % len(batches)] for ahead in range(1, self.settings.unroll + 1))
            yield poisons[~clean], [rows[clean], *(each[clean] for each in later)]
            if self.settings.sweep == "batch":
                break
        self._advance(surrogate, begun + self._epoch() - surrogate.batches)

    def _poison_batches(self, step: int, surrogate: int) -> Iterator[Tensor]:
        """Positions of poisons in random batches: all batches, or only the first if ``sweep`` is not epoch."""
        stream = generator("cpu", self.seed, "metapoison", "poisons", step, surrogate)
        if (size := self.settings.poisons_per_batch) is not None:
            batches = list(torch.split(torch.randperm(len(self.bases), generator=stream), size))
        else:
            # As the poisons fall into the batches of a training epoch; batches without poisons are left out.
            order = self.poison_at[torch.randperm(len(self.labels), generator=stream)]
            parts = (part[part >= 0] for part in torch.split(order, self.settings.batch_size))
            batches = [part for part in parts if len(part)]
        yield from batches if self.settings.sweep == "epoch" else batches[:1]

    def _unroll(
        self, surrogate: _Surrogate, poisons: Tensor, rows: Sequence[Tensor] | None, step: int, number: int
    ) -> float:
        """Add the gradient of one unrolling to that of the perturbation; returns the outer loss."""
        device, settings = self.attacker.device, self.settings
        which = (step, surrogate.number, number)
        stream = generator(device, self.seed, "metapoison", "unroll", *which)
        # Dropout draws from torch's own stream.
        torch.manual_seed(stream_seed(self.seed, "metapoison", "unroll dropout", *which))
        weights = {name: weight.detach() for name, weight in surrogate.model.named_parameters()}
        poisons = poisons.to(device)
        batches = self._batches(poisons, rows, stream)
        unrolling = Unrolling(
            surrogate.model,
            dict(surrogate.model.named_buffers()),
            batches,
            self.target,
            self.threat.adversarial_label,
            self._unrolled_rate(surrogate),
            settings.crafting_precision,
            settings.batch_norm,
            settings.convention,
        )
        leaves = [self.delta] if self.palette is None else [self.delta, self.palette.grid]
        if settings.derivative == "exact":
            with twice_differentiable(surrogate.model, self.target):
                loss = unrolling.loss(weights)
                gradients = list(torch.autograd.grad(loss, leaves))
        else:
            shown = batches[0][0][: len(poisons)]
            loss, slope = unrolling.slope(weights, settings.difference, len(poisons))
            gradients = list(torch.autograd.grad(shown, leaves, slope))
        if self.palette is not None:
            gradients[1] += torch.autograd.grad(self.palette.penalty(poisons), self.palette.grid)[0]
        length = torch.stack([gradient.norm() for gradient in gradients]).norm()
        scale = 1.0 if settings.weighting == "sum" else 1 / length.clamp(min=1e-20)
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = gradient * scale if leaf.grad is None else leaf.grad + gradient * scale
        return loss.item()

    def _unrolled_rate(self, surrogate: _Surrogate) -> float:
        """Rate of the unrolled steps; in the released convention it is proportional to the surrogate's own rate."""
        if not self.released:
            return self.settings.unroll_lr
        recipe = self.attacker.recipe
        return self.settings.unroll_lr * learning_rate(recipe, surrogate.batches / self._epoch()) / recipe.lr

    def _batches(self, poisons: Tensor, rows: Sequence[Tensor] | None, stream: torch.Generator) -> list[Batch]:
        """Augmented, normalised images and labels of every batch of an unrolling.

        Args:
            poisons: positions of the poisons in the first batch.
            rows: rows of the clean images in each batch; drawn if None.
            stream: of draws and augmentation.
        """
        batches = []
        for place in range(self.settings.unroll + self.released):
            held = poisons if place == 0 or self.released else poisons[:0]
            clean = self._clean_rows(len(held), stream) if rows is None else rows[place].to(held.device)
            images, labels = pixels(self.images[clean]), self.labels[clean]
            if len(held):
                poisoned = self.poisons(held)
                images = torch.cat([poisoned if place == 0 else poisoned.detach(), images])
                labels = torch.cat([torch.full_like(held, self.threat.adversarial_label), labels])
            batches.append((self._augmented(images, stream), labels))
        return batches

    def _clean_rows(self, taken: int, stream: torch.Generator) -> Tensor:
        """Rows of the clean images that complete a batch with ``taken`` poisons.

        The adversarial class has its natural share of the batch. With more, every batch would teach this class,
        whatever the poisons are.
        """
        size = self.settings.batch_size
        own = min(size - taken, max(0, round(self.own_share * size) - taken)) if len(self.own_rows) else 0
        return torch.cat(
            [self._drawn(self.own_rows, own, stream), self._drawn(self.other_rows, size - taken - own, stream)]
        )

    def _augmented(self, images: Tensor, stream: torch.Generator) -> Tensor:
        """Images (B, C, H, W) in [0, 1], normalised and augmented like the surrogates' training images."""
        normalize = self.attacker.normalize
        return augment(normalize(images), self.attacker.augmentation, stream, normalize.black)

    def _drawn(self, rows: Tensor, count: int, stream: torch.Generator) -> Tensor:
        """``count`` of ``rows``, at random with replacement."""
        return rows[torch.randint(max(1, len(rows)), (count,), generator=stream, device=rows.device)]

    def _epoch(self) -> int:
        """Number of batches in one epoch of clean training."""
        return math.ceil(len(self.labels) / self.attacker.recipe.batch_size)

    def _surrogate(self, number: int) -> _Surrogate:
        """A surrogate trained for ``first_epoch + number * stagger`` epochs; restarts if its training ends before."""
        surrogate = self._fresh(number, 0)
        epochs = self.settings.first_epoch + number * self.settings.stagger
        self._advance(surrogate, epochs * self._epoch())
        return surrogate

    def _fresh(self, number: int, run: int) -> _Surrogate:
        model = self.attacker.network(stream_seed(self.seed, "metapoison", "surrogate", number, run))
        return _Surrogate(model, sgd_of(model, self.attacker.recipe), number, run=run)

    def _length(self) -> int:
        """Number of batches after which a surrogate restarts: the recipe's, or where the stages of all surrogates
        end."""
        settings, epochs = self.settings, self.attacker.recipe.epochs
        if self.released:
            epochs = min(epochs, settings.first_epoch + settings.ensemble * settings.stagger)
        return epochs * self._epoch()

    def _renew(self, surrogate: _Surrogate) -> None:
        """Replace the surrogate by a new network at the first stage."""
        vars(surrogate).update(vars(self._fresh(surrogate.number, surrogate.run + 1)))
        self._advance(surrogate, self.settings.first_epoch * self._epoch())

    def _advance(self, surrogate: _Surrogate, batches: int) -> None:
        """Train on ``batches`` batches of clean data by the recipe; a surrogate whose training ends restarts."""
        for _ in range(batches):
            if surrogate.batches >= self._length():
                self._renew(surrogate)
            self._clean_step(surrogate)
            surrogate.batches += 1

    def _order(self, surrogate: _Surrogate, epoch: int) -> Tensor:
        """The rows in the order of an epoch of the surrogate's training."""
        return torch.randperm(len(self.labels), generator=self._clean_stream("cpu", surrogate, epoch))

    def _clean_step(self, surrogate: _Surrogate) -> None:
        recipe, number = self.attacker.recipe, surrogate.number
        epoch, place = divmod(surrogate.batches, self._epoch())
        order = self._order(surrogate, epoch)
        rows = order[place * recipe.batch_size : (place + 1) * recipe.batch_size].to(self.attacker.device)
        stream = self._clean_stream(self.attacker.device, surrogate, epoch, place)
        inputs = self._augmented(pixels(self.images[rows]), stream)
        model = surrogate.model.train()
        torch.manual_seed(stream_seed(self.seed, "metapoison", "dropout", number, surrogate.run, surrogate.batches))
        with passes(inputs.device, recipe.precision):
            logits = model(inputs)
        loss = F.cross_entropy(logits.float(), self.labels[rows], label_smoothing=recipe.label_smoothing)
        surrogate.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        surrogate.optimizer.rate = learning_rate(recipe, surrogate.batches / self._epoch())
        surrogate.optimizer.step()

    def _clean_stream(self, device: torch.device | str, surrogate: _Surrogate, *place: int) -> torch.Generator:
        return generator(device, self.seed, "metapoison", "clean", surrogate.number, surrogate.run, *place)


def schedule(step: int, steps: int) -> float:
    """Factor of Adam's step: a quadratic warm-up, and tenfold drops after 20/61 and 40/61 of the steps."""
    warm = min(1.0, ((step + 1) / _WARM_UP) ** 2)
    drops = sum(step >= round(steps * share) for share in (20 / 61, 40 / 61))
    return warm * 10.0**-drops
