# Where things lie, and how settings and code become params: what every rule needs.

import functools
import inspect
import itertools
import os
import re
import shlex
from pathlib import Path

# Many jobs share their code, and finding it takes thousands of looks at the disk.
code_digests = functools.cache(code_digests)

ATTACKS = [attack.name for attack in study.attacks]

DATASET = f"{study.results}/data/{study.study}.safetensors"
SURROGATE = f"{study.results}/surrogates/{study.study}/{{surrogate}}/seed{{seed}}-{{member}}"
POISONS = f"{study.results}/poisons/{study.study}/{{attack}}/seed{{seed}}"
NOISE = f"{study.results}/noise/{study.study}/{{attack}}/{{defense}}/seed{{seed}}"
KEEP = f"{study.results}/filters/{study.study}/{{attack}}/{{defense}}/seed{{seed}}"
DETECTION = f"{study.results}/detections/{study.study}/{{attack}}/{{defense}}/seed{{seed}}"
VICTIM = f"{study.results}/victims/{study.study}/{{attack}}/{{defense}}/seed{{seed}}"
TABLE = f"{study.results}/tables/{study.study}"
FIGURE = f"{study.results}/figures/{study.study}"
CHECKPOINT = f"{study.results}/checkpoints/{study.study}"
REPORT = f"{study.results}/reports/{study.study}"
LOG = f"{study.results}/logs/{study.study}"

# Where the victims of a row stand, as the program that gathers trials is told.
KINDS = ("victims", "detections", "noise", "filters")
FOLDERS = [
    part for kind in KINDS for part in (f"--{kind}", f"{study.results}/{kind}/{study.study}")
]

# What is renamed when a program finds it damaged, because the next call makes it anew. Nothing of another study or from elsewhere.
REMADE = [
    DATASET,
    f"{TABLE}-trials.csv",
    f"{TABLE}-so-far-trials.csv",
    *(
        f"{study.results}/{kind}/{study.study}/"
        for kind in ("surrogates", "poisons", *KINDS, "figures")
    ),
]
MARKS = f"{study.results}/damaged/{study.study}"
os.environ.update(POISONLAB_REMADE=os.pathsep.join(REMADE), POISONLAB_MARKS=MARKS)

# A changed version of these may change results, so it reruns what used the old one.
SOFTWARE = locked_versions(
    Path("envs/requirements.lock"), "torch", "torchvision", "numpy", "scikit-learn"
)

# A job of a cluster reads this file again on its node, which may have a GPU where the submitting machine has none. What the job
# asked for is decided once, and handed on in the environment.
GPUS = [] if study.device == "cpu" else visible_gpus()
GPU_HERE = os.environ.setdefault("POISONLAB_GPU_HERE", str(int(bool(GPUS))))
ON_GPU = study.device == "cuda" or (study.device == "auto" and GPU_HERE == "1")

# Jobs at a time on the GPUs here, whatever the command line or a profile allows. A cluster, which is told how many jobs it may get,
# has GPUs of its own.
ROOM = max(1, len(GPUS)) * study.jobs_per_gpu
if workflow.resource_settings.nodes is None:
    asked = workflow.global_resources.setdefault("gpu", ROOM).value
    workflow.register_resource("gpu", min(ROOM, asked))


# Every victim or detection of the study, in the tables' order.
CELLS = [
    dict(attack=attack.name, defense=row.name, seed=seed)
    for attack, row in study.meetings()
    for seed in study.seeds_of(attack)
]


def filled(pattern, **wildcards):
    """The path of one job: Snakemake's ``expand`` takes thirty times as long for it."""
    return pattern.format(**wildcards)


def cells(chosen):
    """The cells to run here whose row is ``chosen`` (a function of it)."""
    return [cell for cell in LOCAL_CELLS if chosen(study.defense(cell["defense"]))]


def these(pattern, some):
    """The files of some cells."""
    return [filled(pattern, **cell) for cell in some]


ABLATIONS = [ablation.name for ablation in study.ablations]

# The tables of the paper that the study has results for.
PAPER_TABLES = sorted({place.table for attack in study.attacks for place in attack.published})

TEXTS = ("csv", "md", "tex")


def paper_table(number, kind, whole=True):
    return f"{TABLE}{'' if whole else '-so-far'}-table{number}.{kind}"


def ablation_table(name, kind, whole=True):
    return f"{TABLE}{'' if whole else '-so-far'}-ablation-{name}.{kind}"


def every_table(whole):
    """Every table but the study's own, of the whole study or of what there is."""
    return [
        table(name, kind, whole)
        for table, names in ((paper_table, PAPER_TABLES), (ablation_table, ABLATIONS))
        for name in names
        for kind in TEXTS
    ]


wildcard_constraints:
    ablation="|".join(map(re.escape, ABLATIONS)) or "none",
    attack="|".join(map(re.escape, ATTACKS)),
    defense="|".join(re.escape(row.name) for row in study.rows),
    surrogate="|".join(re.escape(surrogate.name) for surrogate in study.surrogates),
    seed=r"\d+",
    member=r"\d+",
