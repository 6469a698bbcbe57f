# Faults that would end Snakemake in a traceback end it in one line instead. Its last lines report damage, a full disk
# and diverged victims.

import shutil
import time

from snakemake.logging import logger

from poisonlab.runtime.clock import bring_to_present
from poisonlab.runtime.failures import ShortCommands, last_errors
from poisonlab.runtime.locks import keep_locks_of_others
from poisonlab.runtime.setting_aside import set_marked_aside
from poisonlab.evaluation.trials import read_trials

# Programs that find these files damaged mark them for renaming, and the next call makes them again. Files of other
# studies or from outside are not touched.
os.environ.update(
    POISONLAB_REMADE=os.pathsep.join(graph.places.remade()),
    POISONLAB_MARKS=graph.places.damaged,
)


def check_writable(folder):
    """End the workflow in one line if a folder cannot be written."""
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WorkflowError(f"{folder.resolve()} cannot be written: make it writable")


# Tables of the victims finished so far are made while the study runs and stays locked.
keep_locks_of_others()

# Even a dry run writes into this folder.
check_writable(Path(".snakemake"))

for folder in (Path(study.results), *Path(study.results).parents):
    if folder.is_file():
        raise WorkflowError(
            f"config: results: '{folder}' is a file, not a folder: choose another name"
        )

# Snakemake puts the path of a long command's script between double quotes, within which the shell interprets some of
# these marks. It also interprets braces in the paths of rules.
if set(os.getcwd()) & set('"$`\\!{}\n'):
    raise WorkflowError(
        f"the folder {os.getcwd()!r} has a mark in its name that Snakemake cannot quote: rename it"
    )


if not any(isinstance(each, ShortCommands) for each in logger.filters):
    logger.addFilter(ShortCommands())


def say(line):
    print(line, file=sys.stderr)


def tell_of_damage():
    """Rename the files that a job found damaged, so that the next call makes them again."""
    try:
        for path in set_marked_aside(Path(graph.places.damaged)):
            say(f"warning: a damaged file is now named {path}: the next call makes it anew")
    except OSError as error:
        say(f"warning: {error.filename} is damaged: delete it ({error.strerror})")


def tell_of_full_disk():
    """Report a full disk: a job cannot even write to its log why it failed."""
    if shutil.disk_usage(study.results).free < 2**20:
        say(f"error: the disk of {study.results} is full: free some space and run again")


BEGUN = time.time()


def tell_of_data():
    """Repeat warnings about suspicious data from the logs of this call's jobs."""
    told = set()
    for stage in ("dataset", "craft"):
        pattern = re.sub(r"\{\w+\}", "*", graph.places.log(stage))
        for log in sorted(Path(study.results).glob(os.path.relpath(pattern, study.results))):
            if log.stat().st_mtime >= BEGUN:
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
                told |= {line for line in lines if line.startswith("warning: ")}
    for line in sorted(told):
        say(line)


def tell_of_errors():
    """Repeat the last line of the logs that end in an error."""
    logs = Path(graph.places.log("dataset")).parent.rglob("*.log")
    errors = last_errors(sorted(logs), BEGUN)
    for line in errors[:MOST_ERRORS]:
        say(line)
    if len(errors) > MOST_ERRORS:
        say(f"and {len(errors) - MOST_ERRORS} more logs that end in an error")


MOST_ERRORS = 10


def tell_of_divergence():
    """Name the victims without an outcome: their jobs succeed, and only their logs mention it."""
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


def tell_of_dataset():
    """Snakemake removes the dataset of a failed job; the results stay valid if the dataset comes out the same."""
    victims = os.path.join(study.results, "victims", study.study)
    if os.path.exists(victims) and not os.path.exists(graph.places.dataset):
        say(
            "When you have corrected this, run `snakemake dataset` first, with the options of this call: if the same dataset "
            "comes out at the same path, all results stay current"
        )


def tell_of_page():
    """Say where the page of a scan is."""
    page = graph.places.outputs("scan_page")["html"]
    if scan and os.path.exists(page):
        say(f"The page of the scan is {page}")


onstart:
    check_writable(Path(study.results))
    # If a clock was set back, results seem to come from the future; jobs correct their inputs in the same way.
    bring_to_present(Path(study.results).rglob("*"))
    # Snakemake's own limit of 100 jobs a second starts a timer whenever a job ends, and each looks for jobs once a second
    # from then on: after 190 jobs that took a fifth of a core. A limit that the user gives stays.
    limiter = workflow.scheduler.job_rate_limiter
    if limiter and (limiter.max_jobs, limiter.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


onsuccess:
    tell_of_data()
    tell_of_damage()
    tell_of_divergence()
    tell_of_page()


onerror:
    tell_of_full_disk()
    tell_of_data()
    tell_of_damage()
    tell_of_divergence()
    tell_of_errors()
    tell_of_dataset()
