"""The documentation as a site: `make docs`. Pages are MyST Markdown; the API's come from the docstrings."""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

project = "HCMA: a reference harness for grounded text-to-image generation"
author = "The harness's authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
html_title = "HCMA harness"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
# Every method has its own `Params`: a bare name in a signature cannot say which.
suppress_warnings = ["ref.python"]

PACKAGES = {
    "formats": "what stages exchange",
    "hcma.sampling": "the API that methods run on",
    "hcma": "the paper: alignment module, update (8), trainings",
    "baselines": "one module a method",
    "evaluation": "from images to metrics, tests and tables",
    "workflow": "configuration and programs of the DAG",
}


def modules(package: str) -> list[str]:
    """Names of the package's own modules, those of packages listed apart left out."""
    folder = ROOT.joinpath(*package.split("."))
    found = []
    for path in sorted(folder.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        elsewhere = any(
            name.startswith(f"{other}.") or name == other for other in PACKAGES if len(other) > len(package)
        )
        if not elsewhere and path.stat().st_size:
            found.append(name)
    return found


def write_api_pages(app: Sphinx) -> None:
    """docs/api/{package}.md for every package that is there, and their index."""
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    there = {name: text for name, text in PACKAGES.items() if modules(name)}
    index = ["# API", "", "Written from the docstrings.", "", "```{toctree}", ":maxdepth: 1", "", *there, "```", ""]
    pages = {"index": index}
    for package, text in there.items():
        pages[package] = [f"# `{package}`: {text}", ""]
        for name in modules(package):
            options = [f".. automodule:: {name}", "   :members:", "   :show-inheritance:"]
            pages[package] += [f"## `{name}`", "", "```{eval-rst}", *options, "```", ""]
    for name, lines in pages.items():
        text = "\n".join(lines)
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def as_plain_text(app: Sphinx, what: str, name: str, subject: object, options: object, lines: list[str]) -> None:
    """Docstrings here are plain text: prose is escaped, `names` become literals, indented lines are kept as they are."""
    shown: list[str] = []
    literal = False
    for line in lines:
        if line.startswith("    ") or re.match(r"\S+(, \S+)*  +\S", line):
            if not literal:
                shown += ["", "::", ""]
            shown.append(f"    {line}")
            literal = True
        elif not line.strip():
            shown.append("")
        else:
            if literal:
                shown.append("")
            literal = False
            parts = re.split(r"(`[^`]+`)", line)
            shown.append("".join(f"``{part[1:-1].strip()}``" if part[:1] == "`" else escaped(part) for part in parts))
    lines[:] = shown


def escaped(text: str) -> str:
    """reStructuredText that shows `text` as it is."""
    return re.sub(r"([\\*`|_])", r"\\\1", text)


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", write_api_pages)
    app.connect("autodoc-process-docstring", as_plain_text)
