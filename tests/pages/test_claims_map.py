"""The map of claims follows the records, and says in words what its lines show."""

import xml.etree.ElementTree as ET
from dataclasses import replace

from notebooks import claims
from notebooks.claims import Record
from pages import claims_map

LEDGER = {name: {"title": f"Claim <{name}>"} for name in ("C01", "C02", "C03", "C04")}
TITLES = {"book/one": "One", "book/two": "Two"}


def proof(doc, claim, label, **more):
    return Record(doc, 0, "derivation", {"label": label, "claim": claim, **more})


FOUND = {
    "C01": [proof("book/one", "C01", "eq-a")],
    "C02": [proof("book/two", "C02", "eq-b", uses=["eq-a"], cites=["eq-a", "eq-elsewhere"])],
    "C03": [
        proof("book/one", "C03", "eq-c", uses=[], cites=["eq-b"]),
        proof("book/one", "C03", "eq-d", uses=["eq-c"]),
    ],
    "C04": [],
}


def test_links_are_what_derivations_use_or_name():
    assert claims.links(FOUND) == [("C01", "C02"), ("C02", "C03")]


def test_each_claim_is_a_link_that_says_what_it_rests_on():
    svg = ET.fromstring(claims_map.picture(LEDGER, FOUND, TITLES))
    boxes = {a.get("href"): a.get("aria-label") for a in svg.iter("a")}
    assert boxes == {
        "#claim-c01": "C01, Claim <C01>. Used by C02.",
        "#claim-c03": "C03, Claim <C03>. Rests on C02.",
        "#claim-c02": "C02, Claim <C02>. Rests on C01. Used by C03.",
    }
    assert len(list(svg.iter("path"))) == 2
    assert [text.text for text in svg.iter("text") if text.get("class")] == ["One", "Two"]


def test_each_section_names_its_neighbours():
    data = {"proved": 1, "checked": 0}
    found = {
        claim: [replace(r, data={**data, **r.data}) for r in records]
        for claim, records in FOUND.items()
    }
    ledger = {claim: {"title": "T", "statement": "S", "source": "P."} for claim in FOUND}
    first, second, third = claims.page(ledger, found).split("(claim-c0")[1:]
    assert "Used by {ref}`C02 <claim-c02>`." in first
    assert "Rests on" not in first
    assert "Rests on {ref}`C01 <claim-c01>`." in second
    assert "Used by {ref}`C03 <claim-c03>`." in second
    assert "Rests on {ref}`C02 <claim-c02>`." in third
    assert "Used by" not in third


def test_boxes_are_apart_and_inside_the_picture():
    many = {f"C{k:02}": [proof("book/one", f"C{k:02}", f"eq-{k}")] for k in range(1, 41)}
    _, corners = claims_map.places(many, list(TITLES))
    assert len(set(corners.values())) == 40
    assert all(0 <= x <= claims_map.WIDTH - claims_map.BOX for x, _ in corners.values())
