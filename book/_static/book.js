// Formulas that are wider than their place scroll inside themselves, and the keyboard can reach them.
// (The theme does the same for code and tables.)
(function () {
  const scrolls = (el) => el.scrollWidth > el.clientWidth + 1;

  function letScroll(box, needed) {
    if (!needed) {
      ["tabindex", "role", "aria-label"].forEach((name) => box.removeAttribute(name));
      return;
    }
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", "formula, scrolls sideways");
  }

  function markWideFormulas() {
    document.querySelectorAll("article mjx-container:not([display])").forEach(function (formula) {
      const place = formula.closest("p, li, dd, dt, td, th, figcaption") || formula.parentElement;
      if (!formula.closest("table") && formula.scrollWidth > place.clientWidth) {
        formula.classList.add("ntk-too-wide");
        letScroll(formula, true);
      }
    });
    document.querySelectorAll("article div.math").forEach(function (box) {
      const boxes = [box, ...box.querySelectorAll("mjx-container")];
      const widest = () =>
        boxes.find((el) => scrolls(el) && getComputedStyle(el).overflowX === "auto");
      box.classList.remove("ntk-own-line", "ntk-goes-on");
      if (widest()) box.classList.add("ntk-own-line");   // the number goes below
      const wide = widest();
      boxes.forEach((el) => letScroll(el, el === wide));
      box.classList.toggle("ntk-goes-on", Boolean(wide));
    });
  }

  window.addEventListener("load", function () {
    const ready = window.MathJax && window.MathJax.startup && window.MathJax.startup.promise;
    (ready || Promise.resolve()).then(markWideFormulas);
    window.addEventListener("resize", markWideFormulas);
    // A formula in a closed fold has no width before it opens.
    document.addEventListener("toggle", markWideFormulas, true);
  });
})();

// One button shows all code, hides all of it, or returns to what the chapter shows; the choice is
// remembered for every page.
(function () {
  const KEY = "ntk-code";
  const CHOICES = ["main", "all", "none"];
  const NEXT = {main: "Show all code", all: "Hide all code", none: "Show main code"};

  function remembered() {
    try {
      return CHOICES.find((choice) => choice === localStorage.getItem(KEY)) || "main";
    } catch {
      return "main";   // storage may be forbidden
    }
  }

  function remember(choice) {
    try {
      localStorage.setItem(KEY, choice);
    } catch { /* the page still obeys, until it is left */ }
  }

  function apply(choice) {
    document.documentElement.dataset.ntkCode = choice;
    document.querySelectorAll("article div.cell details.hide").forEach(function (fold) {
      fold.open = choice === "all";
    });
  }

  window.addEventListener("DOMContentLoaded", function () {
    const bar = document.querySelector(".article-header-buttons");
    if (!bar || !document.querySelector("article div.cell_input")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn btn-sm ntk-code";
    bar.prepend(button);
    let choice = remembered();
    function show() {
      apply(choice);
      button.textContent = NEXT[choice];
    }
    button.addEventListener("click", function () {
      choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
      remember(choice);
      show();
    });
    show();
  });
})();
