"""The site as files: complete, self-contained, and free of dead ends.

The claims page's collecting functions are tested on small notebooks of their own.
"""

import json
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jax
import nbformat
import numpy as np
import pytest
import yaml
from bs4 import BeautifulSoup
from notebooks import claims, store
from notebooks.canonical import code_cells, read
from pages import cover, docstrings
from site_build import ROOT, built_site

CHAPTERS = claims.notebooks(ROOT)
LOADED = {  # elements whose address a browser fetches while it shows a page
    "script": "src",
    "img": "src",
    "source": "src",
    "iframe": "src",
    "embed": "src",
    "object": "data",
    "video": "src",
    "audio": "src",
    "input": "src",
}
LOADED_LINKS = {
    "stylesheet",
    "icon",
    "preload",
    "modulepreload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
}


@pytest.fixture(scope="module")
def site():
    return built_site()


@pytest.fixture(scope="module")
def pages(site):
    """Every page but the redirect at the root, parsed."""
    files = [path for path in site.rglob("*.html") if "_static" not in path.parts]
    return {
        path.relative_to(site).as_posix(): BeautifulSoup(path.read_text("utf8"), "html.parser")
        for path in files
        if path != site / "index.html"
    }


def content_pages(pages):
    return {name: page for name, page in pages.items() if name.startswith("book/")}


def test_every_document_has_a_page(pages):
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
    listed = {toc["root"]} | {c["file"] for part in toc["parts"] for c in part["chapters"]}
    assert set(content_pages(pages)) == {f"{doc}.html" for doc in listed}


def test_nothing_is_loaded_from_elsewhere(site, pages):
    outside = []
    for name, page in pages.items():
        for tag, attribute in LOADED.items():
            outside += [
                (name, str(el)[:120]) for el in page.find_all(tag) if is_external(el.get(attribute))
            ]
        for link in page.find_all("link"):
            if LOADED_LINKS & set(link.get("rel", [])) and is_external(link.get("href")):
                outside.append((name, str(link)[:120]))
        outside += [(name, "thebe")] if "thebe" in str(page) else []
        for element in page.find_all(srcset=True):
            outside += [(name, element["srcset"])] if "//" in element["srcset"] else []
        for script in page.find_all("script", src=False):
            if script.get("type") != "application/ld+json":
                outside += [
                    (name, url) for url in re.findall(r"https?://[^\"'\s]+\.js", script.text)
                ]
    for sheet in (site / "_static").rglob("*.css"):
        addresses = re.findall(
            r"(?:url\(|@import\s+)[\"']?((?:https?:)?//[^)\"']+)", sheet.read_text("utf8")
        )
        outside += [(sheet.name, address) for address in addresses]
    assert not outside


def is_external(address):
    return bool(address) and bool(urlsplit(address).netloc)


def test_internal_links_and_anchors_resolve(site, pages):
    anchors = {
        name: {el["id"] for el in page.find_all(id=True)}
        | {el["name"] for el in page.find_all("a", attrs={"name": True})}
        for name, page in pages.items()
    }
    dead = []
    for name, page in pages.items():
        for link in page.find_all("a", href=True):
            parts = urlsplit(link["href"])
            if parts.scheme or parts.netloc or link["href"] in ("#", ""):
                continue
            target = name
            if parts.path:
                path = (site / name).parent.joinpath(unquote(parts.path)).resolve()
                if not path.is_file() or not path.is_relative_to(site.resolve()):
                    dead.append((name, link["href"]))
                    continue
                target = path.relative_to(site.resolve()).as_posix()
            if (
                parts.fragment
                and target in anchors
                and unquote(parts.fragment) not in anchors[target]
            ):
                dead.append((name, link["href"]))
    assert not dead


def test_references_are_resolved(pages):
    for name, page in content_pages(pages).items():
        article = page.find("article")
        assert not article.select(".system-message, .problematic, .error, .xref.myst"), name
        prose = [
            text for text in article.find_all(string=True) if not text.find_parent(["code", "pre"])
        ]
        leftover = re.findall(
            r"\{(?:eq|ref|numref|doc|cite|prf:ref|term)[:\w]*\}`|\?\?", " ".join(prose)
        )
        assert not leftover, name


def test_images_are_described(pages):
    for name, page in pages.items():
        for image in page.find_all("img"):
            alt = image.get("alt", "")
            assert len(alt) > (20 if image.find_parent("article") else 3), (name, str(image)[:200])
            assert not re.search(r"\.(png|svg)$|_images/", alt), (name, alt)
        for drawing in page.select("article svg"):
            if not drawing.get("aria-hidden") and "sd-octicon" not in drawing.get("class", []):
                assert len(drawing.get("aria-label", "")) > 20, (name, str(drawing)[:200])


def test_figures_are_numbered_and_captioned(pages):
    for doc in CHAPTERS:
        article = pages[f"{doc}.html"].find("article")
        for image in article.select(".cell_output img"):
            figure = image.find_parent("figure")
            assert figure is not None, f"{doc}: a picture without a name and a caption"
            caption = figure.figcaption.get_text(" ", strip=True)
            assert re.match(r"Fig\. \d+(\.\d+)? \S", caption), doc


@pytest.mark.parametrize("doc", CHAPTERS)
def test_chapters_show_the_outputs_that_were_compared(pages, doc):
    """What is on the page is what the store holds, and that is what the gate compares."""
    ran = store.known(ROOT, read(ROOT / f"{doc}.ipynb"))
    assert ran, "the build and the tests see different packages, versions or notebooks"
    article = pages[f"{doc}.html"].find("article")
    shown = [block.get_text().strip() for block in article.select(".cell_output .highlight pre")]
    outputs = [output for cell in code_cells(ran.notebook) for output in cell.outputs]
    printed = [output.text.strip() for output in outputs if output.output_type == "stream"]
    assert [text for text in printed if text not in shown] == []


@pytest.mark.parametrize("doc", CHAPTERS)
def test_chapters_can_be_downloaded(site, pages, doc):
    links = pages[f"{doc}.html"].select("a.btn-download-source-button")
    assert [link["href"].rsplit("/", 1)[-1] for link in links] == [f"{Path(doc).name}.ipynb"]
    downloaded = (site / "_sources" / f"{doc}.ipynb").read_bytes()
    assert downloaded == (ROOT / f"{doc}.ipynb").read_bytes()


@pytest.mark.parametrize("doc", CHAPTERS)
def test_chapters_open_in_colab(pages, doc):
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
    place = config["repository"]["url"].removeprefix("https://github.com/")
    wanted = f"https://colab.research.google.com/github/{place}/blob/{config['repository']['branch']}/{doc}.ipynb"
    assert pages[f"{doc}.html"].find("a", href=wanted), wanted


def test_pages_introduce_themselves(pages):
    for name, page in content_pages(pages).items():
        assert page.html["lang"] == "en", name
        assert len(page.title.get_text(strip=True)) > 10, name
        assert page.find("meta", attrs={"name": "description"}), name
        assert len(page.find("article").find_all("h1")) == 1, name


def test_nothing_private_is_published(site):
    private = [
        str(ROOT),
        str(Path.home()) + "/",
        sys.prefix,
        "TODO",
        "FIXME",
        *(
            f"### BEGIN {mark}{end}"
            for mark in ("SOLUTION", "HIDDEN TESTS")
            for end in ("\n", "\\n")
        ),
    ]
    kinds = {".html", ".ipynb", ".md", ".txt", ".json"}
    for path in site.rglob("*"):
        if path.suffix in kinds and "_static" not in path.parts:
            text = path.read_text("utf8")
            found = [word for word in private if word in text]
            assert not found, f"{path.relative_to(site)} contains {found}"
            assert "assignments/source" not in path.as_posix()


def test_run_times_are_shown(pages):
    rows = pages["book/how-to-run.html"].select("#how-long-the-chapters-take tbody tr")
    assert len(rows) == len(CHAPTERS)
    assert all(row.find_all("td")[1].get_text(strip=True).isdigit() for row in rows)


def test_claims_page_shows_every_record(pages):
    ledger = yaml.safe_load((ROOT / "book" / "claims.yml").read_text("utf8"))
    found = claims.collect(ROOT, CHAPTERS, ledger)
    page = pages["book/appendix/claims.html"]
    for claim, records in found.items():
        assert records, f"{claim} is in the ledger, but no chapter derives or checks it"
        section = page.find("section", id=re.compile(f"^{claim.lower()}-"))
        rows = section.select("table.ntk-checks tbody tr")
        assert len(rows) == sum(record.kind == "check" for record in records)
        for row, record in zip(rows, [r for r in records if r.kind == "check"], strict=True):
            assert record.data["measured"] in row.get_text(" ", strip=True)


# The collecting functions -------------------------------------------------------------------------


CHECK = {
    "claim": "C01/slope",
    "what": "a slope",
    "kind": "exact",
    "theory": "2",
    "measured": "1.998",
    "bound": "within 0.02",
    "verdict": "pass",
    "rejects": ["half of it"],
    "wrong": ["1"],
    "margins": ["50"],
    "seeds": "",
    "size": "n = 64",
}
PROOF = {
    "label": "eq-one",
    "claim": "C01",
    "proved": 3,
    "checked": 1,
    "given": 2,
    "kinds": {"definition": 1, "premise": 1},
    "uses": ["eq-zero"],
    "cites": ["eq-zero", "eq-two"],
}
LEDGER = {"C01": {"title": "A claim", "statement": "It is so.", "source": "Nobody."}}


def book_of(folder, *cells):
    """A book of one notebook whose cells have the given records as outputs."""
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nparts:\n- chapters:\n  - file: one\n"
    )
    (folder / "index.md").write_text("# Index\n")
    notebook = nbformat.v4.new_notebook()
    for mime, data in cells:
        output = nbformat.v4.new_output("execute_result", data={mime: data}, execution_count=1)
        notebook.cells.append(nbformat.v4.new_code_cell("1", outputs=[output]))
    nbformat.write(notebook, folder / "one.ipynb")
    return claims.collect(folder, claims.notebooks(folder), LEDGER)


def test_records_are_collected(tmp_path):
    found = book_of(tmp_path, (claims.CHECK, [CHECK]), (claims.DERIVATION, PROOF))
    assert [(r.kind, r.doc, r.cell) for r in found["C01"]] == [
        ("check", "one", 0),
        ("derivation", "one", 1),
    ]
    page = claims.page(LEDGER, found)
    assert "{ref}`slope <check-c01-slope>`" in page
    assert "1.998" in page
    assert "{eq}`eq-one`" in page
    assert "3 steps proved, 1 tested numerically, from 1 definition and 1 premise." in page
    assert "It uses {eq}`eq-zero`. Premises are shown in {eq}`eq-two`." in page
    assert "half of it (50×)" in page
    assert "1 claim." in claims.summary(found)
    assert "refuse 1 wrong theory" in claims.summary(found)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([(claims.CHECK, [{**CHECK, "claim": "C99/slope"}])], "one.ipynb, cell 1: the claim 'C99'"),
        ([(claims.DERIVATION, {**PROOF, "claim": "C98"})], "'C98' is not in book/claims.yml"),
        ([(claims.CHECK, [CHECK, CHECK])], "the check 'C01/slope' is used 2 times"),
        ([(claims.CHECK, [CHECK]), (claims.CHECK, [CHECK])], "cell 1; one.ipynb, cell 2"),
        ([(claims.DERIVATION, PROOF)] * 2, "the derivation 'eq-one' is used 2 times"),
        ([(claims.CHECK, [{**CHECK, "claim": "C01"}])], "has no name of its own"),
        ([(claims.CHECK, [{**CHECK, "verdict": "fail"}])], "did not pass"),
    ],
)
def test_claims_that_do_not_fit_are_refused(tmp_path, cells, message):
    with pytest.raises(claims.ClaimError, match=re.escape(message)):
        book_of(tmp_path, *cells)


def test_json_may_be_stored_as_text():
    assert claims.as_json(json.dumps(PROOF)) == PROOF
    assert claims.as_json(json.dumps([CHECK], indent=1).splitlines(keepends=True)) == [CHECK]
    assert claims.as_json([CHECK]) == [CHECK]


def test_docstrings_are_safe_as_rst():
    assert docstrings.escape("|a| <= 2 * b, ``|c| * d``, x_ and **Raises**") == (
        r"\|a\| <= 2 \* b, ``|c| * d``, x\_ and **Raises**"
    )


# The cover ----------------------------------------------------------------------------------------


def test_cover_is_what_the_package_computes():
    stored = json.loads((cover.STATIC / "cover.json").read_text("utf8"))
    with jax.enable_x64(True):
        fresh = cover.curves(networks=1)
    np.testing.assert_allclose(stored["mean"], fresh["mean"], atol=2e-3)
    np.testing.assert_allclose(stored["networks"][0], fresh["networks"][0], atol=2e-3)
    assert cover.svg(stored) == (cover.STATIC / "cover.svg").read_text("utf8")
