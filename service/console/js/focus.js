// Keyboard focus never falls to the body (WCAG 2.4.3): where what has it goes away, it moves to what stands nearest.

const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";
const HEADINGS = "[data-landing], h2, h3";

const rendered = (node) => node.isConnected && node.getClientRects().length > 0;

const usable = (node) => rendered(node) && !node.matches(":disabled");

/** Focus a node; one that takes none otherwise, a heading or a message, takes it once. */
export function land(node, options = {}) {
  if (!node.matches("a[href], button, input, select, textarea, summary, [tabindex]")) {
    node.setAttribute("tabindex", "-1");
    node.addEventListener("blur", () => node.removeAttribute("tabindex"), { once: true });
  }
  node.focus(options);
}

/** Put new children in place, and the focus where it was: on the element of the same place among those that take it. */
export function refill(node, put) {
  const at = [...node.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
  put();
  if (at < 0) return;
  const now = [...node.querySelectorAll(FOCUSABLE)].filter(usable);
  now[Math.min(at, now.length - 1)]?.focus({ preventScroll: true });
}

/** Watch the page; what its user leaves on purpose, by a click beside it, is left. */
export function guardFocus() {
  let last = null; // what has the focus, and what it stands in: a removed element no longer knows

  document.addEventListener("focusin", ({ target }) => {
    last = [];
    for (let node = target; node && node !== document.body; node = node.parentElement) last.push(node);
  });
  document.addEventListener("focusout", ({ target, relatedTarget }) => {
    if (relatedTarget) return;
    queueMicrotask(() => {
      if (last?.[0] === target && usable(target) && document.hasFocus()) last = null;
    });
  });

  function look() {
    if (last === null || usable(last[0])) return;
    const current = document.activeElement;
    if (current && current !== document.body && current !== last[0]) return;
    for (const around of last.slice(1)) {
      if (!rendered(around)) continue;
      const found = [...around.querySelectorAll(HEADINGS)].find((node) => usable(node));
      if (found) {
        land(found, { preventScroll: true });
        return;
      }
    }
    document.getElementById("main").focus({ preventScroll: true });
  }

  new MutationObserver(look).observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ["hidden", "disabled", "open", "class"] });
}
