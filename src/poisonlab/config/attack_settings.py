"""The attacks that a study can name."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from poisonlab.config.attacks.badnets import BadNets
from poisonlab.config.attacks.bullseye_polytope import BullseyePolytope
from poisonlab.config.attacks.convex_polytope import ConvexPolytope
from poisonlab.config.attacks.error_maximising import ErrorMaximising
from poisonlab.config.attacks.error_minimising import ErrorMinimising
from poisonlab.config.attacks.feature_collision import FeatureCollision
from poisonlab.config.attacks.functional import Functional
from poisonlab.config.attacks.gradient_matching import GradientMatching
from poisonlab.config.attacks.imported import Imported
from poisonlab.config.attacks.low_frequency import LowFrequency
from poisonlab.config.attacks.metapoison import MetaPoison
from poisonlab.config.attacks.poison_frogs import PoisonFrogs
from poisonlab.config.attacks.regions import Regions
from poisonlab.config.attacks.sleeper_agent import SleeperAgent

# A new attack joins this union.
AttackSettings = Annotated[
    GradientMatching
    | BullseyePolytope
    | PoisonFrogs
    | ConvexPolytope
    | MetaPoison
    | SleeperAgent
    | BadNets
    | ErrorMaximising
    | ErrorMinimising
    | FeatureCollision
    | Functional
    | Regions
    | LowFrequency
    | Imported,
    Field(discriminator="method"),
]
