// Formulas that are wider than their place scroll inside themselves, and the keyboard can reach them.
// (The theme does the same for code and tables.)
(function () {
  function letScroll(box) {
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", "formula, scrolls sideways");
  }

  function markWideFormulas() {
    document.querySelectorAll("article mjx-container:not([display])").forEach(function (formula) {
      const place = formula.closest("p, li, dd, dt, td, th, figcaption") || formula.parentElement;
      if (!formula.closest("table") && formula.scrollWidth > place.clientWidth) {
        formula.classList.add("ntk-too-wide");
        letScroll(formula);
      }
    });
    document.querySelectorAll("article div.math").forEach(function (box) {
      const boxes = [box, ...box.querySelectorAll("mjx-container")];
      const wide = boxes.find(
        (el) => el.scrollWidth > el.clientWidth + 1 && getComputedStyle(el).overflowX === "auto");
      if (wide) letScroll(wide);
    });
  }

  window.addEventListener("load", function () {
    const ready = window.MathJax && window.MathJax.startup && window.MathJax.startup.promise;
    (ready || Promise.resolve()).then(markWideFormulas);
    window.addEventListener("resize", markWideFormulas);
  });
})();
