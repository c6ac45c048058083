// Formulas that are wider than the page scroll inside themselves; this lets the keyboard reach them.
// (The theme does the same for code and tables.)
(function () {
  function markScrollers() {
    document.querySelectorAll("div.math").forEach(function (box) {
      const wide = [box, ...box.querySelectorAll("mjx-container")].find(
        (el) => el.scrollWidth > el.clientWidth + 1 && getComputedStyle(el).overflowX === "auto");
      if (wide) {
        wide.tabIndex = 0;
        wide.setAttribute("role", "region");
        wide.setAttribute("aria-label", "formula, scrolls sideways");
      }
    });
  }
  window.addEventListener("load", function () {
    const ready = window.MathJax && window.MathJax.startup && window.MathJax.startup.promise;
    (ready || Promise.resolve()).then(markScrollers);
  });
})();
