/**
 * `npm run study [-- --seconds 20 --seeds 3 --rewards symmetry,compressibility,clipscore --algorithms ... --out FOLDER]`: DRTune and its neighbours
 * on the starter at equal compute, scored on prompts and seeds none of them was tuned on. What is equal is the processor's time (all
 * threads, divided by the cores): the clock on the wall would let other work on the machine decide who wins. A cell of the study is one
 * reward, algorithm and seed; one that fails is told and left out, one that hangs ends the study, and a study begun again goes on with what is
 * missing. At its end words, table and pictures are in FOLDER/table.md; those of resources/study in the README, between its marks.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { writeWhole } from '../../src-main/base/atomic.ts';
import { errorLine } from '../../src-main/base/errors.ts';
import { drtuneHome } from '../../src-main/base/paths.ts';
import type { PictureMeasures } from '../../src-main/contract/events.ts';
import { runConfigSchema, type RunConfig, type RunConfigInput } from '../../src-main/contract/run.ts';
import { openEngine } from '../../src-main/engine/select.ts';
import type { Adapter } from '../../src-main/nn/lora.ts';
import type { TrainerState } from '../../src-main/train/checkpoint.ts';
import { iterate } from '../../src-main/train/iteration.ts';
import { openOptimizer } from '../../src-main/train/optimizers/index.ts';
import { measuresOf, paint, writePicture, type Painted, type SamplePoint } from '../../src-main/train/samples.ts';
import { openSession, startAdapter, type Session } from '../../src-main/train/session.ts';
import { TrainableLora } from '../../src-main/train/trainable-lora.ts';

const root = join(import.meta.dirname, '../..');
const { values: flags } = parseArgs({
  options: {
    seconds: { type: 'string', default: '20' }, seeds: { type: 'string', default: '3' }, out: { type: 'string', default: 'study' },
    rewards: { type: 'string', default: 'symmetry,compressibility,clipscore' }, algorithms: { type: 'string', default: 'drtune,refl,draft-k,draft-lv,alignprop' },
  },
});
const budget = Number(flags.seconds);
const seeds = Number(flags.seeds);
if (!(budget > 0) || !(Number.isSafeInteger(seeds) && seeds > 0)) throw new Error(`--seconds is ${flags.seconds} and --seeds ${flags.seeds}; both are numbers above 0, seeds a whole one.`);
const [rewards, names] = [flags.rewards.split(','), flags.algorithms.split(',')];
const starter = JSON.parse(readFileSync(join(root, 'resources/starter/prompts.json'), 'utf8')) as { train: string[]; heldOut: string[] };
const prompts = starter.train;
/** Each of the starter's own held-out subjects once, rendered and flat by turns: nothing of them was trained on, by it or here. */
const heldOut = starter.heldOut.filter((_, i) => i % 4 === 0 || i % 4 === 3);

/** Each algorithm's own step choice as its paper has it, in shares of T; everything else is the same for all. */
const T = 12;
const algorithms: Record<string, Partial<RunConfigInput>> = {
  drtune: { trainedSteps: 3, earlyStop: Math.round(0.4 * T) }, // K = 3, m = 0.4 T
  refl: { earlyStop: T / 4 }, // one of the last 10 of 40
  'draft-k': { trainedSteps: 1 },
  'draft-lv': { renoise: 2 },
  alignprop: {}, // the last randint(1, T)
};
const unknown = names.find((name) => !(name in algorithms));
if (unknown !== undefined) throw new Error(`There is no algorithm ${unknown} in the study; there are ${Object.keys(algorithms).join(', ')}.`);

/** The prompts of the pictures shown, one noise seed a prompt, the same for every cell. */
const points: SamplePoint[] = heldOut.map((prompt, i) => ({ prompt, promptIndex: i, heldOut: true, seed: 1000 + i }));
const SHOWN = [0, 3, 5, 6, 9, 11, 13, 15];
/** Iterations of a LoRA that is thrown away, until the engine has seen every shape. */
const WARM_UP = 2;

interface Cell { reward: string; algorithm: string; seed: number; iterations: number; seconds: number; skipped: number; tuned: PictureMeasures }
interface Study { setting: object; base: Record<string, PictureMeasures>; cells: Cell[] }

function configOf(reward: string, algorithm: string, seed: number): RunConfig {
  return runConfigSchema.parse({
    model: 'starter', prompts, scheduler: 'ddim', steps: T, guidance: 5, batch: 4, seed, algorithm, ...algorithms[algorithm], rewards: [{ name: reward }],
    heldOutRewards: ['symmetry', 'compressibility', 'clipscore'].filter((name) => name !== reward).map((name) => ({ name })), lora: { rank: 8 }, optimizer: { lr: 1e-3 },
  });
}

/** Seconds of all threads, divided by the cores. */
function processorSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6 / availableParallelism();
}

function beginning(session: Session): { lora: TrainableLora; once(): TrainerState } {
  const lora = new TrainableLora(startAdapter(session));
  const optimizer = openOptimizer(session.config.optimizer, lora.shapes);
  const state: TrainerState = {
    step: 0, values: lora.values, optimizer: optimizer.start(lora.values), average: null, averageUpdates: 0, skippedInARow: 0, skipped: 0, alarmsOn: new Set(),
    baseline: { heldOut: null, trained: null }, points: [], recent: [], samplesDue: false,
  };
  return { lora, once: () => (iterate(session, lora, optimizer, state), state) };
}

/** Paints the held-out prompts, keeps the pictures that are shown (none without a folder) and measures all. */
async function look(session: Session, adapter: Adapter | null, folder: string | null): Promise<PictureMeasures> {
  const painted: Painted[] = [];
  for await (const each of paint(session, adapter, points)) painted.push(each);
  if (folder) for (const i of SHOWN) await writePicture(join(folder, `${String(i).padStart(2, '0')}.png`), painted[i]!.pixels, session.width, session.height);
  return measuresOf(painted, session.width, session.height)!;
}

const folderOf = (reward: string, name: string): string => join(flags.out, 'pictures', reward, name);

async function measure(study: Study, reward: string, algorithm: string, seed: number): Promise<Cell> {
  const session = await openSession(configOf(reward, algorithm, seed), { engine, home: drtuneHome() });
  try {
    study.base[reward] ??= await look(session, null, folderOf(reward, 'base'));
    const warm = beginning(session);
    for (let i = 0; i < WARM_UP; i++) warm.once();
    warm.lora.dispose();
    const { lora, once } = beginning(session);
    const from = processorSeconds();
    let state: TrainerState;
    do state = once(); while (processorSeconds() - from < budget);
    const seconds = processorSeconds() - from;
    const tuned = await look(session, lora.adapter, seed === 0 ? folderOf(reward, `${algorithm}-0`) : null);
    lora.dispose();
    return { reward, algorithm, seed, iterations: state.step, seconds: Number(seconds.toFixed(2)), skipped: state.skipped, tuned };
  } finally {
    session.dispose();
  }
}

/** Mean ± standard deviation over the seeds. */
function meanAndSpread(list: readonly number[], digits = 3): string {
  const mean = list.reduce((sum, value) => sum + value, 0) / list.length;
  if (list.length < 2) return mean.toFixed(digits);
  return `${mean.toFixed(digits)} ± ${Math.sqrt(list.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (list.length - 1)).toFixed(digits)}`;
}

const TITLES: Readonly<Record<string, string>> = { symmetry: 'symmetry', compressibility: 'compressibility, bits per pixel', clipscore: 'CLIPScore' };
const LOW_LEVEL = ['symmetry', 'compressibility'];

/** Rows of the base and of each algorithm; every figure is of the held-out pictures. */
function table({ base, cells }: Study): string {
  const lines = ['| tuned for | by | seeds | iterations | that reward | CLIPScore | edge density | contrast | saturation |', '|---|---|---|---|---|---|---|---|---|'];
  const figures: readonly ((of: PictureMeasures) => number)[] = [(of) => of.rewards['clipscore']!, (of) => of.edgeDensity, (of) => of.contrast, (of) => of.saturation];
  for (const reward of rewards.filter((each) => each in base)) {
    const columns = [(of: PictureMeasures) => of.rewards[reward]!, ...figures];
    lines.push(`| ${TITLES[reward] ?? reward} | base model | | | ${columns.map((figure) => figure(base[reward]!).toFixed(3)).join(' | ')} |`);
    for (const algorithm of names) {
      const own = cellsOf(cells, reward, algorithm);
      if (own.length === 0) continue;
      const measured = columns.map((figure) => meanAndSpread(own.map((each) => figure(each.tuned))));
      lines.push(`| | ${algorithm} | ${own.length} | ${own.map((each) => each.iterations).join(', ')} | ${measured.join(' | ')} |`);
    }
  }
  return lines.join('\n');
}

function cellsOf(cells: readonly Cell[], reward: string, algorithm: string): Cell[] {
  return cells.filter((each) => each.reward === reward && each.algorithm === algorithm && each.seed < seeds).sort((a, b) => a.seed - b.seed);
}

/** Algorithms by their mean over seeds, best first. */
function ranking({ cells }: Study, reward: string): { algorithm: string; mean: number }[] {
  const means = names.flatMap((algorithm) => {
    const values = cellsOf(cells, reward, algorithm).map((each) => each.tuned.rewards[reward]!);
    return values.length === 0 ? [] : [{ algorithm, mean: values.reduce((sum, value) => sum + value, 0) / values.length }];
  });
  return means.sort((a, b) => b.mean - a.mean);
}

/** What the means say of the paper's claim, in words that hold whatever they are. */
function findings(study: Study): string {
  const measured = rewards.filter((reward) => reward in study.base);
  const rows = measured.map((reward) => `${reward}: ${ranking(study, reward).map(({ algorithm, mean }) => `${algorithm} ${mean.toFixed(3)}`).join(', ')} (base ${study.base[reward]!.rewards[reward]!.toFixed(3)})`);
  const places = measured.filter((reward) => LOW_LEVEL.includes(reward)).flatMap((reward) => {
    const order = ranking(study, reward);
    const at = order.findIndex(({ algorithm }) => algorithm === 'drtune');
    return at < 0 ? [] : [{ reward, at: at + 1, of: order.length }];
  });
  const first = places.filter(({ at }) => at === 1).length;
  const seen = first === 0 ? 'is **not** seen here' : first === places.length ? 'is seen here' : 'is seen here in part';
  const claim = places.length === 0 ? '' : ` The paper's claim, that DRTune wins on low-level rewards, ${seen}: by its mean it is ${places.map(({ reward, at, of }) => `number ${at} of ${of} on ${reward}`).join(' and ')}.`;
  return `Best first, by the mean: ${rows.join('; ')}.${claim}`;
}

/** All of the README that changes with the figures. @param folder of the pictures, as the text names it */
function section(study: Study, folder: string): string {
  const whole = Array.from({ length: seeds }, (_, seed) => rewards.every((reward) => names.every((name) => study.cells.some((each) => each.seed === seed && each.reward === reward && each.algorithm === name)))).filter(Boolean).length;
  const pictures = rewards.filter((reward) => existsSync(join(flags.out, `${reward}.jpg`))).map((reward) => `![tuned for ${reward}](${folder}${reward}.jpg)`);
  return [
    `Mean ± standard deviation over seeds (${whole} of them whole), higher is better.`, table(study), findings(study), `Rows as in the table, first seed:`, pictures.join('\n'),
  ].join('\n\n');
}

/** Where the README takes the section. */
const MARKS = ['<!-- study: written by npm run study -->', '<!-- study: end -->'] as const;

function writeSection(study: Study): void {
  if (resolve(flags.out) !== join(root, 'resources/study')) return writeWhole(join(flags.out, 'table.md'), `${section(study, '')}\n`);
  const file = join(root, 'README.md');
  const text = readFileSync(file, 'utf8');
  const [from, to] = MARKS.map((mark) => text.indexOf(mark)) as [number, number];
  if (from < 0 || to < from) throw new Error(`README.md has lost its marks ${MARKS.join(' and ')}; put them back around the study's table.`);
  writeWhole(file, `${text.slice(0, from + MARKS[0].length)}\n${section(study, 'resources/study/')}\n${text.slice(to)}`);
}

/** One row the base model and one an algorithm (its first seed), one column a prompt; once all are there. */
async function strip(reward: string): Promise<void> {
  const { default: sharp } = await import('sharp');
  const rows = ['base', ...names.map((name) => `${name}-0`)].map((name) => folderOf(reward, name)).filter((folder) => existsSync(folder));
  if (rows.length <= names.length) return; // pictures of cells that ran elsewhere
  const [cell, gap, label] = [96, 4, 84];
  const parts: { input: Buffer; left: number; top: number }[] = [];
  for (const [y, folder] of rows.entries()) {
    const top = gap + y * (cell + gap);
    const words = folder.split(/[\\/]/).at(-1)!.replace(/-0$/, '');
    const text = `<svg width="${label}" height="${cell}"><text x="4" y="${cell / 2 + 4}" font-family="sans-serif" font-size="13" fill="${words === 'base' ? '#6b7280' : '#111827'}">${words}</text></svg>`;
    parts.push({ input: Buffer.from(text), left: 0, top });
    for (const [x, file] of readdirSync(folder).sort().entries()) {
      parts.push({ input: await sharp(join(folder, file)).resize(cell, cell).png().toBuffer(), left: label + x * (cell + gap), top });
    }
  }
  const size = { width: label + SHOWN.length * (cell + gap), height: gap + rows.length * (cell + gap) };
  writeWhole(join(flags.out, `${reward}.jpg`), await sharp({ create: { ...size, channels: 3, background: '#ffffff' } }).composite(parts).jpeg({ quality: 82, chromaSubsampling: '4:4:4' }).toBuffer());
}

/** Whether all that the old settings name is still so; a switch that is new since then is off. */
function same(before: unknown, now: unknown): boolean {
  if (typeof before !== 'object' || before === null) return before === now;
  return typeof now === 'object' && now !== null && Object.entries(before).every(([key, value]) => same(value, (now as Record<string, unknown>)[key]));
}

/** Ends the process where a cell hangs, even inside the engine, where no timer of this thread would run. Told of every cell's begin. */
function watch(): (cell: string) => void {
  const limit = 1_800_000 + 60_000 * budget;
  const guard = new Worker(`
    const { parentPort, workerData: { limit } } = require('node:worker_threads');
    let timer;
    parentPort.on('message', (cell) => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        require('node:fs').writeSync(2, cell + ' took more than ' + Math.round(limit / 60000) + ' minutes and was ended; what was measured is kept, the same command goes on.\\n');
        process.kill(process.pid, 'SIGKILL');
      }, limit);
    });`, { eval: true, workerData: { limit } });
  guard.unref();
  return (cell) => guard.postMessage(cell);
}

const engine = await openEngine({ prefer: 'auto', home: drtuneHome() });
mkdirSync(flags.out, { recursive: true });
const file = join(flags.out, 'study.json');
const { model: _, prompts: __, seed: ___, rewards: ____, heldOutRewards: _____, algorithm: ______, ...common } = configOf(rewards[0]!, 'draft-k', 0);
const setting = { seconds: budget, cores: availableParallelism(), engine: `${engine.name} ${engine.version}`, device: engine.device, heldOut: heldOut.length, common, algorithms };
const before = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Study) : null;
if (before && !same(before.setting, setting)) throw new Error(`${file} is a study with other settings; name another folder with --out.`);
const study: Study = before ?? { setting, base: {}, cells: [] };
const began = watch();
let failed = 0;
for (let seed = 0; seed < seeds; seed++) {
  for (const reward of rewards) {
    for (const algorithm of names) {
      if (study.cells.some((each) => each.reward === reward && each.algorithm === algorithm && each.seed === seed)) continue;
      began(`${reward}, ${algorithm}, seed ${seed}`);
      try {
        const cell = await measure(study, reward, algorithm, seed);
        study.cells.push(cell);
        process.stderr.write(`${reward}, ${algorithm}, seed ${seed}: ${study.base[reward]!.rewards[reward]!.toFixed(3)} -> ${cell.tuned.rewards[reward]!.toFixed(3)} in ${cell.iterations} iterations\n`);
      } catch (error) {
        failed += 1;
        process.stderr.write(`${reward}, ${algorithm}, seed ${seed} failed: ${errorLine(error)}\n`);
      }
      writeWhole(file, `${JSON.stringify(study, null, 1)}\n`);
    }
    await strip(reward);
  }
}
writeSection(study);
if (failed === 0) rmSync(join(flags.out, 'pictures'), { recursive: true, force: true }); // they are in the strips
process.stdout.write(`${table(study)}\n`);
if (failed > 0) process.stderr.write(`${failed} cells failed; the same command tries them again.\n`);
process.exit(failed > 0 ? 1 : 0);
