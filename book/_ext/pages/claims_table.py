"""The directives `{claims-summary}` and `{claims-table}`: the claims page inside Sphinx."""

from pathlib import Path

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from notebooks import claims
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective


class ClaimsDirective(SphinxDirective):
    """Collects the records, and puts in its own place what `made_of` makes of them."""

    def made_of(self, ledger, found):
        raise NotImplementedError

    def run(self):
        root = Path(self.env.srcdir)
        source = root / "book" / "claims.yml"
        ledger = yaml.safe_load(source.read_text(encoding="utf8"))
        docs = claims.notebooks(root)
        for path in (source, root / "_toc.yml", *(root / f"{doc}.ipynb" for doc in docs)):
            self.env.note_dependency(str(path))
        try:
            found = claims.collect(root, docs, ledger)
        except claims.ClaimError as error:
            raise ExtensionError(f"claims page: {error}") from error
        return self.made_of(ledger, found)

    def parsed(self, myst):
        """The nodes of a text in MyST."""
        lines = StringList(myst.splitlines(), str(self.env.doc2path(self.env.docname)))
        box = nodes.Element()
        self.state.nested_parse(lines, self.content_offset, box, match_titles=True)
        return box.children


class ClaimsSummary(ClaimsDirective):
    """One sentence that counts claims, derivations and checks."""

    def made_of(self, ledger, found):
        return self.parsed(claims.summary(found))


class ClaimsTable(ClaimsDirective):
    """One section for each claim. It must stand at the end of its page, since it opens sections."""

    def made_of(self, ledger, found):
        return self.parsed(claims.page(ledger, found))


def setup(app):
    app.add_directive("claims-summary", ClaimsSummary)
    app.add_directive("claims-table", ClaimsTable)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
