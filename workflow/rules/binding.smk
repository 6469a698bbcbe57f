# How rules are bound to the jobs of poisonlab.graph, and what this machine has for them.

import inspect
import shlex

from poisonlab.runtime.gpus import visible_gpus


# Jobs run this environment's Python on this checkout's sources, however Snakemake was called. Snakemake takes braces for its own.
def quoted(text):
    return shlex.quote(text).replace("{", "{{").replace("}", "}}")


shell.executable("bash")
shell.prefix(
    "set -euo pipefail; "
    f"export PATH={quoted(os.path.dirname(sys.executable))}:$PATH"
    f" PYTHONPATH={quoted(SOURCES)}${{{{PYTHONPATH:+:$PYTHONPATH}}}} KMP_BLOCKTIME=0; "
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
    wanted = workflow.global_resources.setdefault("gpu", ROOM).value
    workflow.register_resource("gpu", min(ROOM, wanted))


def asked(function):
    """A function of the wildcards and more, with its signature worked out: Snakemake wants it several times per job, and finding it
    takes longer than most of the functions."""
    function.__signature__ = inspect.signature(function)
    return function


def inputs(stage):
    """The files of a job's inputs, by name."""
    return asked(lambda wildcards: graph.job(stage, wildcards).inputs)


def outputs(stage):
    """The patterns of a stage's outputs, by name."""
    return graph.places.outputs(stage)


def log_of(stage):
    """The pattern of a stage's logs."""
    return graph.places.log(stage)


def settings(stage):
    """What a job is told, for Snakemake to compare; in one list, so that a change is one param of the job."""
    return asked(lambda wildcards: list(graph.job(stage, wildcards).settings))


def code(stage):
    """Digests of a job's code and of what else it depends on, likewise."""
    return asked(lambda wildcards: graph.code(graph.job(stage, wildcards)))


def command(stage):
    """The shell command of a job. Snakemake does not compare params that ask for threads: how a job runs is not what it computes."""

    @asked
    def of(wildcards, threads):
        job = graph.job(stage, wildcards)
        options = {}
        if job.computes:
            options["device"] = [study.device]
            options["threads"] = [str(threads)]
            options["jobs-per-gpu"] = [str(study.jobs_per_gpu)]
        if job.saves:
            options["checkpoint-seconds"] = [str(study.checkpoint_seconds)]
            options["code"] = graph.code(job)
        return job.command(graph.scripts, options)

    return of


def one_of(names):
    return "|".join(map(re.escape, names)) or "none"


wildcard_constraints:
    ablation=one_of(ablation.name for ablation in study.ablations),
    attack=one_of(attack.name for attack in study.attacks),
    defense=one_of(row.name for row in study.rows),
    figure=one_of(graph.figures.every()),
    member=r"\d+",
    number=one_of(map(str, graph.tables.numbers)),
    scope="|-so-far",
    seed=r"\d+",
    surrogate=one_of(surrogate.name for surrogate in study.surrogates),
    victim=one_of(victim.name for victim in study.victims),
