// Where the names of points go, so that none covers another or a point.

const KNOB = 9;
const LINE = 15;
const ABOVE = -17;
const BELOW = 20;
const ROWS = 8;
const OFFSETS = Array.from({ length: ROWS }, (_, row) => [ABOVE - row * LINE, BELOW + row * LINE]).flat();

const touch = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

/**
 * @param {{x: number, y: number, width: number}[]} points with the widths of their names
 * @param {{left: number, right: number, top: number, bottom: number}} area that the names stay within
 * @returns {{dx: number, dy: number, far: boolean}[]} the middle of each name from its point; far: not right beside it
 */
export function spread(points, area) {
  const knobs = points.map(({ x, y }) => ({ left: x - KNOB, right: x + KNOB, top: y - KNOB, bottom: y + KNOB }));
  const placed = [];
  return points.map(({ x, y, width }, index) => {
    const at = Math.min(area.right - width / 2, Math.max(area.left + width / 2, x));
    const boxes = OFFSETS.map((dy) => ({ dy, left: at - width / 2, right: at + width / 2, top: y + dy - LINE / 2, bottom: y + dy + LINE / 2 }));
    const inside = boxes.filter((box) => box.top >= area.top && box.bottom <= area.bottom);
    const free = (box) => !placed.some((other) => touch(box, other)) && !knobs.some((knob, other) => other !== index && touch(box, knob));
    const box = inside.find(free) ?? inside.find((one) => !placed.some((other) => touch(one, other))) ?? boxes[0];
    placed.push(box);
    return { dx: at - x, dy: box.dy, far: box.dy < ABOVE || box.dy > BELOW };
  });
}
