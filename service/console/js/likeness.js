// How alike two images are: PSNR on luma (BT.601, as super-resolution papers count it), in dB.

const SHAVE = 4;
const MOST_PIXELS = 16e6;

/** PSNR of two bitmaps of one size; Infinity where they are equal, null where they are too large to compare here. */
export function psnr(one, other) {
  const { width, height } = one;
  if (width !== other.width || height !== other.height || width * height > MOST_PIXELS) return null;
  const edge = Math.min(width, height) > 4 * SHAVE ? SHAVE : 0;
  const a = pixels(one);
  const b = pixels(other);
  let sum = 0;
  let count = 0;
  for (let y = edge; y < height - edge; y += 1) {
    for (let at = 4 * (y * width + edge), end = 4 * (y * width + width - edge); at < end; at += 4) {
      const luma = 65.481 * (a[at] - b[at]) + 128.553 * (a[at + 1] - b[at + 1]) + 24.966 * (a[at + 2] - b[at + 2]);
      sum += (luma / 255) ** 2;
      count += 1;
    }
  }
  return sum === 0 ? Infinity : 10 * Math.log10((255 * 255 * count) / sum);
}

function pixels(bitmap) {
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height).data;
}
