# Where this workflow's files lie. Nothing of the package is at hand yet.

import os
import tempfile
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.sourcecache import HostingProviderFile, LocalGitFile, LocalSourceFile

CLONES = Path(".snakemake/poisonlab")


def checkout_of(folder):
    """The folder above one that Snakemake reads Snakefiles from, as seen from the folder of the results."""
    if isinstance(folder, LocalSourceFile):
        return os.path.relpath(Path(folder).parent)
    if isinstance(folder, HostingProviderFile):
        folder.fetch_if_required()
        return cloned(folder.hosted_repo.repo, folder.ref)
    if isinstance(folder, LocalGitFile):
        import git

        return cloned(git.Repo(folder.repo_path), folder.ref)
    raise WorkflowError(
        f"{folder}: the workflow needs its package and programs, and not just its Snakefiles: "
        "name a local checkout, or a repository with github(...) or gitlab(...)"
    )


def cloned(repository, ref):
    """Snakemake hands out single files of a Git repository; programs need all of its commit, so they get a clone of it."""
    commit = repository.commit(ref).hexsha
    clone = CLONES / commit
    if not clone.is_dir():
        CLONES.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CLONES.resolve()) as beside:
            new = repository.clone(f"{beside}/clone", no_checkout=True)
            new.git.checkout(commit)
            try:
                os.rename(new.working_dir, clone)
            except OSError:
                if not clone.is_dir():  # else another Snakemake was faster
                    raise
    return str(clone)
