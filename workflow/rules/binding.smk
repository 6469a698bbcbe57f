# Rules take inputs, outputs, params and commands from the jobs of poisonlab.graph; jobs take turns on this machine's
# GPUs.

import inspect
import json
import shlex

from poisonlab.graph.listing import CATEGORIES, LISTED
from poisonlab.provenance import digest_of, newest_source
from poisonlab.runtime.gpus import visible_gpus

shell.executable("bash")

# Jobs run this environment's Python on this checkout's sources, however Snakemake was called. This also holds if a
# workflow that uses this one as a module prefixes its own shell commands.
BESIDE = os.path.join(os.path.dirname(sys.executable), "python")
PYTHON = (
    f"PYTHONPATH={shlex.quote(SOURCES)}${{PYTHONPATH:+:$PYTHONPATH}} KMP_BLOCKTIME=0 "
    + shlex.quote(BESIDE if os.path.exists(BESIDE) else sys.executable)
)

# Progress bars go to log files, which keep each update: one in ten seconds is enough.
os.environ.setdefault("TQDM_MININTERVAL", "10")

# A cluster job reads this file again on its node, which may have a GPU although the submitting machine has none. The
# submitting machine decides whether jobs ask for a GPU, and passes this on in the environment.
GPUS = [] if study.device == "cpu" else visible_gpus()
GPU_HERE = os.environ.setdefault("POISONLAB_GPU_HERE", str(int(bool(GPUS))))
ON_GPU = study.device == "cuda" or (study.device == "auto" and GPU_HERE == "1")

# The node would also read settings that were edited meanwhile, while the submitting machine records the former ones. So
# the environment also holds the digests of the configs that jobs are planned with, and the time of their newest code.
CONFIG = digest_of([json.dumps(config, sort_keys=True, default=str)])
if workflow.is_main_process:
    known = {*os.environ.get("POISONLAB_CONFIGS", "").split(), CONFIG}
    os.environ.update(
        POISONLAB_CONFIGS=" ".join(sorted(known)), POISONLAB_NEWEST=str(newest_source(Path(ROOT)))
    )
elif CONFIG not in os.environ.get("POISONLAB_CONFIGS", CONFIG).split():
    raise WorkflowError(
        "the config has changed since this job was submitted: restore it, or stop Snakemake and call it again"
    )

# Limit of jobs that share the GPUs of this machine, whatever --resources or a profile allow. A cluster has GPUs of its
# own, and its own limit on jobs.
ROOM = max(1, len(GPUS)) * study.jobs_per_gpu
if workflow.resource_settings.nodes is None:
    wanted = workflow.global_resources.setdefault("gpu", ROOM).value
    workflow.register_resource("gpu", min(ROOM, wanted))


def asked(function):
    """A function of the wildcards and more, with its signature precomputed: Snakemake asks for it several times per
    job, and finding it takes longer than most of the functions."""
    function.__signature__ = inspect.signature(function)
    return function


def placed(paths):
    """Paths that Snakemake does not move further, because they already contain a module's prefix."""
    return local(paths)


def inputs(stage):
    """The files of a job's inputs, by name."""

    @asked
    def of(wildcards):
        return {name: placed(paths) for name, paths in graph.job(stage, wildcards).inputs.items()}

    return of


def outputs(stage):
    """The patterns of a stage's outputs, by name, with marks on those in Snakemake's report."""
    patterns = graph.places.outputs(stage)
    listed = LISTED.get(stage, {})
    return {
        name: placed(in_report(stage, name, path) if name in listed else path)
        for name, path in patterns.items()
    }


def in_report(stage, output, pattern):
    """A pattern with its caption, category and labels in Snakemake's report."""

    def entry(wildcards):
        return graph.listing.entry(stage, wildcards, output)

    return report(
        pattern,
        caption=f"../report/{LISTED[stage][output]}.rst",
        category=CATEGORIES.get(stage, "Tables"),
        subcategory=lambda wildcards: entry(wildcards).section,
        labels=lambda wildcards: entry(wildcards).labels,
    )


def log_of(stage):
    """The pattern of a stage's logs."""
    return placed(graph.places.log(stage))


def settings(stage):
    """A job's settings, for Snakemake to compare; one list, so that any change counts as a change of one param."""
    return asked(lambda wildcards: list(graph.job(stage, wildcards).settings))


def code(stage):
    """Digests of a job's code and its other dependencies, for Snakemake to compare."""
    return asked(lambda wildcards: graph.code(graph.job(stage, wildcards)))


def command(stage):
    """The shell command of a job. Snakemake does not compare params that ask for threads: they change how a job runs, not its result."""

    @asked
    def of(wildcards, threads):
        job = graph.job(stage, wildcards)
        options = {}
        if job.computes:
            options["device"] = [study.device]
            # Snakemake limits its number of threads to --cores, and another number gives other bits.
            options["threads"] = [str(study.threads)]
            options["jobs-per-gpu"] = [str(study.jobs_per_gpu)]
            options["code"] = graph.code(job)
        if job.saves:
            options["capture"] = [study.capture]
            options["checkpoint-seconds"] = [str(study.checkpoint_seconds)]
        return job.command(PYTHON, graph.scripts, options)

    return of


NOTHING = "(?!)"  # matches no name


def one_of(names):
    return "|".join(map(re.escape, names)) or NOTHING


wildcard_constraints:
    ablation=one_of(ablation.name for ablation in study.ablations),
    attack=one_of(attack.name for attack in study.every_attack),
    defense=one_of(row.name for row in study.rows),
    figure=one_of(graph.figures.every()),
    member=r"\d+",
    number=one_of(map(str, graph.tables.numbers)),
    scanned=one_of([*graph.scanning.own, *graph.scanning.planted] if graph.scanning else []),
    scope="|-so-far",
    seed=r"\d+",
    surrogate=one_of(surrogate.name for surrogate in study.surrogates),
    victim=one_of(victim.name for victim in study.victims),
    view=one_of(view.name for view in study.figures.features),


def scanned(wildcards):
    """Page, table and summary of the scan."""
    if not graph.scanned():
        raise WorkflowError(
            "config: there is nothing to scan: give data: folder-or-file in a --configfile, or scan: name beside dataset:, or call make scan DATA=folder-or-file"
        )
    return graph.scanned()
