/** A comparison sheet: base pictures above tuned ones, same prompt and seed, a thin bar telling the rows apart. */
import { errorLine, AppError } from '../base/errors.ts';

export interface SheetPicture {
  /** [H,W,3] in [0,1] */
  readonly base: Float32Array;
  readonly tuned: Float32Array;
}

/** Bars beside the rows: grey for the base, the accent for tuned. */
const GREY = { r: 148, g: 152, b: 163 };
const ACCENT = { r: 99, g: 102, b: 241 };
const GAP = 6;
const BAR = 4;

/** Pixels of one cell are enlarged to about this many, by whole factors and without smoothing. */
const CELL_MIN = 128;

/** Writes the sheet as PNG, at most `columns` pairs in a band. @throws AppError('disk') */
export async function writeSheet(file: string, pictures: readonly SheetPicture[], width: number, height: number, columns = 8): Promise<void> {
  const { default: sharp } = await import('sharp');
  const factor = Math.max(1, Math.ceil(CELL_MIN / Math.max(width, height)));
  const [w, h] = [width * factor, height * factor];
  const across = Math.min(columns, pictures.length);
  const bands = Math.ceil(pictures.length / across);
  const bandHeight = 2 * h + GAP + 3 * GAP;
  const sheet = { width: BAR + GAP + across * (w + GAP) + GAP, height: bands * bandHeight + GAP };
  const cell = async (pixels: Float32Array): Promise<Buffer> =>
    sharp(Uint8Array.from(pixels, (value) => Math.round(Math.min(1, Math.max(0, value)) * 255)), { raw: { width, height, channels: 3 } })
      .resize(w, h, { kernel: 'nearest' }).png().toBuffer();
  const bar = (color: typeof GREY): Promise<Buffer> => sharp({ create: { width: BAR, height: h, channels: 3, background: color } }).png().toBuffer();
  const [grey, accent] = await Promise.all([bar(GREY), bar(ACCENT)]);
  const parts: { input: Buffer; left: number; top: number }[] = [];
  for (let band = 0; band < bands; band++) {
    const top = GAP + band * bandHeight;
    parts.push({ input: grey, left: GAP / 2, top }, { input: accent, left: GAP / 2, top: top + h + GAP });
  }
  for (const [i, { base, tuned }] of pictures.entries()) {
    const left = BAR + GAP + (i % across) * (w + GAP);
    const top = GAP + Math.floor(i / across) * bandHeight;
    parts.push({ input: await cell(base), left, top }, { input: await cell(tuned), left, top: top + h + GAP });
  }
  try {
    await sharp({ create: { ...sheet, channels: 3, background: '#ffffff' } }).composite(parts).png().toFile(file);
  } catch (cause) {
    throw new AppError('disk', `${file} could not be written: ${errorLine(cause)}.`, { cause });
  }
}
