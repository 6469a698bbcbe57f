"""Rows of the results: which defenses are combined, and which attacks they face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from poisonlab.config.clashes import clash
from poisonlab.config.defenses.abl import Abl
from poisonlab.config.defenses.adversarial_poisoning import AdversarialPoisoning
from poisonlab.config.defenses.adversarial_training import AdversarialTraining
from poisonlab.config.defenses.dilution import Dilution
from poisonlab.config.defenses.dp_sgd import DpSgd
from poisonlab.config.defenses.early_stopping import EarlyStopping
from poisonlab.config.defenses.epic import Epic
from poisonlab.config.defenses.friendly_noise import FriendlyNoise
from poisonlab.config.defenses.gradient_shaping import GradientShaping
from poisonlab.config.defenses.grayscale import Grayscale
from poisonlab.config.defenses.jpeg import Jpeg
from poisonlab.config.defenses.random_noise import RandomNoise
from poisonlab.config.defenses.strong_augmentation import StrongAugmentation
from poisonlab.config.detection.detector import Detector
from poisonlab.config.detection.neural_cleanse import NeuralCleanse
from poisonlab.config.detection.strip import Strip
from poisonlab.config.filters.activation_clustering import ActivationClustering
from poisonlab.config.filters.deep_knn import DeepKnn
from poisonlab.config.filters.filter import Filter
from poisonlab.config.filters.l2_centroid import L2Centroid
from poisonlab.config.filters.one_class_svm import OneClassSvm
from poisonlab.config.filters.random_filter import RandomFilter
from poisonlab.config.filters.spectral_signatures import SpectralSignatures
from poisonlab.config.inspection import Inspection
from poisonlab.config.recipe import Recipe
from poisonlab.config.types import LATER, Name, Settings

# A new defense joins the union of its kind.
TrainingSettings = (
    Abl
    | AdversarialPoisoning
    | AdversarialTraining
    | DpSgd
    | EarlyStopping
    | Epic
    | FriendlyNoise
    | GradientShaping
    | Grayscale
    | Jpeg
    | RandomNoise
    | StrongAugmentation
)
Squeezing = Grayscale | Jpeg
FilterSettings = ActivationClustering | DeepKnn | L2Centroid | OneClassSvm | RandomFilter | SpectralSignatures
DetectorSettings = NeuralCleanse | Strip
DefenseSettings = Annotated[
    Dilution | TrainingSettings | FilterSettings | DetectorSettings, Field(discriminator="method")
]


class Row(Settings):
    """One row of the results: a defense, or several applied in order, or a control."""

    name: Name
    """Names the row's folder and its row in the tables."""
    poisoned: bool = True
    """False: the control, trained on clean data and judged on the attack's target."""
    attacks: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    """The attacks it faces; all if not given."""
    published: Name | None = None
    """Name of the defense in ``reference/<paper>/*.csv``, for the published numbers beside it; the row's name if not
    given."""
    joined_as: Annotated[Name | None, LATER] = None
    """Name of the row's line in tables with attacks side by side; rows of other attacks with the same name share the
    line. The row's name if not given."""
    pretrained: Mapping[Name, Name] = {}
    """Surrogates to begin victims as under this row, each keyed by the surrogate that it replaces. An example is an
    adversarially trained one, for its robust features. Every victim that the row meets needs an entry; if not given,
    each begins as its own surrogate."""
    apply: tuple[DefenseSettings, ...] = ()
    """The defenses in order: dilution, then filters, then those that act on the training, with grayscale and jpeg
    before friendly noise. A detector must be alone. Empty for undefended training."""

    @property
    def line(self) -> str:
        """Name of the row's line in tables with attacks side by side."""
        return self.joined_as or self.name

    @property
    def dilution(self) -> Dilution | None:
        """The dilution, which gives some of the poisoned images back clean; None without one."""
        return next((defense for defense in self.apply if isinstance(defense, Dilution)), None)

    @property
    def filters(self) -> tuple[Filter, ...]:
        """The filters, which drop examples before the training."""
        return tuple(defense for defense in self.apply if isinstance(defense, Filter))

    @property
    def training(self) -> tuple[TrainingSettings, ...]:
        """The defenses that act on the training."""
        return tuple(defense for defense in self.apply if not isinstance(defense, Inspection | Dilution))

    @property
    def detector(self) -> Detector | None:
        """The detector, which examines another row's victim; a row with one trains no victim of its own."""
        return next((defense for defense in self.apply if isinstance(defense, Detector)), None)

    @property
    def network(self) -> str | None:
        """The row whose victim this row's filters or detector look at, if they name one."""
        return next((defense.network for defense in self.apply if isinstance(defense, Inspection)), None)

    @property
    def inspected_surrogate(self) -> str | None:
        """The surrogate that this row's filters look at."""
        return next((defense.surrogate for defense in self.filters), None)

    @property
    def inspects_row(self) -> bool:
        """Whether its filters or detector look at another row's victim."""
        return bool(self.filters or self.detector) and self.inspected_surrogate is None

    @property
    def looks(self) -> bool:
        """Whether its filters or detector look at any network; filters that drop at random do not."""
        return self.detector is not None or any(not isinstance(each, RandomFilter) for each in self.filters)

    @property
    def friendly(self) -> FriendlyNoise | None:
        """The friendly noise of this row, if it uses any."""
        return next((defense for defense in self.apply if isinstance(defense, FriendlyNoise)), None)

    @property
    def squeezing(self) -> tuple[Squeezing, ...]:
        """The defenses that change the training images before the training, in order."""
        return tuple(defense for defense in self.apply if isinstance(defense, Squeezing))

    @property
    def per_example(self) -> bool:
        """Whether its training needs per-example gradients, which batch norm rules out."""
        return any(isinstance(defense, DpSgd) for defense in self.apply)

    def epochs(self, recipe: Recipe) -> int:
        """How long its victims are trained; ABL has phases of its own."""
        phases = next((defense for defense in self.apply if isinstance(defense, Abl)), None)
        if phases is None:
            return recipe.epochs
        return phases.isolation_epochs + phases.fine_tune_epochs + phases.unlearn_epochs

    def faces(self, attack: str) -> bool:
        """Whether the row meets the attack called ``attack``."""
        return self.attacks is None or attack in self.attacks

    @model_validator(mode="after")
    def _check_composition(self) -> Row:
        where = f"defense {self.name!r}"
        methods: list[str] = [defense.method for defense in self.apply]
        if self.detector is not None and len(self.apply) > 1:
            raise ValueError(
                f"{where}: {self.detector.method} examines the finished victim of another row, so it stands alone; "
                "name that row in its network"
            )
        if self.detector is not None and self.pretrained:
            raise ValueError(
                f"{where}: {self.detector.method} trains no victim, so no network can stand in: name its row"
            )
        if "dilution" in methods[1:]:
            raise ValueError(f"{where}: dilution acts before all others, so list it first, and once")
        if self.dilution is not None and not self.poisoned:
            raise ValueError(f"{where}: dilution changes nothing in a row that is trained on clean data")
        begin = int(self.dilution is not None)
        if self.apply[begin : begin + len(self.filters)] != self.filters:
            raise ValueError(f"{where}: filters act before the training, so list them first")
        if len({(defense.network, defense.surrogate) for defense in self.filters}) > 1:
            raise ValueError(f"{where}: its filters must look at one and the same network")
        if self.friendly is not None and self.squeezing:
            late = [own.method for own in self.apply[self.apply.index(self.friendly) :] if isinstance(own, Squeezing)]
            if late:
                raise ValueError(
                    f"{where}: {late[0]} changes the training set before the training, and friendly noise is made for "
                    "the images that it leaves: list it before friendly-noise"
                )
        if (why := clash(methods)) is not None:
            raise ValueError(f"{where}: {why}")
        judges = [defense.method for defense in self.filters if not isinstance(defense, RandomFilter)]
        if self.pretrained and judges and self.inspects_row and self.network is None:
            raise ValueError(
                f"{where}: victims begin as other networks here, so say at which one {judges[0]} looks: name a "
                "surrogate, or as its network the row whose victims it looks at"
            )
        if self.per_example and judges:
            raise ValueError(
                f"{where}: dp-sgd does not go with {judges[0]}: its privacy guarantee needs a fixed training set, and "
                "whether the filter keeps an example depends on all the others"
            )
        return self
