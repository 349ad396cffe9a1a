/**
 * Example pictures of the rewards that need no download: of the starter's samples, the one each reward likes least and the one it likes most.
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
const SETTINGS: Readonly<Record<string, object>> = { palette: { palette: ['#1a5fd0', '#ffffff', '#ff8c1a'] } };

const cells = await Promise.all(Array.from({ length: COLUMNS * ROWS }, (_, i) =>
  sharp(SHEET).extract({ left: (i % COLUMNS) * STEP, top: Math.floor(i / COLUMNS) * STEP, width: CELL, height: CELL }).png().toBuffer()));
const engine = await openEngine({ prefer: 'wasm', home: '' });
const reference = join(import.meta.dirname, 'reference.webp');
await sharp(cells[25]).resize(96, 96).webp({ quality: 80 }).toFile(reference);
for (const { name, usesPrompt, needsModel, examplePrompt: prompt = '' } of REWARDS) {
  if ((usesPrompt && prompt === '') || needsModel) continue;
  const reward = await openReward(engine, { name, ...(name === 'reference' ? { reference } : SETTINGS[name]) });
  const values: number[] = [];
  for (const cell of cells) {
    const picture = await readPicture(cell);
    values.push((await scorePicture(reward, picture, prompt, 'cell')).value);
    picture.dispose();
  }
  reward.dispose();
  for (const [end, value] of [['low', Math.min(...values)], ['high', Math.max(...values)]] as const) {
    const file = join(import.meta.dirname, `${name}-${end}.webp`);
    await sharp(cells[values.indexOf(value)]).resize(96, 96).webp({ quality: 80 }).toFile(file);
    process.stdout.write(`${name} ${end} ${value.toFixed(4)} ${statSync(file).size} bytes\n`);
  }
}
await exitProcess(0);
