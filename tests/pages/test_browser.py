"""The site in a real browser: on a desk, on a phone, in the dark, by keyboard, and offline."""

import itertools
from pathlib import Path

import pytest
from browser import QUIET, find_chromium, served
from notebooks import claims, quiz
from notebooks.toc import lessons
from playwright.sync_api import expect, sync_playwright
from site_build import ROOT, built_site

DOCS = sorted(
    {path.relative_to(ROOT).with_suffix("").as_posix() for path in (ROOT / "book").rglob("*.md")}
    | set(claims.notebooks(ROOT))
)
LESSONS = [path.relative_to(ROOT).with_suffix("").as_posix() for path in lessons(ROOT)]
PATIENCE_MS = 120_000  # a busy machine may be slow; what never comes is found all the same
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

CHECKS = Path(__file__).parents[1].joinpath("helpers", "page_checks.js").read_text("utf8")


@pytest.fixture(scope="module")
def address():
    with served(built_site()) as url:
        yield url


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(playwright), args=QUIET)
        expect.set_options(timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, address):
    """A page that notes what goes wrong: errors, failed answers, and requests to other servers."""
    page = chromium.new_page(viewport=DESK, color_scheme="light")
    page.set_default_timeout(PATIENCE_MS)
    page.problems = []
    page.on(
        "console",
        lambda m: page.problems.append(m.text) if m.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on(
        "response",
        lambda r: page.problems.append(f"{r.status} {r.url}") if r.status >= 400 else None,
    )
    page.on(
        "request",
        lambda r: (
            None
            if r.url.startswith((address, "data:", "blob:"))
            else page.problems.append(f"request to {r.url}")
        ),
    )
    yield page
    page.close()


def visit(page, url):
    page.goto(url)
    page.wait_for_load_state("load")
    page.evaluate("() => window.MathJax?.startup?.promise")


def ask(page, question):
    return page.evaluate(f"({CHECKS}).{question}()")


@pytest.mark.parametrize("doc", DOCS)
def test_page(page, address, doc):
    """Formulas, widths, contrasts, names and headings of one page, in all its dresses."""
    visit(page, f"{address}{doc}.html")

    assert page.locator("mjx-merror").count() == 0, page.locator("mjx-merror").all_inner_texts()
    formulas, set_formulas = page.locator(".math").count(), page.locator("mjx-container").count()
    assert set_formulas >= formulas

    assert ask(page, "wideFormulas") == []
    assert ask(page, "unnamed") == []
    assert ask(page, "missingLandmarks") == []
    assert ask(page, "repeatedIds") == []
    levels = ask(page, "headings")
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), levels
    assert ask(page, "lowContrast") == {}

    page.emulate_media(color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.wait_for_timeout(400)  # colours fade over
    assert ask(page, "lowContrast") == {}

    for width in (PHONE["width"], 768):
        page.set_viewport_size({**PHONE, "width": width})
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (
            f"wider than {width} px"
        )
        assert ask(page, "cutOff") == []
        assert ask(page, "silentlyWideFormulas") == []
    assert page.problems == []


def test_pages_work_after_loading_on_a_phone(chromium, address):
    context = chromium.new_context(
        viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2
    )
    page = context.new_page()
    visit(page, f"{address}{claims.notebooks(ROOT)[0]}.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.locator("button.primary-toggle").first.tap()
    expect(page.get_by_role("link", name="Notation", exact=True).first).to_be_visible()
    context.close()


def test_skip_link_leads_to_the_text(page, address):
    visit(page, f"{address}book/index.html")
    page.keyboard.press("Tab")
    assert "skip" in page.evaluate("document.activeElement.innerText").lower()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("!!document.activeElement.closest('main')")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_tab_reaches_the_text_without_the_skip_link(page, address):
    visit(page, f"{address}book/notation.html")
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("!!document.activeElement.closest('article')"):
            return
    raise AssertionError("80 presses of Tab never reached the text")


def test_search_finds_a_chapter(page, address):
    visit(page, f"{address}book/notation.html")
    page.keyboard.press("Control+k")
    field = page.locator("input[type=search]:visible")
    field.fill("residual")
    field.press("Enter")
    page.wait_for_url("**/search.html?q=residual*")
    # Results come one after the other.
    results = page.locator("#search-results ul.search li a")
    expect(results.and_(page.locator("[href*=glossary]")).first).to_be_visible()
    assert page.problems == []


def test_bad_contrast_and_unnamed_controls_are_noticed(page, address):
    visit(page, f"{address}book/index.html")
    page.evaluate("""() => {
        const button = document.createElement("button");
        document.querySelector("article").append(button, "text");
        document.querySelector("article h2").style.color = "#cccccc";
        document.querySelector("article p").style.color = "color(srgb 0.6 0.6 0.6)";
    }""")
    assert len(ask(page, "unnamed")) == 1
    assert len(ask(page, "lowContrast")) == 2


def test_theme_can_be_changed_and_is_kept(page, address):
    visit(page, f"{address}book/index.html")
    html = page.locator("html")
    button = page.locator("button.theme-switch-button:visible").first
    seen = set()
    for _ in range(3):
        button.click()
        seen.add(html.get_attribute("data-mode"))
    assert seen == {"auto", "light", "dark"}
    while html.get_attribute("data-mode") != "dark":
        button.click()
    visit(page, f"{address}book/notation.html")
    expect(html).to_have_attribute("data-theme", "dark")
    assert page.problems == []


def test_root_leads_to_the_landing_page(page, address):
    page.goto(address)
    page.wait_for_url("**/book/index.html")


@pytest.fixture
def bare(page):
    """The page without its formulas, whose typesetting these tests would only wait for."""
    page.route("**/mathjax/**", lambda route: route.abort())
    return page


@pytest.mark.parametrize("doc", LESSONS)
def test_answers_and_quiz_options_open_by_keyboard(bare, address, doc):
    """And an option says whether it is right."""
    visit(bare, f"{address}{doc}.html")
    first = bare.locator("article details > summary").first
    first.focus()
    bare.keyboard.press("Enter")
    assert first.evaluate("summary => summary.parentElement.open")
    bare.keyboard.press("Enter")
    assert not first.evaluate("summary => summary.parentElement.open")

    expected = [o["right"] for q in quiz.load(ROOT / f"{doc}.quiz.yml") for o in q["options"]]
    first = bare.locator(".admonition.quiz details").first
    verdict = first.locator("p > strong").first
    expect(verdict).to_be_hidden()
    first.locator("summary").focus()
    bare.keyboard.press("Enter")
    expect(verdict).to_be_visible()
    first.locator("summary").focus()
    bare.keyboard.press("Enter")
    options = ask(bare, "quizOptions")
    assert options == [
        {"before": False, "after": True, "says": "Right." if right else "Not quite."}
        for right in expected
    ]


def test_one_button_shows_and_hides_all_code(bare, address):
    """By keyboard, on every page with code, from then on; folded code stays off the paper."""
    visit(bare, f"{address}book/use/your-network.html")
    button = bare.locator("button.ntk-code")
    main = bare.locator("article div.cell:not(.tag_hide-input) div.cell_input").first
    folded = bare.locator("article div.cell.tag_hide-input div.cell_input").first
    summary = bare.locator("article div.cell details.hide > summary").first

    def seen():
        return main.is_visible(), folded.is_visible(), summary.is_visible()

    assert (button.inner_text(), seen()) == ("Show all code", (True, False, True))
    bare.emulate_media(media="print")
    assert seen() == (True, False, False)
    bare.emulate_media(media="screen")
    button.focus()
    bare.keyboard.press("Enter")
    assert (button.inner_text(), seen()) == ("Hide all code", (True, True, True))
    bare.keyboard.press("Space")
    assert (button.inner_text(), seen()) == ("Show main code", (False, False, False))

    visit(bare, f"{address}book/use/hyper-parameters.html")
    assert button.inner_text() == "Show main code"
    assert not main.is_visible()
    button.click()
    assert main.is_visible()

    visit(bare, f"{address}book/notation.html")
    assert button.count() == 0  # no code, no button


def test_without_motion(chromium, address):
    page = chromium.new_page(viewport=DESK, reduced_motion="reduce")
    visit(page, f"{address}book/index.html")
    slow = page.evaluate("""() => [...document.querySelectorAll("*")].filter(el =>
        parseFloat(getComputedStyle(el).transitionDuration) > 0.05).length""")
    page.close()
    assert slow == 0


def test_documents_of_the_repository_are_all_tested():
    assert {"book/index", "book/appendix/claims", "book/course/students"} <= set(DOCS)
    assert all(
        Path(ROOT, f"{doc}.md").is_file() or Path(ROOT, f"{doc}.ipynb").is_file() for doc in DOCS
    )
