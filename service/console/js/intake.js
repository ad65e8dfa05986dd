// Ways an image gets in: dropped anywhere, pasted, picked, or a sample.

import { sample } from "./api.js";
import { el } from "./dom.js";

const TYPES = "image/jpeg,image/png,image/webp";

const SAMPLES = [
  { file: "cat.jpg", name: "Cat", credit: "Stéfan van der Walt, CC0" },
  { file: "astronaut.png", name: "Astronaut", credit: "NASA, public domain" },
];

/**
 * @param {(blob: Blob, name: string) => void} take
 * @param {(files: File[]) => void} takeSeveral two or more
 * @param {(error: Error) => void} failed
 * @param {() => boolean} active whether this view is on
 */
export function createIntake(take, takeSeveral, failed, active) {
  const takeAll = (files) => {
    if (files.length > 1) takeSeveral(files);
    else if (files.length) take(files[0], files[0].name);
  };
  const input = el("input", { type: "file", accept: TYPES, multiple: true, class: "visually-hidden", tabindex: "-1", "aria-label": "Image file" });
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = "";
    takeAll(files);
  });
  const pick = () => input.click();

  const takeSample = async (one) => {
    try {
      take(await sample(one.file), one.file);
    } catch (error) {
      failed(error);
    }
  };

  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (!file || !active()) return;
    event.preventDefault();
    take(file, file.name || "pasted image");
  });

  let depth = 0;
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files") && active();
  const light = (on) => document.body.classList.toggle("dropping", on);
  document.addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    depth += 1;
    light(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (!carriesFiles(event)) return;
    depth = Math.max(0, depth - 1);
    if (depth === 0) light(false);
  });
  document.addEventListener("dragover", (event) => {
    if (carriesFiles(event)) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    depth = 0;
    light(false);
    if (!carriesFiles(event)) return;
    event.preventDefault();
    takeAll([...event.dataTransfer.files]);
  });

  const samplePictures = SAMPLES.map((one) =>
    el(
      "button",
      { type: "button", class: "sample", title: `${one.name}: ${one.credit}`, "data-sample": one.file, on: { click: () => takeSample(one) } },
      el("img", { src: new URL(`../samples/${one.file}`, import.meta.url).href, alt: "", width: 44, height: 44 }),
      one.name,
    ),
  );

  /** The large empty place at the start. */
  const welcome = el(
    "div",
    { class: "card welcome" },
    el(
      "div",
      { class: "welcome-text" },
      el("h2", {}, "Compute only where it matters"),
      el("p", { class: "soft" }, "Drop photos here, paste one, or choose files. You will see which parts of it the model computes, what that saves, and what it costs in quality."),
    ),
    el("div", { class: "welcome-actions" }, el("button", { type: "button", class: "primary", id: "pick", on: { click: pick } }, "Choose an image"), samplePictures),
    el("p", { class: "small soft" }, "JPEG, PNG or WebP. It is sent to this service only, and not kept."),
  );
  return { input, pick, takeSample, samples: SAMPLES, welcome };
}
