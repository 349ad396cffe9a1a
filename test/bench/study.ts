/**
 * `npm run study [-- --seconds 10 --seeds 3 --rewards symmetry,compressibility,clipscore --algorithms ... --out FOLDER]`: DRTune and its neighbours
 * on the starter at equal compute, scored on prompts and seeds none of them was tuned on. What is equal is the processor's time (all
 * threads, divided by the cores): the clock on the wall would let other work on the machine decide who wins. A cell of the study is one
 * reward, algorithm and seed; one that fails is told and left out, and a study begun again goes on with what is missing.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
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
    seconds: { type: 'string', default: '10' }, seeds: { type: 'string', default: '3' }, out: { type: 'string', default: 'study' },
    rewards: { type: 'string', default: 'symmetry,compressibility,clipscore' }, algorithms: { type: 'string', default: 'drtune,refl,draft-k,draft-lv,alignprop' },
  },
});
const budget = Number(flags.seconds);
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

/** Paints the held-out prompts, keeps the pictures that are shown and measures all. */
async function look(session: Session, adapter: Adapter | null, folder: string): Promise<PictureMeasures> {
  const painted: Painted[] = [];
  for await (const each of paint(session, adapter, points)) painted.push(each);
  for (const i of SHOWN) await writePicture(join(folder, `${String(i).padStart(2, '0')}.png`), painted[i]!.pixels, session.width, session.height);
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
    const tuned = await look(session, lora.adapter, folderOf(reward, `${algorithm}-${seed}`));
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

function table({ base, cells }: Study): string {
  const lines = ['| tuned for | by | iterations | symmetry | compressibility | CLIPScore | edge density |', '|---|---|---|---|---|---|---|'];
  const columns = ['symmetry', 'compressibility', 'clipscore'];
  for (const reward of rewards.filter((each) => each in base)) {
    const of = base[reward]!;
    lines.push(`| ${reward} | (base) | | ${columns.map((name) => of.rewards[name]!.toFixed(3)).join(' | ')} | ${of.edgeDensity.toFixed(3)} |`);
    for (const algorithm of names) {
      const own = cells.filter((each) => each.reward === reward && each.algorithm === algorithm);
      if (own.length === 0) continue;
      const scores = columns.map((name) => {
        const text = meanAndSpread(own.map((each) => each.tuned.rewards[name]!));
        return name === reward ? `**${text}**` : text;
      });
      lines.push(`| ${reward} | ${algorithm} | ${meanAndSpread(own.map((each) => each.iterations), 0)} | ${scores.join(' | ')} | ${meanAndSpread(own.map((each) => each.tuned.edgeDensity))} |`);
    }
  }
  return lines.join('\n');
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

const engine = await openEngine({ prefer: 'auto', home: drtuneHome() });
mkdirSync(flags.out, { recursive: true });
const file = join(flags.out, 'study.json');
const { model: _, prompts: __, seed: ___, rewards: ____, heldOutRewards: _____, algorithm: ______, ...common } = configOf(rewards[0]!, 'draft-k', 0);
const setting = { seconds: budget, cores: availableParallelism(), engine: `${engine.name} ${engine.version}`, device: engine.device, heldOut: heldOut.length, common, algorithms };
const before = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Study) : null;
if (before && JSON.stringify(before.setting) !== JSON.stringify(setting)) throw new Error(`${file} is a study with other settings; name another folder with --out.`);
const study: Study = before ?? { setting, base: {}, cells: [] };
let failed = 0;
for (let seed = 0; seed < Number(flags.seeds); seed++) {
  for (const reward of rewards) {
    for (const algorithm of names) {
      if (study.cells.some((each) => each.reward === reward && each.algorithm === algorithm && each.seed === seed)) continue;
      try {
        const cell = await measure(study, reward, algorithm, seed);
        study.cells.push(cell);
        process.stderr.write(`${reward}, ${algorithm}, seed ${seed}: ${study.base[reward]!.rewards[reward]!.toFixed(3)} -> ${cell.tuned.rewards[reward]!.toFixed(3)} in ${cell.iterations} iterations\n`);
      } catch (error) {
        failed += 1;
        process.stderr.write(`${reward}, ${algorithm}, seed ${seed} failed: ${errorLine(error)}\n`);
      }
      writeWhole(file, `${JSON.stringify(study, null, 1)}\n`);
      writeWhole(join(flags.out, 'table.md'), `${table(study)}\n`);
    }
    await strip(reward);
  }
}
process.stdout.write(`${table(study)}\n`);
if (failed > 0) process.stderr.write(`${failed} cells failed; the same command tries them again.\n`);
process.exit(failed > 0 ? 1 : 0);
