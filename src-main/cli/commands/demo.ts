/**
 * The demo: tunes the starter for symmetry by the preset "demo" and shows base against tuned on prompts and seeds that were not
 * trained on. Everything that decides the outcome is in the preset; nothing depends on how fast the machine is.
 */
import { join, resolve } from 'node:path';
import { RunRecorder } from '../../app/run-recorder.ts';
import { appVersion } from '../../app/version.ts';
import type { TrainerEventOf } from '../../contract/events.ts';
import type { RunConfig } from '../../contract/run.ts';
import type { Engine } from '../../engine/engine.ts';
import { adapterHash } from '../../pipeline/adapter.ts';
import { readRunLora } from '../../pipeline/lora-file.ts';
import { readJson } from '../../models/config.ts';
import { CONTRAST_FLOOR } from '../../rewards/symmetry.ts';
import { measuresOf, type SamplePoint } from '../../train/samples.ts';
import { checkRun, openSession, type Session } from '../../train/session.ts';
import { writeWhole } from '../../base/atomic.ts';
import { AppError } from '../../base/errors.ts';
import { checkFolder, makeFolder } from '../../base/folder.ts';
import { applySet, checkConfig, findPreset } from '../config-file.ts';
import { commandEngine, type Command, type CommandContext } from '../command.ts';
import { clock, onTerminal, progressPrinter } from '../progress.ts';
import { runTraining } from '../run-training.ts';
import { writeSheet } from '../sheet.ts';
import { checkpointFile, paintPairs, type Pair } from './compare.ts';

/** Held-out prompts that are compared, each with a seed of its own, far from those of the samples. */
const COMPARED = 32;
const FIRST_SEED = 1000;
/** Held-out captions of things that no preset trains on; the rest of the demo's held-out prompts are new settings of known things. */
const UNSEEN_THINGS = join(import.meta.dirname, '../../../resources/starter/prompts.json');
/** Pairs on the sheet. */
const SHOWN = 16;

/** What the demo is to reach on the held-out pictures, as parts of the base's figures. */
const BAR = { relativeDistance: 0.6, clipScore: 0.9, edges: 0.7 } as const;

interface Figure {
  readonly name: string;
  readonly before: number;
  readonly after: number;
  /** Most or least of after / before; null where there is no bar. */
  readonly bar: { readonly most?: number; readonly least?: number } | null;
}

export const demo: Command = {
  name: 'demo',
  usage: 'demo [--out DIR] [--set key=value]... [--engine NAME] [--json]',
  what: 'Tunes the starter for symmetry in three to four minutes and compares before with after.',
  flags: { out: { type: 'string' }, set: { type: 'string', multiple: true }, engine: { type: 'string' } },
  async run(context) {
    const { args, home, print, note } = context;
    args.allowPositionals(0);
    const out = resolve(args.text('out') ?? 'demo');
    const raw = structuredClone(findPreset('demo').config) as Record<string, unknown>;
    for (const assignment of args.texts('set')) applySet(raw, assignment);
    const config = checkConfig(raw);
    checkRun(config, home);
    checkFolder(out);
    const engine = await commandEngine(context, config.engine);
    note(`Tuning the starter (${config.iterations} iterations) on ${engine.name} ${engine.version}, ${engine.device}.`);
    if (engine.name === 'wasm') note('This engine is the slow one: expect about seven minutes on two cores instead of two. Ctrl-C ends it with a checkpoint.');
    context.showNotes();
    const recorder = RunRecorder.open(home);
    try {
      const runId = recorder.createRun({ name: 'demo', config });
      const progress = progressPrinter(process.stderr);
      const heard = args.json ? (event: object) => print(JSON.stringify(event)) : progress;
      const end = await runTraining({ recorder, runId, config, engine, home, resume: false, heard });
      if (end.reason !== 'completed') throw new AppError('run', `The demo ${end.reason === 'stopped' ? 'was stopped' : 'failed'}${end.message ? `: ${end.message}` : '.'}`, { hint: end.hint });
      await report(context, { recorder, runId, config, engine, out, end });
      return 0;
    } finally {
      recorder.close();
    }
  },
};

interface Done {
  readonly recorder: RunRecorder;
  readonly runId: string;
  readonly config: RunConfig;
  readonly engine: Engine;
  readonly out: string;
  readonly end: TrainerEventOf<'finished'>;
}

/** Paints held-out prompts with both weights, the tuned ones read back from the checkpoint; writes sheet and figures. */
async function report(context: CommandContext, { recorder, runId, config, engine, out, end }: Done): Promise<void> {
  const { args, home, note, print } = context;
  const begun = performance.now();
  const { session, adapter, pairs } = await onTerminal(context, async (work) => {
    const session = await openSession(config, { engine, home, work });
    const adapter = readRunLora(checkpointFile(recorder, runId, undefined).file, session.pipeline.loraModules());
    const points: SamplePoint[] = session.heldOutPrompts.slice(0, COMPARED).map((prompt, i) => ({ prompt, promptIndex: i, heldOut: true, seed: FIRST_SEED + i }));
    note(`Painting ${points.length} held-out prompts with base and tuned weights ...`);
    return { session, adapter, pairs: await paintPairs(session, adapter, points) };
  });
  const groups = groupsOf(pairs).map(({ what, pairs: own }) => ({ what, pairs: own, figures: figuresOf(session, own) }));
  const met = groups[0]!.figures.every(meetsBar);
  makeFolder(out);
  const sheet = join(out, 'compare.png');
  const shown = groups.flatMap((group) => group.pairs.slice(0, SHOWN / groups.length));
  await writeSheet(sheet, shown.map(({ base, tuned }) => ({ base: base.pixels, tuned: tuned.pixels })), session.width, session.height);
  const seconds = { training: end.seconds, comparing: (performance.now() - begun) / 1000 };
  const run = {
    app: appVersion(), run: runId, folder: recorder.runDir(runId), engine: { name: engine.name, version: engine.version, device: engine.device, why: engine.why }, config,
    weights: adapterHash(adapter).slice(0, 16), seconds, met,
    figures: withRatios(groups[0]!.figures), groups: groups.map(({ what, figures, pairs: own }) => ({ what, pictures: own.length, figures: withRatios(figures) })),
    pairs: pairs.map(({ base, tuned }) => ({ prompt: base.prompt, seed: base.seed, rewards: { base: base.rewards, tuned: tuned.rewards } })),
  };
  writeWhole(join(out, 'run.json'), `${JSON.stringify(run, null, 1)}\n`);
  session.dispose();
  if (args.json) print(JSON.stringify({ type: 'demo', out, run: runId, met, figures: run.figures, groups: run.groups, seconds }));
  else printReport(context, groups, met, { out, runId, seconds: seconds.training + seconds.comparing });
}

interface Group {
  readonly what: string;
  readonly pairs: readonly Pair[];
  readonly figures: readonly Figure[];
}

/** Known things in new settings, which the bar is for, and things that were never tuned on: how far what was learnt carries. */
function groupsOf(pairs: readonly Pair[]): Omit<Group, 'figures'>[] {
  const unseen = new Set((readJson(UNSEEN_THINGS) as { heldOut: string[] }).heldOut);
  const groups = [
    { what: 'new prompts and seeds of things it was tuned on', pairs: pairs.filter(({ base }) => !unseen.has(base.prompt)) },
    { what: 'things it was never tuned on', pairs: pairs.filter(({ base }) => unseen.has(base.prompt)) },
  ];
  return groups.filter((group) => group.pairs.length > 0);
}

const withRatios = (figures: readonly Figure[]) => figures.map((each) => ({ ...each, ratio: each.after / each.before }));

function figuresOf({ width, height }: Session, pairs: readonly Pair[]): Figure[] {
  const [before, after] = (['base', 'tuned'] as const).map((role) => measuresOf(pairs.map((pair) => pair[role]), width, height)!) as [NonNullable<ReturnType<typeof measuresOf>>, NonNullable<ReturnType<typeof measuresOf>>];
  const reward = (name: string, sign: 1 | -1): Pick<Figure, 'before' | 'after'> => ({ before: sign * before.rewards[name]!, after: sign * after.rewards[name]! });
  return [
    { name: 'mirror distance', ...reward('symmetry', -1), bar: null },
    { name: `mirror distance relative to contrast + ${CONTRAST_FLOOR}`, ...reward('relative-symmetry', -1), bar: { most: BAR.relativeDistance } },
    { name: 'CLIPScore', ...reward('clipscore', 1), bar: { least: BAR.clipScore } },
    { name: 'edge density', before: before.edgeDensity, after: after.edgeDensity, bar: { least: BAR.edges } },
    { name: 'contrast', before: before.contrast, after: after.contrast, bar: null },
  ];
}

function meetsBar({ before, after, bar }: Figure): boolean {
  const ratio = after / before;
  return bar === null || (ratio <= (bar.most ?? Infinity) && ratio >= (bar.least ?? -Infinity));
}

function printReport({ print }: CommandContext, groups: readonly Group[], met: boolean, place: { out: string; runId: string; seconds: number }): void {
  const percent = (ratio: number): string => `${ratio >= 1 ? '+' : '-'}${Math.abs(Math.round(100 * (ratio - 1)))} %`;
  for (const [i, group] of groups.entries()) {
    print(`Base -> tuned, means over ${group.pairs.length} pictures, ${group.what}:`);
    for (const each of group.figures) {
      const { most, least } = each.bar ?? {};
      const bar = each.bar === null || i > 0 ? '' : `  ${meetsBar(each) ? 'reaches' : 'misses'} the bar of ${most === undefined ? `${percent(least!)} or better` : `${percent(most)} or less`}`;
      print(`  ${each.name.padEnd(46)} ${each.before.toFixed(3)} -> ${each.after.toFixed(3)}  ${percent(each.after / each.before).padStart(6)}${bar}`);
    }
  }
  print(met ? 'Every bar is reached.' : 'Not every bar is reached.');
  print(`${join(place.out, 'compare.png')} shows base (grey bar) above tuned (coloured bar); figures in ${join(place.out, 'run.json')}; run ${place.runId}; ${clock(place.seconds)} in all.`);
}
