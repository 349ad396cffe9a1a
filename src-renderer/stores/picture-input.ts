/** Pictures that the user gives to a form: small copies that go with the settings, and their main colours. */

/** Longer side of a copy: rewards that compare with a picture look at 32 points of it. */
const LONGEST = 256;

/** A file as a canvas, its longer side at most `longest`, transparency on white. @throws where the browser cannot read it */
async function drawn(file: Blob, longest: number): Promise<HTMLCanvasElement> {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, longest / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [Math.max(1, Math.round(bitmap.width * scale)), Math.max(1, Math.round(bitmap.height * scale))];
  const context = canvas.getContext('2d', { willReadFrequently: true })!;
  context.fillStyle = '#ffffff';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas;
}

/** A copy of a picture file as a data: URL. */
export async function inlinePicture(file: Blob): Promise<string> {
  return (await drawn(file, LONGEST)).toDataURL('image/webp', 0.92);
}

/** The main colours of a picture file, "#rrggbb", the most frequent first. */
export async function paletteOf(file: Blob, most = 5): Promise<string[]> {
  const canvas = await drawn(file, 96);
  return mainColors(canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height).data, most);
}

/** Colours nearer to each other than this in RGB, of 442, count as one. */
const NEAR = 56;

/** @param rgba four bytes a pixel */
export function mainColors(rgba: Uint8ClampedArray, most: number): string[] {
  const cells = new Map<number, { n: number; sum: [number, number, number] }>();
  for (let at = 0; at < rgba.length; at += 4) {
    const [r, g, b] = [rgba[at]!, rgba[at + 1]!, rgba[at + 2]!];
    const key = ((r >> 5) << 6) | ((g >> 5) << 3) | (b >> 5);
    const cell = cells.get(key) ?? { n: 0, sum: [0, 0, 0] };
    cells.set(key, { n: cell.n + 1, sum: [cell.sum[0] + r, cell.sum[1] + g, cell.sum[2] + b] });
  }
  const found: number[][] = [];
  for (const { n, sum } of [...cells.values()].sort((a, b) => b.n - a.n)) {
    const color = sum.map((each) => Math.round(each / n));
    if (found.length < most && found.every((other) => Math.hypot(...other.map((v, k) => v - color[k]!)) >= NEAR)) found.push(color);
  }
  return found.map((color) => `#${color.map((v) => v.toString(16).padStart(2, '0')).join('')}`);
}
