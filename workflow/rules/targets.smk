# Names for the results of one or several stages.

for name, paths in {
    "pretrained": graph.pretrained(),
    "poisons": graph.poisons(),
    "filters": graph.paths("filter", "keep"),
    "noises": graph.paths("noise", "noise"),
    "victims": graph.paths("train", "weights"),
    "detections": graph.paths("detect", "metrics"),
    "results": graph.tables.every(""),
    "drawings": graph.drawings(),
    "report": graph.report(),
    # Tables and report of the victims finished so far.
    "so_far": [*graph.tables.every("-so-far"), graph.report("-so-far")],
    "scan": scanned,
}.items():

    rule:
        name:
            name
        input:
            placed(paths),
        localrule: True
