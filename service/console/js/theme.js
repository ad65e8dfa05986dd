// Light, dark, or as the system has it.

import { svg } from "./dom.js";

const STEPS = ["auto", "light", "dark"];

const ICONS = {
  auto: ["M12 3a9 9 0 1 0 0 18z", "M12 3a9 9 0 0 1 0 18"],
  light: ["M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z", "M12 2v2M12 20v2M2 12h2M20 12h2M4.9 4.9l1.4 1.4M17.7 17.7l1.4 1.4M4.9 19.1l1.4-1.4M17.7 6.3l1.4-1.4"],
  dark: ["M20 14.5A8 8 0 0 1 9.5 4a8 8 0 1 0 10.5 10.5z"],
};

export function startTheme(button) {
  let theme = document.documentElement.dataset.theme ?? "auto";
  const show = () => {
    const paths = ICONS[theme].map((d, index) => svg("path", { d, fill: theme === "auto" && index === 0 ? "currentColor" : "none" }));
    button.replaceChildren(
      svg("svg", { viewBox: "0 0 24 24", stroke: "currentColor", "stroke-width": 1.8, "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true", fill: "none" }, ...paths),
    );
    const name = theme === "auto" ? "as the system" : theme;
    button.setAttribute("aria-label", `Theme: ${name}`);
    button.title = `Theme: ${name}`;
  };
  button.addEventListener("click", () => {
    theme = STEPS[(STEPS.indexOf(theme) + 1) % STEPS.length];
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem("pixeltier.theme", theme);
    } catch {
      // Then it lasts as long as the page.
    }
    show();
  });
  show();
}
