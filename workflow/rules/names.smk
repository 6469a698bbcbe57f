# What every rule needs: where things lie, and how settings and code become params.

import re
from pathlib import Path

ATTACKS = [attack.name for attack in study.attacks]
SEEDS = list(study.seeds)

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

ON_GPU = study.device == "cuda" or (study.device == "auto" and Path("/dev/nvidia0").exists())

# One job at a time on a GPU, unless the command line or a profile says otherwise.
workflow.global_resources.setdefault("gpu", 1)


wildcard_constraints:
    attack="|".join(map(re.escape, ATTACKS)),
    defense="|".join(re.escape(row.name) for row in study.defenses),
    surrogate="|".join(re.escape(surrogate.name) for surrogate in study.surrogates),
    seed=r"\d+",
    member=r"\d+",


def plain(settings, *without):
    """Settings as plain values, the only kind that Snakemake tracks."""
    return settings.model_dump(mode="json", exclude=set(without))


def training_spec(model, recipe, wildcards):
    return dict(
        dataset=plain(study.dataset),
        model=plain(model),
        recipe=plain(recipe, "base"),
        seed=int(wildcards.seed),
    )


def training_code(script, models, *others):
    """Digests of a script, of the data source, architectures and other modules it loads by name, and of all they import."""
    modules = {module_name("models", model.name) for model in models}
    data = module_name("data", study.dataset.source)
    return SOFTWARE + code_digests(f"workflow/scripts/{script}.py", data, *sorted(modules), *others)


def where(wildcards, threads):
    """How a job runs rather than what it computes. Snakemake does not compare params that ask for threads."""
    return ["--device", study.device, "--threads", str(threads)]


def saving(wildcards, threads):
    """As ``where``: how often a training saves its state."""
    return ["--checkpoint-seconds", str(study.checkpoint_seconds)]


def dataset_files():
    """The files the dataset is read from: when they change, so does everything."""
    from poisonlab.data.sources import files_of

    return files_of(study.dataset)
