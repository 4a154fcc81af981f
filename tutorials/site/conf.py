"""Sphinx configuration: the site is built from the clone's files in place, with the clone's root as source folder."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import latex2mathml.converter
from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref
from sphinx.transforms import SphinxTransform
from sphinx.util.osutil import relative_uri

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT))

import minidl  # noqa: E402
from tutorials.site import contents, source  # noqa: E402
from tutorials.site.docstrings import to_rst  # noqa: E402

project, author, version = "minidl", "the minidl authors", minidl.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc"]
root_doc = "README"
include_patterns = contents.PATTERNS
exclude_patterns = ["**/handout/**"]
html_theme = "furo"
html_title = f"minidl {version}"
html_show_search_summary = False  # it would fetch pages, which browsers refuse for local files
html_show_sphinx = html_copy_source = html_show_copyright = False
html_theme_options = {"source_edit_link": ""}
html_static_path = ["site.css"]
html_css_files = ["site.css"]

nb_execution_mode = "off"  # notebooks are shown with their stored outputs; the gate runs them separately
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure", "myst.header", "config.cache"]  # a notebook's %pip is not Python

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
add_module_names = False


class SourceLinks(SphinxTransform):
    """Redirect a link to a file or folder that is not a page: to the page that shows it, or to the file itself."""

    default_priority = 5

    def apply(self) -> None:
        env: Any = self.env
        here = ROOT / env.docname
        for node in list(self.document.findall(lambda n: isinstance(n, (download_reference, pending_xref)))):
            path = (here.parent / node["reftarget"].partition("#")[0]).resolve()
            if node.get("refdomain") == "doc":  # the target has no suffix and is relative to the root
                path = ROOT / (node["reftarget"] + ".md")
                if node["reftarget"] in env.found_docs:
                    continue
            if not path.exists() or path.suffix in source.BINARY[:-1]:
                continue
            if path.suffix == ".html":
                env.site_files.add(path)
                uri = path.relative_to(ROOT).as_posix()
            else:
                env.site_sources.add(path)
                uri = source.page_of(path) + ".html"
            node.replace_self(link(env.docname, uri, node))


def link(docname: str, uri: str, node: Any) -> nodes.reference:
    """A plain link from a page to another file of the site, with the content of `node`."""
    return nodes.reference("", "", *node.children, internal=True, refuri=relative_uri(f"{docname}.html", uri))


def collect_sources(app: Any) -> Any:
    """The pages of all source files that are linked to."""
    return source.pages(app.env.site_sources)


def start(app: Any, env: Any, docnames: Any) -> None:
    """Start with no links."""
    env.site_sources, env.site_files, env.site_menus = set(), set(), {}


def copy_files(app: Any, error: Exception | None) -> None:
    """Copy the HTML files that pages link to, and make the front page index.html."""
    if error is None:
        out = Path(app.outdir)
        for path in app.env.site_files:
            there = out / path.relative_to(ROOT)
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(path.read_bytes())
        (out / "index.html").write_bytes((out / "README.html").read_bytes())


def one_menu(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Source pages are in no menu, so all pages of a folder share one: building it once saves a third of the time."""
    if page not in app.env.found_docs and "toctree" in context:
        make, menus, folder = context["toctree"], app.env.site_menus, page.rpartition("/")[0]
        context["toctree"] = lambda **how: menus.get(folder) or menus.setdefault(folder, make(**how))


def read_source(app: Any, docname: str, text: list[str]) -> None:
    """Append the site's table of contents to README."""
    if docname == "README":
        text[0] += contents.toctrees()


def read_docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Convert a docstring of minidl to reStructuredText."""
    lines[:] = to_rst(lines)


def math(self: Any, node: Any) -> None:
    """A formula as MathML, which browsers render without a script or a network."""
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    self.body.append(latex2mathml.converter.convert(re.sub(r"\s+", " ", node.astext()), display=display))
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Register everything with Sphinx."""
    app.add_html_math_renderer("mathml", (math, None), (math, None))
    app.add_transform(SourceLinks)
    app.connect("env-before-read-docs", start)
    app.connect("source-read", read_source)
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("html-collect-pages", collect_sources)
    app.connect("html-page-context", one_menu, priority=400)  # before the theme uses it
    app.connect("build-finished", copy_files)
