# What every rule needs: where things lie, and how settings and code become params.

import re
import shutil
from pathlib import Path

ATTACKS = [attack.name for attack in study.attacks]
SEEDS = list(study.seeds)

DATASET = f"{study.results}/data/{study.study}.safetensors"
SURROGATE = f"{study.results}/surrogates/{study.study}/{{surrogate}}/seed{{seed}}-{{member}}"
POISONS = f"{study.results}/poisons/{study.study}/{{attack}}/seed{{seed}}"
NOISE = f"{study.results}/noise/{study.study}/{{attack}}/{{defense}}/seed{{seed}}"
VICTIM = f"{study.results}/victims/{study.study}/{{attack}}/{{defense}}/seed{{seed}}"
TABLE = f"{study.results}/tables/{study.study}"
FIGURE = f"{study.results}/figures/{study.study}"
CHECKPOINT = f"{study.results}/checkpoints/{study.study}"
LOG = f"{study.results}/logs/{study.study}"

# A changed version of these may change results, so it reruns what used the old one.
SOFTWARE = locked_versions(
    Path("envs/requirements.lock"), "torch", "torchvision", "numpy", "scikit-learn"
)

# Most strings that settings and code of one job come to.
TRACKED = 160

ON_GPU = study.device == "cuda" or (
    study.device == "auto" and shutil.which("nvidia-smi") is not None
)

# One job at a time on a GPU, unless the command line or a profile says otherwise.
workflow.global_resources.setdefault("gpu", 1)


wildcard_constraints:
    attack="|".join(map(re.escape, ATTACKS)),
    defense="|".join(re.escape(row.name) for row in study.defenses),
    surrogate="|".join(re.escape(surrogate.name) for surrogate in study.surrogates),
    seed=r"\d+",
    member=r"\d+",
