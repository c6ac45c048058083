"""Turn the outputs of `ntkbook` objects into parts of the page.

* A picture made by `ntkbook.figure` carries a name, a caption and a description in its output
  metadata; it becomes a numbered figure, which {numref} finds from every page, with the
  description as its alternative text.
* The machine-readable record of a check becomes an anchor, `check-<claim>-<slug>`, in front of
  the check's table, so that the claims page can point at the very cell.

Both are MyST-NB "mime render plug-ins". Those are normally announced by an installed package;
here one is added to MyST-NB's list while Sphinx starts, because it is part of the book.
"""

from docutils import nodes
from myst_nb.core import render as nb_render
from notebooks.claims import CHECK, DERIVATION, anchor, as_json
from sphinx.transforms import SphinxTransform


class BookOutputs:
    """The plug-in: what it returns replaces MyST-NB's rendering of one mime type."""

    mime_priority_overrides = ()

    @staticmethod
    def handle_mime(renderer, data, inline):
        if inline:
            return None
        if data.mime_type == "image/png" and "name" in data.output_metadata.get("image/png", {}):
            return numbered_figure(renderer, data)
        if data.mime_type == CHECK:
            return check_anchors(renderer, data)
        if data.mime_type == DERIVATION:
            return []  # read by the claims page, from the notebook itself
        return None


def numbered_figure(renderer, data):
    """A figure node with name, caption and alternative text from the output's metadata."""
    meta = data.output_metadata["image/png"]
    (image,) = renderer.render_image(data)
    image["alt"] = meta["alt"]
    image["classes"].append("ntk-figure")
    sphinx_renderer = renderer.renderer
    box = nodes.Element()
    options = {"name": meta["name"], "caption": meta["caption"]}
    with (
        sphinx_renderer.current_node_context(box),
        nb_render.create_figure_context(sphinx_renderer, options, data.line or 0),
    ):
        sphinx_renderer.current_node.append(image)
    return box.children


def check_anchors(renderer, data):
    """One anchor for each check of an output.

    Not docutils targets: those hand their ids to the node that follows, here one that vanishes.
    """
    anchors = []
    for record in as_json(data.content):
        node = nodes.inline("", "", names=[anchor(record["claim"])], classes=["ntk-anchor"])
        renderer.renderer.document.note_explicit_target(node, node)
        anchors.append(node)
    return anchors


class HoistCheckAnchors(SphinxTransform):
    """Move the anchors out of the bundle, of which only one representation survives."""

    default_priority = 700

    def apply(self, **kwargs):
        for container in list(self.document.findall(nodes.container)):
            if container.get("mime_type") == CHECK:
                bundle = container.parent
                bundle.parent.insert(bundle.parent.index(bundle), container.children)
                bundle.remove(container)


def add_plugin(app):
    plugins = nb_render.load_mime_renders()
    if BookOutputs not in plugins:
        plugins.append(BookOutputs)


def setup(app):
    app.connect("builder-inited", add_plugin)
    app.add_transform(HoistCheckAnchors)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
