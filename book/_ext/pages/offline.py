"""Ship everything that a page needs: no page of the site asks another server for anything.

MathJax comes from the PyPI package `sphinx-mathjax-offline`; only the parts that these pages
use are copied (3 MB of 30). The scripts of sphinx-thebe, which Jupyter Book always loads and
which point to a CDN, are dropped: the book offers Colab and downloads instead.
"""

import importlib.util
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.errors import ExtensionError

MATHJAX_PARTS = (
    "tex-chtml.js",
    "input/tex/extensions",  # macros that load on first use (\boldsymbol, \cancel, …)
    "output/chtml/fonts/woff-v2",
    "a11y/assistive-mml.js",  # what a screen reader reads
    "ui/menu.js",
    "ui/safe.js",
)


def copy_mathjax(app, exception):
    """Copy the used parts of MathJax into `_static/mathjax` of a finished HTML build."""
    if exception is not None or app.builder.format != "html":
        return
    # The package's name has hyphens, so it can be found but not imported.
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    if package is None or package.origin is None:
        raise ExtensionError("MathJax is missing: pip install -r requirements.txt")
    source = Path(package.origin).parent / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "mathjax"
    for part in MATHJAX_PARTS:
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            shutil.copy2(source / part, target / part)


def drop_thebe(app, pagename, templatename, context, doctree):
    """Take the scripts and styles of sphinx-thebe out of a page."""

    def of_thebe(asset):
        body = getattr(asset, "attributes", {}).get("body") or ""
        return "thebe" in str(getattr(asset, "filename", asset)) or "THEBE" in body

    for kind in ("script_files", "css_files"):
        context[kind] = [asset for asset in context[kind] if not of_thebe(asset)]


def drop_thebe_settings(app, doctree, docname):
    """Take its settings, written as raw HTML at the end of the text, out as well."""
    for node in list(doctree.findall(nodes.raw)):
        if "thebe" in node.astext() and "<script" in node.astext():
            node.parent.remove(node)


def setup(app):
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("doctree-resolved", drop_thebe_settings, priority=900)
    app.connect("build-finished", copy_mathjax)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
