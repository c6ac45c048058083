"""A description and a preview for every page: what search engines and messengers show.

Previews need absolute addresses, so those tags appear only when `html.baseurl` is set.
"""

from html import escape

from docutils import nodes

COVER = "_static/cover.png"


def first_paragraph(doctree, limit=200):
    """The page's first paragraph of prose, cut at a word."""
    for node in doctree.findall(nodes.paragraph):
        text = " ".join(node.astext().split())
        if isinstance(node.parent, nodes.section) and len(text) > 20:
            return text if len(text) <= limit else text[:limit].rsplit(" ", 1)[0] + " …"
    return ""


def add_meta(app, pagename, templatename, context, doctree):
    if doctree is None:
        return
    description = first_paragraph(doctree)
    tags = [("name", "description", description)] if description else []
    base = app.config.html_baseurl
    if base:
        base = base.rstrip("/") + "/"
        tags += [
            ("property", "og:type", "website"),
            ("property", "og:site_name", app.config.html_title),
            ("property", "og:title", context.get("title", "")),
            ("property", "og:description", description),
            ("property", "og:url", f"{base}{pagename}.html"),
            ("property", "og:image", base + COVER),
        ]
    lines = [f'<meta {kind}="{name}" content="{escape(text)}">' for kind, name, text in tags]
    context["metatags"] = "\n".join([context.get("metatags", ""), *lines])


def setup(app):
    app.connect("html-page-context", add_meta)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
