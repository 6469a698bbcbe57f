"""Settings of a whole study (config.yaml), with types, ranges and rules between fields."""

from __future__ import annotations

import math
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from poisonlab.config.ablations import Ablation, AttackVariant, Variant, attack_variants, variants
from poisonlab.config.architectures import ModelSettings
from poisonlab.config.attack_settings import AttackSettings
from poisonlab.config.attacks.attack import CraftedAttack
from poisonlab.config.attacks.error_minimising import ErrorMinimising
from poisonlab.config.attacks.feature_collision import FeatureCollision
from poisonlab.config.attacks.imported import Imported
from poisonlab.config.attacks.matching import MatchingAttack
from poisonlab.config.attacks.metapoison import MetaPoison
from poisonlab.config.attacks.sleeper_agent import SleeperAgent
from poisonlab.config.data.digits_on_photos import DigitsOnPhotos
from poisonlab.config.datasets import DatasetSettings, source_of
from poisonlab.config.defenses.adversarial_training import AdversarialTraining
from poisonlab.config.defenses.early_stopping import EarlyStopping
from poisonlab.config.defenses.epic import Epic
from poisonlab.config.defenses.random_noise import RandomNoise
from poisonlab.config.defenses.strong_augmentation import StrongAugmentation
from poisonlab.config.explaining import explained
from poisonlab.config.figures_of_filters import AllFigures
from poisonlab.config.filter_claim import FilterClaim
from poisonlab.config.plain_values import plain_values
from poisonlab.config.poison_claims import PoisonClaims
from poisonlab.config.recipes import NamedRecipe
from poisonlab.config.rows import Row
from poisonlab.config.transfer import Transfer
from poisonlab.config.types import InputPath, Name, PositiveInt, Settings
from poisonlab.config.victims import Victim

_SHOWN = 10
"""Most names in one message."""


class Surrogate(Settings):
    """A network that is trained on clean data, one (or an ensemble) per seed."""

    name: Name
    """The name by which attacks, victims and rows refer to it."""
    model: ModelSettings
    """Its architecture."""
    recipe: NamedRecipe = NamedRecipe()
    """How it is trained."""
    apply: tuple[Annotated[RandomNoise | AdversarialTraining, Field(discriminator="method")], ...] = ()
    """Defenses in its training: random noise, for an attacker who knows of the defense; adversarial training, for
    robust features that filters look at or victims begin with."""
    held_out_per_class: Annotated[int, Field(ge=0)] = 0
    """Number of last training images of each class that it is not trained on, for victims that are fine-tuned on
    them."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Train one network with this seed and share it between all seeds of the study, which then differ in target and
    poisons but not in it. If not given, each seed has a network of its own."""


def _off(value: object) -> object:
    """YAML reads the word ``off`` as false."""
    return "off" if value is False else value


class Study(Settings):
    """One study: a dataset, seeds, attacks, and the defenses that face them."""

    study: Name
    """Names the results: tables, figures and every artifact's folder."""
    description: Annotated[str, Field(max_length=2000)] = ""
    """One sentence below the tables."""
    results: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=200)] = "results"
    """Folder of all outputs, below the one that Snakemake is called in."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto``: a GPU if there is one; ``cuda``: fail without one."""
    threads: PositiveInt = 1
    """CPU threads per job; of a GPU job, threads of its host part. Two jobs with one thread each are faster than one
    job with two."""
    jobs_per_gpu: PositiveInt = 1
    """Jobs that share a GPU; small networks leave most of a large one idle."""
    capture: Annotated[Literal["auto", "off"], BeforeValidator(_off)] = "auto"
    """``auto``: on a GPU, training steps are replayed as a CUDA graph, which starts all their kernels at once, unless a
    defense looks at values. ``off``: every kernel is started separately. Results agree within rounding."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 120.0
    """Seconds between saved states of a training or crafting, from which an interrupted run goes on."""
    dataset: DatasetSettings
    """Where the data comes from."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    """Each seed draws a target, bases, surrogates, poisons and victims of its own; surrogates with a ``seed`` serve all
    seeds."""
    surrogates: tuple[Surrogate, ...]
    """The attackers' networks."""
    attacks: Annotated[tuple[AttackSettings, ...], Field(min_length=1)]
    """Each attack meets each defense."""
    victims: Annotated[tuple[Victim, ...], Field(min_length=1)]
    """The networks that are trained on poisons; an attack that names none uses the first."""
    defenses: Annotated[tuple[Row, ...], Field(min_length=1)]
    """The rows of the results."""
    compare: tuple[Name, ...] = ()
    """Rows that every other row is tested against, seed by seed. Times and changes of accuracy are relative to the
    first; filters and detectors look at its victims unless they name another row."""
    mean_over_victims: bool = False
    """Whether tables also show each defense's unweighted mean over the victims of an attack that has several."""
    only_successes: bool = False
    """Whether tables also show results over only the seeds on which the attack succeeds against the first row of
    ``compare`` (the deep k-NN paper). Published numbers are then set beside these."""
    filter_claim: FilterClaim | None = None
    """The claim that findings test for each filter and attack."""
    poison_claims: PoisonClaims | None = None
    """The claims that findings test on undefended victims of attacks without a goal. The first row of ``compare`` is
    the undefended one."""
    paper: Name | None = None
    """The paper that ``published`` places are in: the name of a folder of ``reference/``."""
    ablations: tuple[Ablation, ...] = ()
    """Rows or attacks with some settings varied, each with a table and a figure of its own."""
    transfer: Transfer | None = None
    """A table of how clean networks classify the poisons of some attacks."""
    figures: AllFigures = AllFigures()
    """What is drawn."""
    merge: tuple[InputPath, ...] = ()
    """Files of trials (``<study>-trials.csv``) from other runs or machines. A victim with a trial of the same settings
    in one of them is not trained here, unless another job needs its network."""

    @model_validator(mode="after")
    def _check(self) -> Study:
        self._check_names()
        self._check_ablations()
        self._check_references()
        self._check_stand_ins()
        self._check_rows()
        self._check_unseen_targets()
        self._check_transfer()
        self._check_cells()
        self._check_lines()
        self._check_inspections()
        self._check_validation()
        self._check_per_example()
        self._check_trained_by_attacks()
        self._check_adaptations()
        self._check_epochs()
        self._check_begins()
        self._check_epic()
        self._check_maxup()
        self._check_budget()
        self._check_figures()
        self._check_figures_of_filters()
        return self

    def _check_names(self) -> None:
        _unique("seeds", self.seeds)
        for group in ("surrogates", "attacks", "victims", "defenses", "ablations"):
            _unique(group, [each.name for each in getattr(self, group)])
        # Names of rules and logs contain those of ablations, names of figures those of attacks.
        _unique("ablations but for dots and dashes", [ablation.name.replace(".", "-") for ablation in self.ablations])
        if wrong := [each.name for each in self.ablations if re.search(r"[.-]so[.-]far$", each.name)]:
            raise ValueError(
                f"ablation {wrong[0]!r} must not end in '-so-far', as tables of finished victims do: rename it"
            )
        if wrong := [each.name for each in self.attacks if re.search(r"\.(pdf|png|txt)$", each.name)]:
            raise ValueError(f"attack {wrong[0]!r} must not end in .pdf, .png or .txt, as figures' files do: rename it")
        if ending := re.search(r"-(time|trials|so-far|transfer|table[0-9]+|ablation-.*)$", self.study):
            raise ValueError(
                f"study {self.study!r} must not end in {ending[0]!r}: its tables would overwrite another study's"
            )
        if self.mean_over_victims and "mean" in [victim.name for victim in self.victims]:
            raise ValueError("a victim is called 'mean', as tables call the mean over victims: rename it")
        if ".." in self.results.split("/"):
            raise ValueError("results must not climb out of the repository ('..')")
        if self.results != posixpath.normpath(self.results) or max(map(len, self.results.split("/"))) > 100:
            raise ValueError(f"results {self.results!r} must be a plain path: no '.', no '//', no '/' at its end")

    def _check_ablations(self) -> None:
        rows = [row.name for row in self.defenses]
        attacks = [attack.name for attack in self.attacks]
        for ablation in self.ablations:
            where = f"ablation {ablation.name!r}"
            if ablation.defense is not None:
                _one_of(ablation.defense, rows, f"{where} varies defense")
            if ablation.attack is not None:
                _one_of(ablation.attack, attacks, f"{where} varies attack")
            for name in ablation.attacks or ():
                _one_of(name, attacks, f"{where} faces attack")
            for name in ablation.defenses or ():
                _one_of(name, rows, f"{where} names defense")
        _unique("defenses and ablations", [row.name for row in self.rows])
        _unique("attacks and ablations", [attack.name for attack in self.every_attack])
        for variant in self.attack_variants:
            self._check_met(variant)

    def _check_met(self, variant: AttackVariant) -> None:
        """Check that all rows of an attack's ablation face its variants, and that rows whose victims they look at are
        among them."""
        where = f"ablation {variant.ablation!r} names defense"
        varied = next(each.attack for each in self.ablations if each.name == variant.ablation)
        for row in map(self._listed, variant.defenses):
            for name in (str(varied), *([variant.attack.name] if variant.listed else [])):
                if not row.faces(name):
                    raise ValueError(
                        f"{where} {row.name!r}, which does not face attack {name!r}: leave one of them out"
                    )
            network = self.network_of(row) if row.inspects_row else None
            if network is not None and network not in variant.defenses:
                raise ValueError(f"{where} {row.name!r}, which looks at the network of {network!r}: name both")

    def _check_references(self) -> None:
        surrogates = [surrogate.name for surrogate in self.surrogates]
        victims = [victim.name for victim in self.victims]
        on_accuracy = [attack.name for attack in self.attacks if not attack.has_goal]
        for series in () if self.poison_claims is None else self.poison_claims.stronger.values():
            for name in series:
                _one_of(name, on_accuracy, "poison_claims.stronger names attack", "those without a goal,")
        for name in (name for group in self.figures.curves for name in group.attacks):
            _one_of(name, on_accuracy, "figures.curves names attack", "those without a goal,")
        if self.poison_claims is not None and not self.compare:
            raise ValueError("poison_claims need undefended victims: name their row first in compare")
        for attack in self.every_attack:
            _unique(f"attack {attack.name!r}: surrogate", attack.surrogates)
            for name in attack.surrogates:
                _one_of(name, surrogates, f"attack {attack.name!r} names surrogate")
            for name in attack.victims or ():
                _one_of(name, victims, f"attack {attack.name!r} names victim")
            if len({self.victim(name).fine_tune_per_class for name in attack.victims or ()}) > 1:
                raise ValueError(
                    f"attack {attack.name!r}: its victims differ in fine_tune_per_class, but its bases are drawn from "
                    "the images that all of them are trained on: make an attack for each"
                )
            if attack.published and self.paper is None:
                raise ValueError(f"attack {attack.name!r} is published: name the paper, a folder of reference/")
        for victim in self.victims:
            if victim.pretrained is not None:
                _one_of(victim.pretrained, surrogates, f"victim {victim.name!r} names pretrained")
        for row in self.rows:
            if row.inspected_surrogate is not None:
                _one_of(row.inspected_surrogate, surrogates, f"defense {row.name!r} looks at surrogate")

    def _check_stand_ins(self) -> None:
        surrogates = [surrogate.name for surrogate in self.surrogates]
        for row in self.defenses:
            where = f"defense {row.name!r} names pretrained"
            for own, other in row.pretrained.items():
                _one_of(own, surrogates, where)
                _one_of(other, surrogates, where)
                for field in ("model", "held_out_per_class"):
                    if getattr(self.surrogate(own), field) != getattr(self.surrogate(other), field):
                        raise ValueError(f"{where} {other!r} in place of {own!r}: give both the same {field}")
        for _, victim, row in self.meetings():
            if row.pretrained and victim.pretrained not in row.pretrained:
                begins = "from scratch" if victim.pretrained is None else f"as {victim.pretrained!r}"
                raise ValueError(
                    f"defense {row.name!r} has no network for victim {victim.name!r}, which begins {begins}: add one "
                    "to its pretrained, or name only attacks on other victims in its attacks"
                )

    def _check_rows(self) -> None:
        source = source_of(self.dataset)
        limits = [name for name in ("train_limit", "test_limit") if getattr(source, name, None) is not None]
        for attack in self.every_attack:
            if limits and getattr(attack, "setup", None) is not None:
                raise ValueError(
                    f"attack {attack.name!r}: images of a setup count the whole dataset, so leave out "
                    f"dataset.{limits[0]}"
                )
            if "train_limit" in limits and isinstance(attack, Imported) and attack.counts_whole_set:
                raise ValueError(
                    f"attack {attack.name!r}: rows of imported poisons count the whole training set, so leave out "
                    "dataset.train_limit; only appended poisons and .safetensors sets made with the same limit go with "
                    "it"
                )

    def _check_unseen_targets(self) -> None:
        for attack in self.every_attack:
            unseen = getattr(attack, "unseen_target", None)
            among = unseen.among_last if unseen is not None else getattr(attack, "target_among_last", None)
            if among is None:
                continue
            where = f"attack {attack.name!r}: targets are among the last {among} training images of their class"
            for victim in self.victims_of(attack):
                if victim.fine_tune_per_class is None or victim.fine_tune_per_class >= among:
                    raise ValueError(
                        f"{where}, but victim {victim.name!r} is fine-tuned on all of them: set its "
                        f"fine_tune_per_class below {among}"
                    )
            left = among - (self.victims_of(attack)[0].fine_tune_per_class or 0)
            if late := [seed for seed in self.seeds_of(attack) if seed >= left]:
                raise ValueError(
                    f"{where}, of which victims leave {left}, one for each seed from 0 on: seed {late[0]} has no "
                    "target, so give the attack smaller seeds"
                )
            looked_at = [
                name
                for other, victim, row in self.meetings()
                if other.name == attack.name
                for name in (self.pretrained_of(victim, row), row.inspected_surrogate)
                if name is not None
            ]
            for name in dict.fromkeys([*attack.surrogates, *looked_at]):
                if self.surrogate(name).held_out_per_class < among:
                    raise ValueError(f"{where}, but surrogate {name!r} is trained on them: set its held_out_per_class")

    def _check_transfer(self) -> None:
        if self.transfer is None:
            return
        for name in self.transfer.networks:
            _one_of(name, [surrogate.name for surrogate in self.surrogates], "transfer names network")
        for name in self.transfer.attacks:
            _one_of(name, [attack.name for attack in self.attacks], "transfer names attack")
        if self.transfer.table is not None and self.paper is None:
            raise ValueError("transfer names a table: name the paper, a folder of reference/")

    def _check_cells(self) -> None:
        attacks = [attack.name for attack in self.attacks]
        for row in self.defenses:
            for name in row.attacks or ():
                _one_of(name, attacks, f"defense {row.name!r} faces attack")
        for attack in self.every_attack:
            # Seeds that the study does not list are ignored, so that a study can grow a few seeds at a time.
            if not self.seeds_of(attack):
                raise ValueError(
                    f"attack {attack.name!r}: none of its seeds {list(attack.seeds or ())} is one of the study's "
                    f"{list(self.seeds)}: add one to either list"
                )
            if not self.rows_of(attack):
                raise ValueError(f"attack {attack.name!r} meets no defense: add a row, such as none")

    def _check_lines(self) -> None:
        for attack in self.attacks:
            holders: dict[str, str] = {}
            for row in self.defenses:
                if row.faces(attack.name) and (other := holders.setdefault(row.line, row.name)) != row.name:
                    raise ValueError(
                        f"defenses {other!r} and {row.name!r} face attack {attack.name!r}, so they cannot share the "
                        f"line {row.line!r}: give one of them another joined_as"
                    )

    def _check_inspections(self) -> None:
        names = [row.name for row in self.rows]
        for name in self.compare:
            if name not in (known := [row.name for row in self.defenses]):
                raise ValueError(f"compare names defense {name!r}: name one of {known}, or none with compare: []")
        if self.only_successes and not self.compare:
            raise ValueError("only_successes needs undefended training as the first row of compare: name it there")
        for row in self.rows:
            if not row.inspects_row:
                continue
            if (network := self.network_of(row)) is None:
                raise ValueError(f"defense {row.name!r} looks at no network: give it one, or name a row in compare")
            where = f"defense {row.name!r} looks at the network of"
            _one_of(network, names, where)
            looked_at = self.defense(network)
            if looked_at.detector is not None:
                raise ValueError(f"{where} {network!r}, which trains none of its own: name a row that does")
            if looked_at.poisoned != row.poisoned:
                raise ValueError(f"{where} {network!r}, but only one of the two is trained on poisoned data")
            for attack in self.attacks:
                if row.faces(attack.name) and not looked_at.faces(attack.name):
                    raise ValueError(f"{where} {network!r}, which does not face attack {attack.name!r}")
            seen = [row.name]
            # The check of another row reports an unknown row, or a circle further on.
            while (next_one := self.network_of(self.defense(seen[-1]))) is not None and next_one in names:
                if next_one == row.name:
                    raise ValueError(f"{where} {network!r}, which in the end waits for {row.name!r} itself")
                if next_one in seen[1:]:
                    break
                seen.append(next_one)

    def _check_validation(self) -> None:
        for row in self.defenses:
            if self.dataset.validation is None and any(isinstance(own, EarlyStopping) for own in row.apply):
                raise ValueError(
                    f"defense {row.name!r} stops early by a validation set: set dataset.validation to a share or "
                    "a number of images per class"
                )

    def _check_per_example(self) -> None:
        for _, victim, row in self.meetings():
            if not row.per_example:
                continue
            if victim.recipe.compile:
                raise ValueError(
                    f"defense {row.name!r} watches single layers, which a compiled network hides: set compile: "
                    f"false in the recipe of victim {victim.name!r}"
                )
            lacking = f"defense {row.name!r} needs a gradient per example, which batch norm in"
            if row.friendly is not None and row.friendly.donor is not None and row.friendly.donor.mixes_examples:
                raise ValueError(
                    f"{lacking} the donor of its friendly noise does not have: choose a network with norm: group in "
                    "donor"
                )
            model = self.model_of(victim, row)
            trained = victim.scenario != "transfer" or victim.batch_norm == "train"
            if model.mixes_examples and trained:
                verb = "choose" if victim.scenario == "from-scratch" else "pretrain"
                raise ValueError(f"{lacking} victim {victim.name!r} does not have: {verb} a network with norm: group")

    def _check_trained_by_attacks(self) -> None:
        for attack in self.every_attack:
            pretrained = [victim.name for victim in self.victims_of(attack) if victim.scenario != "from-scratch"]
            if attack.trains_networks and pretrained:
                cure = " or set retrain_every: 0" if isinstance(attack, SleeperAgent) else ""
                raise ValueError(
                    f"attack {attack.name!r} trains networks from scratch, and victim {pretrained[0]!r} is pretrained: "
                    f"name victims from scratch{cure}"
                )
            if isinstance(attack, MetaPoison | ErrorMinimising):
                self._check_trained_by(attack)
            if isinstance(attack, SleeperAgent) and attack.retrain_every:
                known = None if attack.adaptation is None else attack.adaptation.random_noise
                for name in attack.surrogates:
                    if self.surrogate(name).apply not in ((), (known,)):
                        raise ValueError(
                            f"attack {attack.name!r} retrains surrogate {name!r} without its apply: repeat that in "
                            "the attack's adaptation, name a surrogate without apply, or set retrain_every: 0"
                        )

    def _check_trained_by(self, attack: MetaPoison | ErrorMinimising) -> None:
        """Refuse settings of surrogates that an attack trains itself but would not follow."""
        if len(attack.surrogates) > 1:
            raise ValueError(f"attack {attack.name!r} trains networks of one architecture: name one surrogate")
        for name in attack.surrogates:
            surrogate = self.surrogate(name)
            where = f"attack {attack.name!r} trains surrogate {name!r} itself,"
            if (optimizer := surrogate.recipe.optimizer) != "sgd":
                raise ValueError(
                    f"{where} by SGD and not by {optimizer}: name a surrogate whose recipe has optimizer: sgd"
                )
            for key, set_ in (("apply", surrogate.apply), ("held_out_per_class", surrogate.held_out_per_class)):
                if set_:
                    raise ValueError(f"{where} without its {key}: name a surrogate that has none")
            # The surrogate's seed still decides the network that recognises targets, if there is one.
            if surrogate.seed is not None and not attack.pretrained_networks:
                raise ValueError(f"{where} anew for each seed: name a surrogate without a seed")
            if isinstance(attack, MetaPoison) and (wrong := attack.too_short(surrogate.recipe.epochs)) is not None:
                raise ValueError(f"attack {attack.name!r}: {wrong}")

    def _check_adaptations(self) -> None:
        for attack in self.every_attack:
            adaptation = attack.adaptation if isinstance(attack, MatchingAttack) else None
            if adaptation is None or adaptation.friendly_attack is None or adaptation.friendly_defense is None:
                continue
            where = f"attack {attack.name!r}: adaptation names"
            _one_of(adaptation.friendly_attack, [other.name for other in self.attacks], f"{where} attack")
            makers = [row.name for row in self.defenses if row.friendly is not None]
            _one_of(adaptation.friendly_defense, makers, f"{where} defense", "the defenses with friendly noise")
            earlier = self.attack(adaptation.friendly_attack)
            if not self.defense(adaptation.friendly_defense).faces(earlier.name):
                raise ValueError(
                    f"{where} defense {adaptation.friendly_defense!r}, which does not face {earlier.name!r}"
                )
            if missing := sorted(set(self.seeds_of(attack)) - set(self.seeds_of(earlier))):
                raise ValueError(f"{where} {earlier.name!r}, which does not run with seed {missing[0]}")
            known = earlier.adaptation if isinstance(earlier, MatchingAttack) else None
            if known is not None and known.friendly_attack is not None:
                raise ValueError(
                    f"{where} {earlier.name!r}, which itself waits for the friendly noise of an earlier run"
                )
            if self.victims_of(attack)[0] != self.victims_of(earlier)[0]:
                raise ValueError(f"{where} {earlier.name!r}, whose first victim is another one")

    def _check_epochs(self) -> None:
        for _, victim, row in self.meetings():
            if row.friendly is None:
                continue
            begin = row.friendly.begins(victim.scenario)
            if begin >= row.epochs(victim.recipe):
                raise ValueError(
                    f"defense {row.name!r}: def_epoch {begin} is not below the "
                    f"{row.epochs(victim.recipe)} epochs of victim {victim.name!r}, so the noise would never be used"
                )
            if row.friendly.donor is not None and begin == 0 and victim.scenario != "from-scratch":
                raise ValueError(
                    f"defense {row.name!r}: the donor of friendly noise would be untrained, because victim "
                    f"{victim.name!r} gets its noise after 0 epochs: set def_epoch_pretrained above 0"
                )

    def _check_begins(self) -> None:
        """Check that an ablation varies the setting that decides when its victims' friendly noise begins."""
        for ablation in (each for each in self.ablations if each.method == "friendly-noise"):
            rows = {variant.row.name for variant in self.variants if variant.ablation == ablation.name}
            for attack, victim, row in self.meetings():
                scratch = victim.scenario == "from-scratch"
                name, other = (
                    ("def_epoch_pretrained", "def_epoch") if scratch else ("def_epoch", "def_epoch_pretrained")
                )
                faced = row.name in rows and (ablation.attacks is None or attack.name in ablation.attacks)
                if faced and name in ablation.vary:
                    raise ValueError(
                        f"ablation {ablation.name!r} varies {name}, which does nothing to victim {victim.name!r} of "
                        f"attack {attack.name!r} ({victim.scenario}): vary {other}, or list attacks of other victims"
                    )

    def _check_epic(self) -> None:
        for _, victim, row in self.meetings():
            for epic in (own for own in row.training if isinstance(own, Epic)):
                selections = epic.selections(victim.recipe)
                if not selections:
                    raise ValueError(
                        f"defense {row.name!r}: epic first selects before epoch {selections.start} (drop_after "
                        f"{epic.drop_after}, interval {epic.interval}), but not after epoch {selections.stop - 1} of "
                        f"victim {victim.name!r} (by its epochs, last milestone or stop_after), so nothing would ever "
                        "be dropped: lower drop_after or interval, or train longer"
                    )

    def _check_maxup(self) -> None:
        for _, victim, row in self.meetings():
            epochs = row.epochs(victim.recipe)
            for own in row.training:
                if isinstance(own, StrongAugmentation) and own.copies > 1 and own.warmup_epochs >= epochs:
                    raise ValueError(
                        f"defense {row.name!r}: warmup_epochs {own.warmup_epochs} is not below the {epochs} epochs of "
                        f"victim {victim.name!r}, so there would only ever be one copy: lower it"
                    )

    def _check_budget(self) -> None:
        source = source_of(self.dataset)
        if not isinstance(source, DigitsOnPhotos):
            return
        for attack in self.every_attack:
            if not isinstance(attack, CraftedAttack) or getattr(attack, "setup", None) is not None:
                continue
            victim, whole = self.victims_of(attack)[0], source.train_size // 10
            if (victim.fine_tune_per_class or 0) > whole:
                raise ValueError(
                    f"victim {victim.name!r}: fine_tune_per_class {victim.fine_tune_per_class} exceeds the {whole} "
                    "training images of a class"
                )
            size = 10 * victim.fine_tune_per_class if victim.fine_tune_per_class else source.train_size
            tested = isinstance(attack, FeatureCollision) and attack.bases == "test"
            class_size = source.test_size // 10 if tested else victim.fine_tune_per_class or whole
            count = max(1, math.ceil(round(attack.budget * size, 6)))
            if count > class_size:
                raise ValueError(
                    f"attack {attack.name!r}: budget {attack.budget:g} asks for {count} poisons, but a class has "
                    f"only {class_size} {'test' if tested else 'training'} images: lower the budget to at most "
                    f"{math.floor(1e4 * class_size / size) / 1e4:g}"
                )

    def _check_figures(self) -> None:
        for name in self.figures.landscape.victims:
            _one_of(name, [row.name for row in self.defenses], "figures.landscape.victims names defense")
            _check_shown(self.defense(name), "figures.landscape.victims names defense")
        for name in self.figures.attacks or ():
            _one_of(name, [attack.name for attack in self.attacks], "figures.attacks names attack")
        if self.figures.seed is not None and self.figures.seed not in self.seeds:
            raise ValueError(f"figures.seed {self.figures.seed} is not one of the seeds {list(self.seeds)}")

    def _check_figures_of_filters(self) -> None:
        attacks, rows = [attack.name for attack in self.attacks], [row.name for row in self.rows]
        _unique("figures.features", [view.name for view in self.figures.features])
        _unique("figures.by_victim", [bars.attack for bars in self.figures.by_victim])
        _unique("figures.ablations", [each.name for each in self.figures.ablations])
        for view in self.figures.features:
            where = f"figures.features {view.name!r} names"
            _one_of(view.attack, attacks, f"{where} attack")
            attack = self.attack(view.attack)
            if not attack.has_goal:
                raise ValueError(f"{where} attack {view.attack!r}, which has no target that poisons could be near")
            for network in view.networks:
                _one_of(network.victim, [victim.name for victim in self.victims_of(attack)], f"{where} victim")
                _one_of(network.defense, rows, f"{where} defense")
                _check_shown(self.defense(network.defense), f"{where} defense", view.attack)
            shown = [self.defense(network.defense) for network in view.networks]
            if "filtered-images" in view.draw and not any(row.filters for row in shown):
                raise ValueError(f"{where} no row with a filter: filtered-images has nothing to show")
        for bars in self.figures.by_victim:
            where = f"figures.by_victim of attack {bars.attack!r} names"
            _one_of(bars.attack, attacks, "figures.by_victim names attack")
            victims = [victim.name for victim in self.victims_of(self.attack(bars.attack))]
            for name in bars.defenses:
                _one_of(name, [row.name for row in self.defenses if row.faces(bars.attack)], f"{where} defense")
            for name in bars.rows:
                _one_of(name, victims, f"{where} victim")
        for each in self.figures.ablations:
            ablations = [ablation.name for ablation in self.ablations if len(ablation.vary) == 1]
            _one_of(each.name, ablations, "figures.ablations names ablation", "those of one setting,")
        beside = [*self.figures.ablations, *(bars for bars in self.figures.by_victim if bars.table is not None)]
        if beside and self.paper is None:
            raise ValueError("figures name a published table: name the paper, a folder of reference/")

    def surrogate(self, name: str) -> Surrogate:
        """The surrogate called ``name``."""
        return next(surrogate for surrogate in self.surrogates if surrogate.name == name)

    def attack(self, name: str) -> AttackSettings:
        """The attack called ``name``, of the study or of an ablation."""
        return next(attack for attack in self.every_attack if attack.name == name)

    def victim(self, name: str) -> Victim:
        """The victim called ``name``."""
        return next(victim for victim in self.victims if victim.name == name)

    def victims_of(self, attack: AttackSettings) -> tuple[Victim, ...]:
        """The networks that are trained on the poisons of an attack, in its order."""
        return self.victims[:1] if attack.victims is None else tuple(map(self.victim, attack.victims))

    @property
    def undefended(self) -> Row | None:
        """The undefended row of tables and figures: the first of ``compare`` if it has no defense, else the first row
        without one. None if every row has a defense."""
        plain = [row for row in self.defenses if row.poisoned and not row.apply and not row.pretrained]
        return next((row for row in plain if row.name in self.compare[:1]), next(iter(plain), None))

    def network_of(self, row: Row) -> str | None:
        """The row whose victim a row's filters or detector look at; None if they look at none."""
        return (row.network or next(iter(self.compare), None)) if row.inspects_row else None

    def model_of(self, victim: Victim, row: Row | None = None) -> ModelSettings:
        """A victim's architecture. Trained from scratch under a ``row`` that needs gradients per example, it has group
        norm if it can."""
        model = victim.model or self.surrogate(str(victim.pretrained)).model
        regroup = row is not None and row.per_example and victim.scenario == "from-scratch" and hasattr(model, "norm")
        return model.model_copy(update={"norm": "group"}) if regroup else model

    def pretrained_of(self, victim: Victim, row: Row) -> str | None:
        """The surrogate that a victim begins as under a row; None from scratch."""
        own = victim.pretrained
        return None if own is None else row.pretrained.get(own, own)

    def seeds_of(self, attack: AttackSettings) -> tuple[int, ...]:
        """The seeds that an attack runs with, in the study's order."""
        return tuple(seed for seed in self.seeds if attack.seeds is None or seed in attack.seeds)

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """Every combination of every ablation of a row."""
        return tuple(
            variant
            for ablation in self.ablations
            if ablation.defense is not None
            for variant in variants(ablation, self._listed(ablation.defense))
        )

    @cached_property
    def attack_variants(self) -> tuple[AttackVariant, ...]:
        """Every combination of every ablation of an attack."""
        return tuple(
            variant
            for ablation in self.ablations
            if ablation.attack is not None
            for variant in attack_variants(ablation, self._listed_attack(ablation.attack), self.attacks)
        )

    @cached_property
    def every_attack(self) -> tuple[AttackSettings, ...]:
        """The attacks of the results and then those of the ablations."""
        return (*self.attacks, *(variant.attack for variant in self.attack_variants if not variant.listed))

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The rows of the results and then those of the ablations."""
        return (*self.defenses, *(variant.row for variant in self.variants if not variant.own))

    def rows_of(self, attack: AttackSettings) -> Sequence[Row]:
        """The rows that meet an attack; an ablation's variant meets those that the ablation names."""
        if (met := self._variants_rows.get(attack.name)) is not None:
            return met
        return [row for row in self.rows if row.faces(attack.name)]

    @cached_property
    def _variants_rows(self) -> dict[str, list[Row]]:
        return {
            variant.attack.name: [row for row in self.defenses if row.name in variant.defenses]
            for variant in self.attack_variants
            if not variant.listed
        }

    def meetings(self) -> list[tuple[AttackSettings, Victim, Row]]:
        """Every attack with each of its victims under every row that meets it, in the tables' order."""
        return [
            (attack, victim, row)
            for attack in self.every_attack
            for victim in self.victims_of(attack)
            for row in self.rows_of(attack)
        ]

    def members(self, surrogate: str, seed: int) -> int:
        """How many networks of a surrogate the study needs that are trained with ``seed``."""
        shared = self.surrogate(surrogate).seed is not None
        attacks = [attack for attack in self.every_attack if shared or seed in self.seeds_of(attack)]
        crafted = [attack.pretrained_networks for attack in attacks if surrogate in attack.surrogates]
        begun, inspected = [], []
        for attack in attacks:
            for row in self.rows_of(attack):
                victims = self.victims_of(attack)
                begun += [each.member + 1 for each in victims if self.pretrained_of(each, row) == surrogate]
                inspected += [1] if row.inspected_surrogate == surrogate else []
        judging = [
            1
            for attack in attacks
            if self.transfer is not None
            and surrogate in self.transfer.networks
            and attack.name in self.transfer.attacks
        ]
        return max([0, *crafted, *begun, *inspected, *judging])

    def defense(self, name: str) -> Row:
        """The row called ``name``, of the study or of an ablation."""
        return next(row for row in self.rows if row.name == name)

    def _listed_attack(self, name: str) -> AttackSettings:
        return next(attack for attack in self.attacks if attack.name == name)

    def _listed(self, name: str) -> Row:
        return next(row for row in self.defenses if row.name == name)

    def landscape_victims(self, attack: str) -> list[str]:
        """The rows whose victims figure 3 compares."""
        return [name for name in self.figures.landscape.victims if self._listed(name).faces(attack)]

    @property
    def drawn_attacks(self) -> list[AttackSettings]:
        """The attacks with figures of their own."""
        chosen = self.figures.attacks
        return [attack for attack in self.attacks if chosen is None or attack.name in chosen]

    def shown_seed(self, attack: AttackSettings) -> int:
        """The seed whose poisons of an attack the figures show."""
        seeds = self.seeds_of(attack)
        return self.figures.seed if self.figures.seed in seeds else seeds[0]


def _one_of(name: str, known: list[str], what: str, called: str = "") -> None:
    if name not in known:
        raise ValueError(f"{what} {name!r}, which is not one of {called + ' ' if called else ''}{known}")


def _check_shown(row: Row, where: str, attack: str | None = None) -> None:
    """Refuse a row whose victims cannot be shown beside others; ``attack`` is the one whose poisons they must have."""
    for wrong, why in (
        (attack is not None and not row.faces(attack), f"which does not face attack {attack!r}"),
        (attack is not None and not row.poisoned, "which is trained on clean data"),
        (row.detector is not None, "whose network is another row's"),
        (row.per_example, "whose network is built in another way"),
        (row.dilution is not None, "which gives some poisons back clean"),
    ):
        if wrong:
            raise ValueError(f"{where} {row.name!r}, {why}: name a row that trains on the attack's own poisons")


def _unique(what: str, names: Iterable[Any]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ValueError(f"{what} repeats {', '.join(map(str, twice[:_SHOWN]))}")


def read_study(values: Mapping[str, Any]) -> Study:
    """Check a config.

    Raises:
        SettingsError: one line with the problems: where they are, what is wrong, and what is allowed.
    """
    try:
        return Study.model_validate(plain_values(values))
    except ValidationError as error:
        raise explained(error, Study, "config") from error
