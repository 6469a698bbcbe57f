# Rules take their inputs, outputs, params and commands from the jobs of poisonlab.graph; jobs take their turn on this machine's GPUs.

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


# A job of a cluster reads this file again on its node, which may have a GPU where the submitting machine has none. The submitting
# machine decides whether jobs ask for a GPU, and hands that on in the environment.
GPUS = [] if study.device == "cpu" else visible_gpus()
GPU_HERE = os.environ.setdefault("POISONLAB_GPU_HERE", str(int(bool(GPUS))))
ON_GPU = study.device == "cuda" or (study.device == "auto" and GPU_HERE == "1")

# At most so many jobs share the GPUs here at a time, whatever the command line or a profile allows. A cluster has GPUs of its own, and
# a limit on jobs.
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
    """A job's settings, for Snakemake to compare; in one list, so that a change is one param of the job."""
    return asked(lambda wildcards: list(graph.job(stage, wildcards).settings))


def code(stage):
    """Digests of a job's code and its other dependencies, likewise."""
    return asked(lambda wildcards: graph.code(graph.job(stage, wildcards)))


def command(stage):
    """The shell command of a job. Snakemake does not compare params that ask for threads: they change how a job runs, not its result."""

    @asked
    def of(wildcards, threads):
        job = graph.job(stage, wildcards)
        options = {}
        if job.computes:
            options["device"] = [study.device]
            options["threads"] = [str(threads)]
            options["jobs-per-gpu"] = [str(study.jobs_per_gpu)]
        if job.saves:
            options["capture"] = [study.capture]
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
    view=one_of(view.name for view in study.figures.features),
