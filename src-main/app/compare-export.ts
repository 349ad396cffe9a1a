/** Comparisons as files: a PNG sheet, a flicker as GIF or WebP, an HTML page. Written below the second side's run. */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { writeWhole } from '../base/atomic.ts';
import { AppError } from '../base/errors.ts';
import { unwatched, type Work } from '../base/work.ts';
import type { CompareFormat, ImageRow, RequestOutput, RequestParsed } from '../contract/api.ts';
import { comparisonPage, escapeHtml } from './compare-html.ts';
import { fileInside } from './run-folders.ts';
import type { RunRecorder } from './run-recorder.ts';

type Input = RequestParsed<'compare.export'>;
interface Picture { row: ImageRow; file: Buffer }
interface Pair { a: Picture; b: Picture }

const MIME: Record<CompareFormat, string> = { png: 'image/png', gif: 'image/gif', webp: 'image/webp', html: 'text/html' };
/** Pictures in sheets are brought into boxes of this many pixels. */
const BOX_MIN = 256;
const BOX_MAX = 512;
const GAP = 8;
const LINE = 22;
/** How long a flicker shows each side, ms. */
const FRAME_MS = 700;
/** Largest file that is handed to the page as well; above, it lies in the folder only. */
const MAX_DATA = 40e6;
const BASE_INK = '#484b50';
const TUNED_INK = '#2845b4';

/** @throws AppError('not-found') for a picture whose file is gone */
export async function exportComparison(recorder: RunRecorder, input: Input, work: Work = unwatched, now = new Date()): Promise<RequestOutput<'compare.export'>> {
  const pairs = input.pairs.map(({ a, b }): Pair => ({ a: picture(recorder, a), b: picture(recorder, b) }));
  let drawn = 0;
  const total = 2 * pairs.length;
  const content = await render(input, pairs, () => work.at('drawing the pictures', drawn++, total));
  await work.at('drawing the pictures', total, total);
  const stamp = now.toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
  const path = join(recorder.runDir(pairs[0]!.b.row.runId), 'exports', `compare-${stamp}.${input.format}`);
  writeWhole(path, content);
  return { path, name: basename(path), mime: MIME[input.format], bytes: content.length, data: content.length > MAX_DATA ? '' : content.toString('base64') };
}

function picture(recorder: RunRecorder, id: number): Picture {
  const row = recorder.images.get(id);
  return { row, file: readFileSync(fileInside(recorder.runDir(row.runId), row.file)) };
}

async function render({ format, title, labelA, labelB }: Input, pairs: readonly Pair[], drawing: () => Promise<void>): Promise<Buffer> {
  if (format === 'html') {
    const url = ({ file }: Picture): string => `data:image/png;base64,${file.toString('base64')}`;
    return Buffer.from(comparisonPage(title, labelA, labelB, pairs.map(({ a, b }) => ({
      prompt: b.row.prompt, seed: b.row.seed, width: b.row.width, height: b.row.height, a: url(a), b: url(b), rewardsA: a.row.rewards, rewardsB: b.row.rewards,
    }))));
  }
  if (format === 'png') return sheet(title, pairs.map(({ a, b }) => ({ cells: [a, b], caption: captionOf(b) })), [{ text: labelA, ink: BASE_INK }, { text: labelB, ink: TUNED_INK }], drawing);
  const frame = (side: 'a' | 'b'): Promise<Buffer> => sheet(title, pairs.map((pair) => ({ cells: [pair[side]], caption: captionOf(pair.b) })), [side === 'a' ? { text: labelA, ink: BASE_INK } : { text: labelB, ink: TUNED_INK }], drawing);
  return flicker(await Promise.all([frame('a'), frame('b')]), format);
}

const captionOf = ({ row }: Picture): string => `${row.prompt} · seed ${row.seed}`;

async function flicker(frames: readonly Buffer[], format: 'gif' | 'webp'): Promise<Buffer> {
  const { default: sharp } = await import('sharp');
  const film = sharp([...frames], { join: { animated: true } });
  const timing = { delay: frames.map(() => FRAME_MS), loop: 0 };
  return format === 'gif' ? film.gif({ ...timing, dither: 0.4 }).toBuffer() : film.webp({ ...timing, quality: 92 }).toBuffer();
}

interface Block { cells: readonly Picture[]; caption: string }

/** Blocks of pictures side by side in up to three columns, each with its caption, under the labels of the sides. */
async function sheet(title: string, blocks: readonly Block[], labels: readonly { text: string; ink: string }[], drawing: () => Promise<void>): Promise<Buffer> {
  const { default: sharp } = await import('sharp');
  const { width, height } = blocks[0]!.cells[0]!.row;
  const zoom = Math.max(BOX_MIN, Math.min(BOX_MAX, width)) / width;
  const [boxW, boxH] = [Math.round(width * zoom), Math.round(height * zoom)];
  const columns = Math.min(blocks.length, blocks.length <= 3 ? 1 : blocks.length <= 8 ? 2 : 3);
  const rows = Math.ceil(blocks.length / columns);
  const blockW = labels.length * (boxW + GAP) - GAP;
  const blockH = boxH + LINE + GAP;
  const full = { width: 2 * GAP + columns * (blockW + 2 * GAP) - 2 * GAP, height: 2 * GAP + 2 * LINE + rows * blockH };
  if (full.width > 16_000 || full.height > 16_000) throw new AppError('config', `The sheet would have ${full.width} × ${full.height} pixels.`, { hint: 'Export fewer pairs at once, or the HTML page.' });
  const words: string[] = [textAt(GAP, GAP + 15, full.width - 2 * GAP, title, '#18191b', 600)];
  const pictures: { input: Buffer; left: number; top: number }[] = [];
  for (let column = 0; column < columns; column++) {
    labels.forEach(({ text, ink }, i) => words.push(textAt(GAP + column * (blockW + 2 * GAP) + i * (boxW + GAP), GAP + LINE + 15, boxW, text, ink, 600)));
  }
  for (const [at, block] of blocks.entries()) {
    const [left, top] = [GAP + (at % columns) * (blockW + 2 * GAP), GAP + 2 * LINE + Math.floor(at / columns) * blockH];
    for (const [i, cell] of block.cells.entries()) {
      await drawing();
      const input = await sharp(cell.file).resize(boxW, boxH, { fit: 'contain', background: '#dededb' }).png().toBuffer();
      pictures.push({ input, left: left + i * (boxW + GAP), top });
    }
    words.push(textAt(left, top + boxH + 15, blockW, block.caption, '#515459', 400));
  }
  const svg = Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" width="${full.width}" height="${full.height}" font-family="Inter, 'DejaVu Sans', Arial, sans-serif" font-size="13">${words.join('')}</svg>`);
  return sharp({ create: { ...full, channels: 3, background: '#f4f4f3' } }).composite([...pictures, { input: svg, left: 0, top: 0 }]).png().toBuffer();
}

/** A line of text, cut to the room it has (about 7 pixels a letter). */
function textAt(x: number, y: number, room: number, text: string, ink: string, weight: number): string {
  const most = Math.max(4, Math.floor(room / 7));
  const shown = [...text].length > most ? `${[...text].slice(0, most - 1).join('')}…` : text;
  return `<text x="${x}" y="${y}" fill="${ink}" font-weight="${weight}">${escapeHtml(shown)}</text>`;
}
