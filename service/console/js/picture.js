// The image a user gave: what is shown of it, and what is sent.

/** Above this, only a part is enlarged unless the user wants the whole: enlarging takes its time. */
export const PART_SIDE = 256;

/** How much of a side the classifier sees: ImageNet's crop of 224 out of 256. */
const CLASSIFIER_CROP = 224 / 256;

let lastNumber = 0;

/** Take a file in; `bitmap` is null where this browser cannot decode it (the service may say why). */
export async function takeIn(blob, name) {
  lastNumber += 1;
  const picture = { number: lastNumber, name, blob, bitmap: null, width: 0, height: 0 };
  try {
    picture.bitmap = await createImageBitmap(blob);
    picture.width = picture.bitmap.width;
    picture.height = picture.bitmap.height;
  } catch {
    // Kept: the service's answer says what is wrong with it.
  }
  return picture;
}

export function isLarge(picture) {
  return Math.max(picture.width, picture.height) > 1.5 * PART_SIDE;
}

/** The rectangle of the picture that a task looks at. */
export function region(picture, task, part) {
  const { width, height } = picture;
  if (task === "classify") {
    const side = Math.min(width, height) * CLASSIFIER_CROP;
    return { x: (width - side) / 2, y: (height - side) / 2, width: side, height: side };
  }
  if (part === "whole" || !isLarge(picture)) return { x: 0, y: 0, width, height };
  const [w, h] = [Math.min(width, PART_SIDE), Math.min(height, PART_SIDE)];
  return { x: Math.floor((width - w) / 2), y: Math.floor((height - h) / 2), width: w, height: h };
}

/** What goes to the service: the file as it is, or the part of it as a PNG. */
export async function payload(picture, task, part) {
  if (task === "classify" || picture.bitmap === null || part === "whole" || !isLarge(picture)) return picture.blob;
  const canvas = draw(picture, region(picture, task, part));
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the part could not be cut out"))), "image/png");
  });
}

/** A region of the picture on a canvas, at its own size but never above `limit` a side. */
export function draw(picture, { x, y, width, height }, limit = 2048) {
  const scale = Math.min(1, limit / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  if (picture.bitmap) {
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(picture.bitmap, x, y, width, height, 0, 0, canvas.width, canvas.height);
  }
  return canvas;
}
