// What the browser tests ask of a page. The value of this file is an object of functions.
({
  // Text whose contrast with the colour behind it is below WCAG AA: 4.5, or 3 for large text.
  lowContrast() {
    const rgba = (css) => {
      const n = css.match(/-?[\d.]+(e-?\d+)?/g).map(Number);
      const unit = css.startsWith("color(") ? 255 : 1;
      return [n[0] * unit, n[1] * unit, n[2] * unit, n[3] ?? 1];
    };
    const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
    const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const luminance = (c) =>
      0.2126 * linear(c[0] / 255) + 0.7152 * linear(c[1] / 255) + 0.0722 * linear(c[2] / 255);
    const behind = (el) => {
      const layers = [];
      for (; el; el = el.parentElement) {
        const colour = rgba(getComputedStyle(el).backgroundColor);
        if (colour[3] > 0) layers.push(colour);
        if (colour[3] === 1) break;
      }
      return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
    };
    const unseen = "mjx-assistive-mml, svg, script, style, noscript, [aria-hidden=true]";
    const shown = { opacityProperty: true, visibilityProperty: true };
    const found = {};
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode.data.trim();
      const el = walker.currentNode.parentElement;
      if (!text || el.closest(unseen) || !el.checkVisibility(shown)) continue;
      const style = getComputedStyle(el);
      const back = behind(el);
      const front = over(rgba(style.color), back);
      const [light, dark] = [luminance(front), luminance(back)].sort((a, b) => b - a);
      const ratio = (light + 0.05) / (dark + 0.05);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.6 && style.fontWeight >= 700);
      if (ratio < (large ? 3 : 4.5)) {
        const where = `${el.tagName}.${el.className} ${style.color} on ${back.map(Math.round)}`;
        found[`${where}: ${ratio.toFixed(2)}`] = text.slice(0, 40);
      }
    }
    return found;
  },

  // Displayed formulas that are wider than their box, and look complete where they are cut.
  wideFormulas() {
    const wide = (el) => el.scrollWidth > el.clientWidth + 1;
    return [...document.querySelectorAll("article div.math")]
      .filter((box) => box.checkVisibility())
      .filter((box) => wide(box) || [...box.querySelectorAll("mjx-container")].some(wide))
      .map((box) => box.id || box.textContent.slice(0, 60));
  },

  // Formulas that are wider than their box and don't say so.
  silentlyWideFormulas() {
    const wide = (el) => el.scrollWidth > el.clientWidth + 1;
    return [...document.querySelectorAll("article div.math")]
      .filter((box) => box.checkVisibility())
      .filter((box) => wide(box) || [...box.querySelectorAll("mjx-container")].some(wide))
      .filter((box) => !getComputedStyle(box, "::after").content.includes("goes on"))
      .map((box) => box.id || box.textContent.slice(0, 60));
  },

  // Links, buttons and fields that a screen reader could not name.
  unnamed() {
    const byId = (ids) => ids.split(" ").map((id) => document.getElementById(id)?.innerText || "");
    const name = (el) =>
      el.textContent.trim() ||
      el.getAttribute("aria-label") ||
      el.title ||
      el.getAttribute("placeholder") ||
      [...(el.labels || [])].map((label) => label.innerText).join("") ||
      [...el.querySelectorAll("img[alt]")].map((img) => img.alt).join("") ||
      byId(el.getAttribute("aria-labelledby") || "").join("");
    const controls = "a[href], button, input:not([type=hidden]), select, textarea, summary";
    return [...document.querySelectorAll(controls)]
      .filter((el) => el.checkVisibility() && !name(el))
      .map((el) => el.outerHTML.slice(0, 160));
  },

  // The levels of the visible headings, in order.
  headings() {
    return [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")]
      .filter((el) => el.checkVisibility())
      .map((el) => Number(el.tagName[1]));
  },

  // What sticks out of the page to the right and cannot be scrolled to.
  cutOff() {
    const scrolls = (el) => el && (/(auto|scroll)/.test(getComputedStyle(el).overflowX) || scrolls(el.parentElement));
    return [...document.querySelectorAll("article :is(p, li, td, img, svg, mjx-container, pre, dt, h1, h2, h3)")]
      .filter((el) => el.checkVisibility() && !scrolls(el) && !el.closest("[aria-hidden=true]"))
      .filter((el) => el.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
      .map((el) => el.outerHTML.slice(0, 160));
  },

  missingLandmarks() {
    return ["main", "nav", "article"].filter((tag) => !document.querySelector(tag));
  },

  repeatedIds() {
    const ids = [...document.querySelectorAll("article [id]")].map((el) => el.id);
    return ids.filter((id, i) => ids.indexOf(id) !== i && !id.startsWith("MJX"));
  },

  // Each option of the quiz: whether its verdict is seen before and after it is opened, and its words.
  quizOptions() {
    return [...document.querySelectorAll(".admonition.quiz details")].map((option) => {
      const verdict = option.querySelector("p > strong");
      const seen = () => verdict.checkVisibility();
      const before = seen();
      option.querySelector("summary").click();
      return { before, after: seen(), says: verdict.innerText };
    });
  },
})
