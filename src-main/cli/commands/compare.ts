/** Base against tuned: the same prompts and seeds with both weights, as pictures, a list and one sheet. */
import { join, resolve } from 'node:path';
import { fileInside } from '../../app/run-folders.ts';
import { RunRecorder } from '../../app/run-recorder.ts';
import { writeWhole } from '../../base/atomic.ts';
import { AppError } from '../../base/errors.ts';
import { checkFolder, makeFolder } from '../../base/folder.ts';
import { configOf } from '../../history/runs.ts';
import type { Adapter } from '../../nn/lora.ts';
import { adapterHash, combineAdapters, disposeAdapter } from '../../pipeline/adapter.ts';
import { readRunLora } from '../../pipeline/lora-file.ts';
import { readPrompts } from '../../train/prompts.ts';
import { paint, pictureText, writePicture, type Painted, type SamplePoint } from '../../train/samples.ts';
import { openSession, type Session } from '../../train/session.ts';
import { parseSeeds } from '../arguments.ts';
import { commandEngine, type Command } from '../command.ts';
import { onTerminal } from '../progress.ts';
import { writeSheet } from '../sheet.ts';
import { findRun } from './history.ts';

/** Prompts that are compared where none are named. */
const PROMPTS = 8;

export interface Pair {
  readonly base: Painted;
  readonly tuned: Painted;
}

/** Paints every point with base and tuned weights. @param loraFrom the sampling step at which the adapter comes in */
export async function paintPairs(session: Session, adapter: Adapter, points: readonly SamplePoint[], loraFrom = 0): Promise<Pair[]> {
  const [base, pairs]: [Painted[], Pair[]] = [[], []];
  for await (const each of paint(session, null, points, 'painting with the base model')) base.push(each);
  for await (const tuned of paint(session, adapter, points, 'painting with the tuned weights', loraFrom)) pairs.push({ base: base[pairs.length]!, tuned });
  return pairs;
}

/** The LoRA file of a run's checkpoint, the newest where no step is named. @throws AppError('not-found') */
export function checkpointFile(recorder: RunRecorder, runId: string, step: number | undefined): { file: string; step: number } {
  const checkpoints = recorder.records.checkpoints(runId);
  const found = step === undefined ? checkpoints.at(-1) : checkpoints.find((each) => each.step === step);
  if (!found) {
    throw new AppError('not-found', `The run has no checkpoint${step === undefined ? '' : ` at step ${step}`}.`, {
      hint: checkpoints.length > 0 ? `It has: ${checkpoints.map((each) => each.step).join(', ')}.` : 'Train it first.',
    });
  }
  return { file: fileInside(recorder.runDir(runId), found.file), step: found.step };
}

export const compare: Command = {
  name: 'compare',
  usage: 'compare --run RUN --out DIR [--prompts FILE] [--seeds 0..3] [--step N] [--strength S] [--lora-from N] [--engine NAME] [--json]',
  what: 'Base and tuned pictures of the same prompts and seeds, pairs.json and compare.png. --strength is the LoRA\'s share, --lora-from the sampling step at which it comes in.',
  flags: { run: { type: 'string' }, prompts: { type: 'string' }, seeds: { type: 'string' }, step: { type: 'string' }, strength: { type: 'string' }, 'lora-from': { type: 'string' }, out: { type: 'string' }, engine: { type: 'string' } },
  async run(context) {
    const { args, home, print } = context;
    args.allowPositionals(0);
    const [text, out] = [args.need('run'), resolve(args.need('out'))];
    const seeds = args.text('seeds') === undefined ? [0, 1, 2, 3] : parseSeeds(args.text('seeds')!);
    const prompts = args.text('prompts') === undefined ? undefined : readPrompts(resolve(args.text('prompts')!), 'prompts');
    const lora = { strength: args.number('strength', { min: 0, max: 2 }) ?? 1, loraFrom: args.number('lora-from', { min: 0, whole: true }) ?? 0 };
    checkFolder(out);
    const recorder = RunRecorder.open(home);
    try {
      const run = findRun(recorder, text);
      const config = configOf(recorder.runs.get(run.id));
      const checkpoint = checkpointFile(recorder, run.id, args.number('step', { min: 0, whole: true }));
      const engine = await commandEngine(context, config.engine);
      const { session, adapter, pairs } = await onTerminal(context, async (work) => {
        const session = await openSession(config, { engine, home, work });
        const own = readRunLora(checkpoint.file, session.pipeline.loraModules());
        const adapter = combineAdapters([{ adapter: own, strength: lora.strength }]);
        disposeAdapter(own);
        const known = [...session.heldOutPrompts, ...session.prompts].slice(0, PROMPTS);
        const points = (prompts ?? known).flatMap((prompt, promptIndex) => seeds.map((seed) => ({ prompt, promptIndex, seed, heldOut: !session.prompts.includes(prompt) })));
        return { session, adapter, pairs: await paintPairs(session, adapter, points, lora.loraFrom) };
      });
      makeFolder(out);
      const weights = adapterHash(adapter).slice(0, 16);
      const list = await writePairs(session, out, pairs, weights);
      const report = { run: run.id, step: checkpoint.step, ...lora, weights, pairs: list };
      writeWhole(join(out, 'pairs.json'), `${JSON.stringify(report, null, 1)}\n`);
      await writeSheet(join(out, 'compare.png'), pairs.map(({ base, tuned }) => ({ base: base.pixels, tuned: tuned.pixels })), session.width, session.height);
      if (args.json) print(JSON.stringify({ out, ...report }));
      else print(`${pairs.length} pairs in ${out}, the sheet is ${join(out, 'compare.png')}`);
      session.dispose();
      return 0;
    } finally {
      recorder.close();
    }
  },
};

async function writePairs({ width, height }: Session, out: string, pairs: readonly Pair[], weights: string): Promise<object[]> {
  const list: object[] = [];
  for (const { base, tuned } of pairs) {
    const name = `${String(base.promptIndex).padStart(3, '0')}-seed-${base.seed}`;
    const files = { base: `${name}-base.png`, tuned: `${name}-tuned.png` };
    await writePicture(join(out, files.base), base.pixels, width, height, pictureText(base, 'base'));
    await writePicture(join(out, files.tuned), tuned.pixels, width, height, pictureText(tuned, weights));
    list.push({ prompt: base.prompt, seed: base.seed, ...files, rewards: { base: base.rewards, tuned: tuned.rewards } });
  }
  return list;
}
