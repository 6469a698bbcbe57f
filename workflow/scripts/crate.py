"""Describes an archive of results as an RO-Crate: workflow, config, inputs, outputs, authors and papers.

The profile is Workflow Run Crate 0.5, https://w3id.org/ro/wfrun/workflow/0.5, on RO-Crate 1.1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from poisonlab.config.merging import checkout

METADATA = "ro-crate-metadata.json"
WORKFLOW = "workflow/Snakefile"
VERSION = "1.1"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
BIOSCHEMAS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
FORMATS = {
    ".safetensors": "application/x-safetensors",
    ".npz": "application/x-npz",
    ".smk": "text/x-python",
    ".json": "application/json",
    ".csv": "text/csv",
    ".md": "text/markdown",
    ".tex": "application/x-tex",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".html": "text/html",
    ".txt": "text/plain",
}
"""Media types by ending, fixed here so that the same results give the same bytes on every machine."""


@dataclass(frozen=True)
class Run:
    """A finished study or scan.

    Attributes:
        title: ``study <name>`` or ``scan <name>``.
        description: its description.
        config: the place of its config in the archive.
        files: the results: their SHA-256 by path.
        inputs: paths of input files that the archive does not hold.
        began: start of the first job, in seconds since the epoch.
        ended: end of the last job, in seconds since the epoch.
        commit: of the code.
    """

    title: str
    description: str
    config: str
    files: Mapping[str, str]
    inputs: Iterable[str]
    began: float
    ended: float
    commit: str


def sources() -> dict[str, bytes]:
    """The files of the checkout for a crate: the workflow's Snakefiles, its license, and how to cite it."""
    base = Path(checkout())
    paths = [base / WORKFLOW, *sorted(base.glob("workflow/rules/*.smk")), base / "LICENSE", base / "CITATION.cff"]
    return {path.relative_to(base).as_posix(): path.read_bytes() for path in paths}


def metadata(run: Run, members: Mapping[str, bytes]) -> bytes:
    """The crate's description as JSON-LD. Equal results give equal bytes.

    Args:
        run: the study or scan.
        members: the other files of the crate by path: ``sources`` and the study's config.
    """
    # Imported only here, because unpacking does not need it.
    from rocrate.model.contextentity import ContextEntity
    from rocrate.rocrate import ROCrate

    cited = yaml.safe_load(members["CITATION.cff"])
    crate = ROCrate(version=VERSION)

    def named(kind: str, identifier: str, **properties: Any) -> Any:
        return crate.add(ContextEntity(crate, identifier, properties={"@type": kind, **properties}))

    def file(path: str, sha256: str, **properties: Any) -> Any:
        known = FORMATS.get(Path(path).suffix, "text/plain")
        return crate.add_file(
            dest_path=path,
            properties={"name": Path(path).name, "sha256": sha256, "encodingFormat": known, **properties},
        )

    license_ = named("CreativeWork", f"https://spdx.org/licenses/{cited['license']}", name=cited["license"])
    authors = _one([_author(named, author) for author in cited["authors"]])
    papers = [_paper(named, paper) for paper in cited["references"]]
    workflow = crate.add_workflow(
        dest_path=WORKFLOW,
        main=True,
        lang="snakemake",
        properties={
            "name": cited["title"],
            "version": cited["version"],
            "sha256": _digest(members[WORKFLOW]),
            "license": license_,
            "creator": authors,
            "citation": papers,
            **({} if run.commit == "unknown" else {"identifier": run.commit}),
        },
    )
    parts = [file(path, _digest(content)) for path, content in members.items() if path not in (WORKFLOW, run.config)]
    workflow["hasPart"] = [part for part in parts if part.id.endswith(".smk")]
    config = file(run.config, _digest(members[run.config]), description=SETTINGS, encodingFormat="application/yaml")
    parameter = crate.add_formal_parameter("config", "File", identifier="#config", valueRequired=True)
    parameter["workExample"], config["exampleOfWork"], workflow["input"] = config, parameter, parameter
    workflow["conformsTo"] = named("CreativeWork", BIOSCHEMAS, name="ComputationalWorkflow", version="1.0-RELEASE")

    given = [
        named("CreativeWork", f"#input/{quote(path)}", name=path, description=OUTSIDE) for path in sorted(run.inputs)
    ]
    results = [file(path, digest) for path, digest in sorted(run.files.items())]
    began, ended = map(_time, (run.began, run.ended))
    action = crate.add_action(
        workflow,
        identifier="#run",
        object=[config, *given],
        result=results,
        properties={
            "name": f"Run of the {run.title}",
            "description": f"Snakemake made the results of the {run.title} from its config",
            "startTime": began,
            "endTime": ended,
            "actionStatus": "http://schema.org/CompletedActionStatus",
        },
    )
    root = crate.root_dataset
    root["name"] = f"poisonlab {run.title}"
    root["description"] = run.description or f"Results of the {run.title}"
    root["datePublished"], root["license"], root["author"], root["citation"] = ended, license_, authors, papers
    root["mentions"] = action
    root["conformsTo"] = [
        named("CreativeWork", identifier, name=name, version=version)
        for identifier, (name, version) in PROFILES.items()
    ]
    return (json.dumps(crate.metadata.generate(), indent=1, ensure_ascii=False) + "\n").encode()


SETTINGS = "The settings of the study"
OUTSIDE = "A file that was read and is not part of this archive"


def _author(named: Any, author: Mapping[str, str]) -> Any:
    if "name" in author:
        return named("Organization", f"#{quote(author['name'])}", name=author["name"])
    name = f"{author['given-names']} {author['family-names']}"
    return named("Person", author.get("orcid") or f"#{quote(name)}", name=name)


def _paper(named: Any, paper: Mapping[str, Any]) -> Any:
    return named(
        "ScholarlyArticle",
        paper.get("url") or f"#{quote(paper['title'])}",
        name=paper["title"],
        author=_one([_author(named, author) for author in paper["authors"]]),
        datePublished=str(paper["year"]),
    )


def _one(entities: list[Any]) -> Any:
    """A list with one entry as this entry, as RO-Crate recommends."""
    return entities[0] if len(entities) == 1 else entities


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat()
