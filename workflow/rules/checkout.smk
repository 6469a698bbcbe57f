# Finds this workflow's files. The package cannot be imported yet.

import os
import tempfile
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.sourcecache import HostingProviderFile, LocalGitFile, LocalSourceFile

CLONES = Path(".snakemake/poisonlab")


def checkout_of(folder):
    """The folder above one from which Snakemake reads Snakefiles, relative to the folder of the results."""
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
    """Clone a Git repository at a commit: Snakemake provides single files only, but programs need all of them."""
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
