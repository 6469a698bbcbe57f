"""Settings of Sphinx for the site, whose sources are the pages of the whole checkout.

Links between pages and to other files of the repository therefore lead to the same places as on GitHub.
"""

from __future__ import annotations

import gc
import inspect
import re
from importlib import import_module
from pkgutil import iter_modules

from sphinx.application import Sphinx

import poisonlab

# Pages are trees of many objects: looking for garbage as often as usual takes a part of the time.
gc.set_threshold(100_000, 50, 100)

project = "poisonlab"
version = release = poisonlab.__version__
root_doc = "docs/index"
include_patterns = [
    *("CHANGELOG.md", "CONTRIBUTING.md", "config/README.md", "reference/README.md"),
    *("docs/**.md", "results/reference/**.md"),
]
exclude_patterns = [".*", "build", "data", "logs", "results/[!r]*", "src", "tests", "workflow"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # of tables of results, which begin with their third level
autodoc_mock_imports = ["opacus"]  # which takes seconds, and stands in no signature
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
add_module_names = False

html_theme = "furo"
html_title = f"poisonlab {version}"
html_extra_path = ["site/index.html"]
html_static_path = ["site/pages.css"]
html_css_files = ["pages.css"]
html_show_copyright = False
html_copy_source = False


def names() -> str:
    """The directives that document the package's own names."""
    kinds = {name: "class" if inspect.isclass(getattr(poisonlab, name)) else "function" for name in poisonlab.__all__}
    return "\n".join(f".. auto{kind}:: poisonlab.{name}\n" for name, kind in kinds.items())


def modules(package: str) -> dict[str, str]:
    """The directives that document the modules of a package, by the module's name."""
    found = sorted(module.name for module in iter_modules(import_module(package).__path__))
    return {name: f".. automodule:: {package}.{name}\n" for name in found}


def completed(app: Sphinx, page: str, source: list[str]) -> None:
    """Write what is generated, below the introductions of docs/api and as titles of tables of results; leave out what
    Sphinx cannot draw."""
    folder, _, name = page.rpartition("/")
    if folder == "docs/api":
        parts = {"": names()} if name == "names" else modules(f"poisonlab.{name}")
        for heading, directives in parts.items():
            source[0] += f"\n{heading and f'## {heading}'}\n\n```{{eval-rst}}\n{directives}```\n"
    elif page == "docs/how-it-works":
        # GitHub draws the diagram. Sphinx cannot, so the site has the table alone.
        source[0] = re.sub(r"### The jobs as a diagram\n.*?(?=\n## )", "", source[0], flags=re.DOTALL)
    elif folder.startswith("results/"):
        source[0] = f"# {folder.rpartition('/')[2]}: {name}\n\n{source[0]}"


def formulas(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Modules describe methods in plain text: keep their indented formulas as they are, and bars of norms as bars."""
    if what != "module":
        return
    for number in range(len(lines) - 1, 0, -1):
        if lines[number].startswith(" ") and not lines[number - 1]:
            if not lines[number - 2].startswith(" "):
                lines[number:number] = ["::", ""]
        elif not lines[number].startswith(" "):
            lines[number] = lines[number].replace("|", "\\|")


def setup(app: Sphinx) -> None:
    app.connect("source-read", completed)
    app.connect("autodoc-process-docstring", formulas)
