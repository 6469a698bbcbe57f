"""The workflow: pretrain -> craft -> friendly noise -> train -> tables, landscapes, figures."""

import gc
import os
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.27")

# Planning makes many objects and frees few: looking for garbage as often as usual takes a sixth of the time.
gc.set_threshold(100_000, 50, 100)

sys.path.insert(0, "src")  # the package as it lies here, installed or not

from poisonlab.config.files import check_config_file
from poisonlab.config.scale import scale_of
from poisonlab.config.study import read_study
from poisonlab.errors import PoisonlabError
from poisonlab.evaluation.trials import read_trials
from poisonlab.runtime.gpus import visible_gpus
from poisonlab.modules import module_name, roots
from poisonlab.provenance import code_digests, digest_of, locked_versions, spec

# A config with a study's name and its dataset stands alone; anything else is laid over the default study.
if "study" not in config or "dataset" not in config:

    configfile: "config.yaml"


try:
    for path in workflow.configfiles:
        check_config_file(Path(path))
    study = read_study(config)
except PoisonlabError as error:
    raise WorkflowError(str(error))

# Jobs run this environment's Python on this checkout's sources, however Snakemake was called. Snakemake takes braces for its own.
PYTHON_FOLDER = shlex.quote(os.path.dirname(sys.executable)).replace("{", "{{").replace("}", "}}")
shell.executable("bash")
shell.prefix(
    "set -euo pipefail; " f"export PATH={PYTHON_FOLDER}:$PATH PYTHONPATH=src KMP_BLOCKTIME=0; "
)


include: "workflow/rules/names.smk"
include: "workflow/rules/faults.smk"
include: "workflow/rules/jobs.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/craft.smk"
include: "workflow/rules/filter.smk"
include: "workflow/rules/noise.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/detect.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/sections.smk"
include: "workflow/rules/report.smk"


localrules:
    all,
    pretrained,
    poisons,
    filters,
    noises,
    victims,
    detections,
    results,
    so_far,
    drawings,
    paper,


rule all:
    default_target: True
    input:
        rules.results.input,
        rules.drawings.input,
        rules.report.output,


# Under the name that says what it is of a config like paper.yaml.
rule paper:
    input:
        rules.all.input,
