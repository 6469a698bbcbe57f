# One rule per stage. Most jobs compute with a network; those that show take seconds.

COMPUTING = (
    "pretrain",  # the attacker's surrogates, trained on clean data: one, or an ensemble, per seed
    "craft",  # poisons: one set per attack and seed
    "filter",  # what a row keeps, by the features of a network that another job trained
    "noise",  # friendly noise: one file per cell that uses it
    "train",  # victims: one per cell
    "detect",  # detectors: they examine the finished victim of another row
    "transfer",  # clean networks that are shown poisons
    # What figures show. Measuring and drawing are separate: a change of looks computes nothing again.
    "landscape_poison",
    "landscape_victims",
    "output_std",
    "feature_view",
    # Of a scan: the features of every image by each network, the filters' joined ranking, and neighbours.
    "features",
    "suspects",
    "neighbours",
)

# Trials (one line per victim), tables, figures and report, of the whole study or of the victims finished so far; the
# page of a scan. One rule draws every figure; its wildcard names the figure and its attack.
SHOWING = (
    "trials",
    "tables",
    "paper_table",
    "ablation",
    "transfer_table",
    "figure",
    "page",
    *(["scan_page"] if graph.scanning else []),
)

# Some stages exist for some rows or attacks only.
CONSTRAINTS = {
    "dilute": {"defense": one_of(row.name for row in study.rows if row.dilution)},
    "filter": {"defense": one_of(row.name for row in study.rows if row.filters)},
    "noise": {"defense": one_of(row.name for row in study.rows if row.friendly)},
    "train": {"defense": one_of(row.name for row in study.rows if not row.detector)},
    "detect": {"defense": one_of(row.name for row in study.rows if row.detector)},
    "transfer": {"attack": one_of(study.transfer.attacks if study.transfer else [])},
    "transfer_table": {} if study.transfer else {"scope": NOTHING},
}

for stage in (
    "dataset",  # read or drawn once: no other job depends on its source
    "dilute",  # poison sets of rows whose defenders have some of the images clean
    *COMPUTING,
    *SHOWING,
):

    rule:
        name:
            stage
        input:
            unpack(inputs(stage)),
        output:
            **outputs(stage),
        log:
            log_of(stage),
        wildcard_constraints:
            **CONSTRAINTS.get(stage, {}),
        localrule: stage in SHOWING
        conda:
            "../../envs/conda.yaml"
        threads: study.threads if stage in COMPUTING else 1
        resources:
            gpu=int(ON_GPU and stage in COMPUTING),
        params:
            settings=settings(stage),
            code=code(stage),
            command=command(stage),
        shell:
            "{params.command} > {log:q} 2>&1"
