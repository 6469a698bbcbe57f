"""Settings of a scan: which images are searched for poisons, with which network and filters, and what is planted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from poisonlab.config.architectures import ModelSettings
from poisonlab.config.attack_settings import AttackSettings
from poisonlab.config.attacks.badnets import BadNets
from poisonlab.config.attacks.bullseye_polytope import BullseyePolytope
from poisonlab.config.attacks.gradient_matching import GradientMatching
from poisonlab.config.data.image_folder import BESIDE_A_PATH
from poisonlab.config.datasets import DatasetSettings, source_of
from poisonlab.config.explaining import explained
from poisonlab.config.models.fast_cifar import FastCifar
from poisonlab.config.plain_values import plain_values
from poisonlab.config.recipes import NamedRecipe
from poisonlab.config.stages import Seed
from poisonlab.config.study import Study
from poisonlab.config.types import InputPath, Name, PositiveInt, Settings, WholeLevel, distinct

FilterName = Literal[
    "deep-knn",
    "spectral-signatures",
    "activation-clustering",
    "epic",
    "l2-centroid",
    "one-class-svm",
    "self-confidence",
]
NETWORK = "network"
"""The network's name in a scan, for attacks that name their surrogate."""

_FOUND_OUT = ("data", *BESIDE_A_PATH)
"""Keys that name the data by a path; ``poisonlab.graph.scanning.scan_from`` turns them into ``dataset``."""
_RECIPE = NamedRecipe.model_validate({"base": "fast", "evaluate_every": 8})
_ATTACKS = (
    BadNets(name="badnets"),
    BullseyePolytope(name="bullseye-polytope", surrogate=NETWORK, target="recognised", steps=250),
    GradientMatching(
        name="gradient-matching",
        surrogate=NETWORK,
        target="recognised",
        steps=100,
        restarts=1,
        derivative="differences",
        crafting_precision="bfloat16",
    ),
)
_OF_A_STUDY = {"budget", "seeds", "victims"}
"""Keys of attacks that a scan sets itself."""


class Scan(Settings):
    """A dataset, the networks whose features filters look at, the filters, and the poisons that measure their power."""

    scan: Name
    """Names the results, which lie in ``<results>/scans/<scan>``."""
    dataset: DatasetSettings
    """The images, by the keys of a study's ``dataset``."""
    results: str = "results"
    """Folder of all outputs, below this one."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto``: a GPU if there is one; ``cuda``: fail without one."""
    threads: PositiveInt = 1
    """CPU threads per job; jobs run side by side."""
    jobs_per_gpu: PositiveInt = 1
    """Jobs that share a GPU."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 120.0
    """Seconds between saved states of a training or crafting, from which an interrupted scan goes on."""
    memory_mb: Annotated[int, Field(ge=16, le=1_000_000)] = 512
    """Bound on the distances that a job holds at a time, in MiB; images, features and torch itself come on top."""
    model: ModelSettings = FastCifar()
    """Architecture of the network."""
    recipe: NamedRecipe = _RECIPE
    """How the network is trained; keys that are not given are those of ``fast``."""
    weights: InputPath | None = None
    """Safetensors file of a trained network's weights. Filters look at this network, and none is trained for them."""
    network: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    """A network of your own in place of ``model``, as ``module:function``. Called without arguments, the function
    returns a network from pixels in [0, 1] to logits, whose last layer is linear; ``weights`` are loaded into it.
    Attacks that need a surrogate then craft on a network of ``model``."""
    seed: Seed = 0
    """Seed of the network, the filters' draws and the planted poisons."""
    networks: Annotated[int, Field(ge=1, le=20)] = 2
    """Networks that differ only in their seed. The first one decides the suspects; the others reveal false alarms."""
    filters: Annotated[tuple[FilterName, ...], Field(min_length=1), AfterValidator(distinct)] = get_args(FilterName)
    """The filters whose rankings are joined."""
    neighbours: PositiveInt = 50
    """Neighbours that vote in deep k-NN. Finding p poisons takes at least 2p neighbours."""
    suspects: PositiveInt | None = None
    """How many images count as flagged; if not given 2 % of the training images, but at least 20 and at most 200."""
    near: WholeLevel = 8.0
    """Images are near-duplicates up to this root mean square difference of their pixels, in levels of 1/255."""
    attacks: tuple[AttackSettings, ...] = _ATTACKS
    """Attacks whose poisons are planted, each in its own copy of the data, which is scanned in the same way. Their
    ``surrogate`` is ``network``. With an empty list, the scan's power stays unknown."""
    poisons: PositiveInt | None = None
    """Poisons that each attack plants. If not given: 25, or fewer in small data, with at most 1 % of the training
    images (or 4, if that is more) and half of the smallest class."""

    @field_validator("recipe", mode="before")
    @classmethod
    def _fast(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "base" not in value:
            return {"base": "fast", "evaluate_every": 8, **value}
        return value

    @model_validator(mode="after")
    def _check(self) -> Scan:
        for limit in ("train_limit", "test_limit"):
            if getattr(source_of(self.dataset), limit, None) is not None:
                raise ValueError(f"dataset.{limit} leaves images out of the scan: take it away")
        if self.weights is not None and "networks" in self.model_fields_set and self.networks > 1:
            raise ValueError("networks differ by the seed of their training, but weights are given: take one away")
        if self.network is not None and self.weights is None:
            raise ValueError("network needs weights: the lab trains only architectures that model names")
        for attack in self.attacks:
            if wrong := [name for name in attack.surrogates if name != NETWORK]:
                raise ValueError(f"attack {attack.name!r}: surrogate {wrong[0]!r} must be called {NETWORK!r} in a scan")
            if "budget" not in type(attack).model_fields or getattr(attack, "setup", None) is not None:
                raise ValueError(f"attack {attack.name!r} has no budget, so no number of its poisons can be planted")
            if given := sorted(attack.model_fields_set & _OF_A_STUDY):
                raise ValueError(
                    f"attack {attack.name!r}: {given[0]} has no effect in a scan, which plants poisons by number "
                    "in one copy of the data: take it away, and set poisons and seed of the scan"
                )
            if self.weights is not None and self.network is None and attack.pretrained_networks > 1:
                raise ValueError(f"attack {attack.name!r} asks for an ensemble, but weights are of one network")
        return self

    @property
    def seeds(self) -> tuple[int, ...]:
        """One seed per network."""
        return tuple(range(self.seed, self.seed + (1 if self.weights is not None else self.networks)))

    def study(self) -> Study:
        """The study whose jobs read the data, train the networks and plant the poisons.

        Raises:
            SettingsError: the attacks contradict each other or the data.
        """
        planted = [attack.model_copy(update={"seeds": (self.seed,), "victims": None}) for attack in self.attacks]
        values = {
            "study": "scan",
            "results": f"{self.results}/scans/{self.scan}",
            **{name: getattr(self, name) for name in ("device", "threads", "jobs_per_gpu", "checkpoint_seconds")},
            "dataset": self.dataset,
            "seeds": self.seeds,
            "surrogates": [{"name": NETWORK, "model": self.model, "recipe": self.recipe}],
            # A study has an attack, but no job of this one is asked for.
            "attacks": planted or [BadNets(name="none")],
            "victims": [{"name": NETWORK, "model": self.model, "recipe": self.recipe}],
            "defenses": [{"name": "none"}],
        }
        try:
            return Study.model_validate(values)
        except ValidationError as error:
            raise explained(error, Study, "scan") from error


def read_scan(values: Mapping[str, Any]) -> Scan:
    """Check a scan's config.

    Raises:
        SettingsError: one line with the problems.
    """
    try:
        return Scan.model_validate(plain_values(values))
    except ValidationError as error:
        raise explained(error, Scan, "scan", _FOUND_OUT) from error
