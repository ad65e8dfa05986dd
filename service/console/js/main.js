// Starts the page: theme, status, and one of two views by the address's fragment.

import { announce } from "./dom.js";
import { guardFocus } from "./focus.js";
import { startStatus } from "./status.js";
import { startTheme } from "./theme.js";
import { startTry } from "./try-view.js";
import { startOperate } from "./operate-view.js";

const VIEWS = ["try", "operate"];

const current = () => (VIEWS.includes(location.hash.slice(1)) ? location.hash.slice(1) : "try");

guardFocus();
startTheme(document.getElementById("theme"));
startStatus(document.getElementById("status"));

const tryView = startTry(document.getElementById("try"), () => current() === "try");
const operateView = startOperate(document.getElementById("operate"));

function show(said) {
  const view = current();
  for (const name of VIEWS) document.getElementById(name).hidden = name !== view;
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = view === "try" ? "Pixeltier" : "Operate · Pixeltier";
  operateView.active(view === "operate");
  if (view === "try" && said) tryView.refreshTable();
  if (said) announce(view === "try" ? "Try it" : "Operate");
}

window.addEventListener("hashchange", () => {
  if (location.hash === "#main") return;
  show(true);
});
show(false);
