# What Snakemake would end in with a traceback, and what its end has to say and do.

import shutil

from poisonlab.runtime.clock import bring_to_present
from poisonlab.runtime.setting_aside import set_marked_aside
from poisonlab.evaluation.trials import read_trials

# What is renamed when a program finds it damaged, because the next call makes it anew. Nothing of another study or from elsewhere.
os.environ.update(
    POISONLAB_REMADE=os.pathsep.join(graph.places.remade()),
    POISONLAB_MARKS=graph.places.damaged,
)


def check_writable(folder):
    """A folder that cannot be written ends the workflow in one line."""
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WorkflowError(f"{folder.resolve()} cannot be written: make it writable")


# Even a dry run notes something here.
check_writable(Path(".snakemake"))

for folder in (Path(study.results), *Path(study.results).parents):
    if folder.is_file():
        raise WorkflowError(
            f"config: results: '{folder}' is a file, not a folder: choose another name"
        )

# Snakemake puts the path of a long command's script between double quotes, in which the shell still reads some of these, and takes
# braces in the paths of rules for its own.
if set(os.getcwd()) & set('"$`\\!{}\n'):
    raise WorkflowError(
        f"the folder {os.getcwd()!r} has a mark in its name that Snakemake cannot quote: rename it"
    )


def say(line):
    print(line, file=sys.stderr)


def tell_of_damage():
    """Rename what a job has found to be damaged, so that the next call makes it anew."""
    try:
        for path in set_marked_aside(Path(graph.places.damaged)):
            say(f"warning: a damaged file is now named {path}: the next call makes it anew")
    except OSError as error:
        say(f"warning: {error.filename} is damaged: delete it ({error.strerror})")


def tell_of_full_disk():
    """On a full disk a job cannot even write to its log why it failed."""
    if shutil.disk_usage(study.results).free < 2**20:
        say(f"error: the disk of {study.results} is full: free some space and run again")


def tell_of_divergence():
    """Which victims have no outcome; the jobs that say so in their logs succeed."""
    try:
        trials = read_trials(Path(graph.tables.trials_path("")))
    except PoisonlabError:
        return
    for trial in trials:
        if trial.failed:
            which = f"{trial.attack}/{trial.victim}/{trial.defense}, seed {trial.seed}"
            say(
                f"warning: a victim has no outcome, because training diverged: {which} ({trial.failed})"
            )


onstart:
    check_writable(Path(study.results))
    # After a clock was set back; jobs do the same with what they read.
    bring_to_present(Path(study.results).rglob("*"))


onsuccess:
    tell_of_damage()
    tell_of_divergence()


onerror:
    tell_of_full_disk()
    tell_of_damage()
    tell_of_divergence()
