/**
 * Example pictures of the rewards that need no download: of the starter's samples, the one each reward likes least and the one it likes most; of
 * the others, two that were chosen by hand to show what they look for, and that the pages say were not scored.
 * Writes NAME-low.webp and NAME-high.webp beside this file. usage: node resources/rewards/make-examples.ts
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { openEngine } from '../../src-main/engine/select.ts';
import { exitProcess } from '../../src-main/engine/exit.ts';
import { readPicture } from '../../src-main/pipeline/read-picture.ts';
import { openReward, REWARDS } from '../../src-main/rewards/index.ts';
import { scorePicture } from '../../src-main/rewards/score-pictures.ts';

const SHEET = join(import.meta.dirname, '../starter/samples.png');
/** Cells of the sheet: 12 x 4 of 128 pixels, 4 apart. */
const [COLUMNS, ROWS, CELL, STEP] = [12, 4, 128, 132];
/** Cells that fall short and that do well by the words of a reward whose model is a download: smeared or clear, lost in its background or not. */
const BY_HAND: Readonly<Record<string, readonly [low: number, high: number]>> = { 'hpsv2.1': [8, 32], pickscore: [2, 26], imagereward: [1, 25], aesthetic: [22, 30], objectness: [24, 41] };
const SETTINGS: Readonly<Record<string, object>> = { palette: { palette: ['#1a5fd0', '#ffffff', '#ff8c1a'] } };

const cells = await Promise.all(Array.from({ length: COLUMNS * ROWS }, (_, i) =>
  sharp(SHEET).extract({ left: (i % COLUMNS) * STEP, top: Math.floor(i / COLUMNS) * STEP, width: CELL, height: CELL }).png().toBuffer()));
const engine = await openEngine({ prefer: 'wasm', home: '' });
const reference = join(import.meta.dirname, 'reference.webp');
await sharp(cells[25]).resize(96, 96).webp({ quality: 80 }).toFile(reference);
async function write(name: string, end: 'low' | 'high', cell: number, words: string): Promise<void> {
  const file = join(import.meta.dirname, `${name}-${end}.webp`);
  await sharp(cells[cell]).resize(96, 96).webp({ quality: 80 }).toFile(file);
  process.stdout.write(`${name} ${end} ${words} ${statSync(file).size} bytes\n`);
}

for (const { name, usesPrompt, needsModel, examplePrompt: prompt = '' } of REWARDS) {
  if (needsModel) {
    const [low, high] = BY_HAND[name]!;
    await write(name, 'low', low, 'by hand');
    await write(name, 'high', high, 'by hand');
    continue;
  }
  if (usesPrompt && prompt === '') continue;
  const reward = await openReward(engine, { name, ...(name === 'reference' ? { reference } : SETTINGS[name]) });
  const values: number[] = [];
  for (const cell of cells) {
    const picture = await readPicture(cell);
    values.push((await scorePicture(reward, picture, prompt, 'cell')).value);
    picture.dispose();
  }
  reward.dispose();
  for (const [end, value] of [['low', Math.min(...values)], ['high', Math.max(...values)]] as const) await write(name, end, values.indexOf(value), value.toFixed(4));
}
await exitProcess(0);
