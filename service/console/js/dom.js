// Elements without markup: text never becomes HTML, so nothing an answer says can become script.

const SVG = "http://www.w3.org/2000/svg";

function build(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else if (name === "style") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    else if (name === "value") node.value = value;
    else if (name === "checked") node.checked = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An HTML element: attributes, `on` for listeners, `style` for single properties; null children are left out. */
export function el(tag, props = {}, ...children) {
  return build(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function svg(tag, props = {}, ...children) {
  return build(document.createElementNS(SVG, tag), props, children);
}

/** Put new children in place of the old ones. */
export function fill(node, ...children) {
  node.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

let lastId = 0;

/** An id that no other element has. */
export function freshId(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}

/** A group of radio buttons that looks like one switch. `set` chooses without calling back. */
export function choices(label, options, chosen, changed, { small = false } = {}) {
  const name = freshId("choice");
  const inputs = new Map();
  const node = el("div", { class: small ? "choices small" : "choices", role: "radiogroup", "aria-label": label });
  for (const [value, text] of options) {
    const input = el("input", { type: "radio", name, value, checked: value === chosen, on: { change: () => changed(value) } });
    inputs.set(value, input);
    node.append(el("label", {}, input, el("span", {}, text)));
  }
  return {
    node,
    set(value) {
      for (const [key, input] of inputs) input.checked = key === value;
    },
    enable(value, on) {
      const input = inputs.get(value);
      if (input) input.disabled = !on;
    },
  };
}

/** Say something to screen readers. */
export function announce(text) {
  document.getElementById("announcements").textContent = text;
}
