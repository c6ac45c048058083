"""The directive `{claims-table}`: the claims page inside Sphinx."""

from pathlib import Path

import claims
import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)


class ClaimsTable(SphinxDirective):
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
        for claim, records in found.items():
            if not records:
                logger.warning(
                    "claims page: %s is in book/claims.yml, but no notebook derives or checks it",
                    claim, location=self.get_location(),
                )
        box = nodes.Element()
        text = StringList(claims.page(ledger, found).splitlines(), str(source))
        self.state.nested_parse(text, self.content_offset, box, match_titles=True)
        return box.children
