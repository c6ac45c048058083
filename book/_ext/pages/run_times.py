"""The directive `{run-times}`: how long each notebook took while this very site was built."""

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective


class run_times_node(nodes.General, nodes.Element):
    """A placeholder until all notebooks have been executed."""


class RunTimes(SphinxDirective):
    def run(self):
        return [run_times_node()]


class FillRunTimes(SphinxPostTransform):
    default_priority = 5

    def run(self, **kwargs):
        for node in list(self.document.findall(run_times_node)):
            node.replace_self(self.table())

    def table(self):
        rows = []
        for doc in self.reading_order():
            data = NbMetadataCollector.get_exec_data(self.env, doc)
            if data and data.get("runtime"):
                uri = self.app.builder.get_relative_uri(self.env.docname, doc)
                link = nodes.reference("", self.env.titles[doc].astext(), refuri=uri)
                rows.append([nodes.paragraph("", "", link), text(f"{data['runtime']:.0f}")])
        if not rows:
            return text("This build took the stored outputs and executed no chapter.")
        table, group = nodes.table(), nodes.tgroup(cols=2)
        group += [nodes.colspec(colwidth=width) for width in (80, 20)]
        group += nodes.thead("", row([text("chapter"), text("seconds")]))
        group += nodes.tbody("", *map(row, rows))
        table += group
        return table

    def reading_order(self):
        """Documents as the table of contents lists them."""

        def walk(doc):
            yield doc
            for child in self.env.toctree_includes.get(doc, []):
                yield from walk(child)

        return walk(self.config.root_doc)


def text(string):
    return nodes.paragraph("", string)


def row(cells):
    return nodes.row("", *(nodes.entry("", cell) for cell in cells))


def setup(app):
    app.add_node(run_times_node)
    app.add_directive("run-times", RunTimes)
    app.add_post_transform(FillRunTimes)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
