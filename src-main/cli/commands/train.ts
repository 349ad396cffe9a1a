/** Tunes a model and keeps the run in the history. */
import { resolve } from 'node:path';
import { assertResumable } from '../../app/run-folders.ts';
import { RunRecorder } from '../../app/run-recorder.ts';
import { AppError, errorLine } from '../../base/errors.ts';
import type { RunConfig } from '../../contract/run.ts';
import { configOf } from '../../history/runs.ts';
import { checkRun } from '../../train/session.ts';
import { UsageError, type Arguments } from '../arguments.ts';
import { commandEngine, type Command } from '../command.ts';
import { applySet, checkConfig, CONFIG_FLAGS, readConfig } from '../config-file.ts';
import { progressPrinter } from '../progress.ts';
import { repeatLine } from '../repeat.ts';
import { runTraining } from '../run-training.ts';
import { expandSweeps } from '../sweep.ts';
import { findRun } from './history.ts';

interface Job { readonly runId: string; readonly config: RunConfig; readonly name: string }

export const train: Command = {
  name: 'train',
  usage: 'train --config FILE | --preset NAME [--set key=value]... [--sweep key=a,b,c]... [--paired] [--resume RUN] [--name N] [--engine NAME] [--json]',
  what: 'Tunes a model by reward gradients; FILE is a config, settings saved by the app or the manifest.json of a run; --sweep trains one run for each value (a grid, where it is repeated, or with --paired value by value); with --json one event a line.',
  flags: { ...CONFIG_FLAGS, resume: { type: 'string' }, name: { type: 'string' }, engine: { type: 'string' }, sweep: { type: 'string', multiple: true }, paired: { type: 'boolean' } },
  async run(context) {
    const { args, home, print } = context;
    args.allowPositionals(0);
    const again = args.text('resume');
    if (again !== undefined && (args.text('config') ?? args.text('preset')) !== undefined) {
      throw new UsageError('A resumed run has its own config: leave out --config and --preset, or change it by --set.');
    }
    const sweeps = args.texts('sweep');
    if (again !== undefined && sweeps.length > 0) throw new UsageError('A resumed run cannot be swept.');
    const fresh = again === undefined ? expandSweeps(sweeps, args.flag('paired') ? 'list' : 'grid').map((values) => ({ values, config: readConfig(args, values) })) : [];
    for (const { config } of fresh) checkRun(config, home);
    const recorder = RunRecorder.open(home);
    try {
      if (again !== undefined) findRun(recorder, again);
      const engine = await commandEngine(context, fresh[0]?.config.engine);
      context.showNotes();
      const jobs: (() => Job)[] = again !== undefined ? [() => takeUp(recorder, args, again, home)] : fresh.map(({ values, config }) => () => {
        const name = [args.text('name') ?? '', ...values].filter(Boolean).join(' ');
        return { runId: recorder.createRun({ name, config }), config, name };
      });
      const ends: string[] = [];
      let failed: unknown = null;
      for (const [i, begin] of jobs.entries()) {
        const { runId, config, name } = begin();
        if (jobs.length > 1 && !args.json) print(`run ${i + 1} of ${jobs.length}: ${name}`);
        const progress = progressPrinter(process.stderr);
        const heard = args.json ? (event: object) => print(JSON.stringify('engine' in event ? { ...event, run: runId, folder: recorder.runDir(runId) } : event)) : progress;
        try {
          const end = await runTraining({ recorder, runId, config, engine, home, resume: again !== undefined, heard });
          if (end.reason === 'failed') throw new AppError('run', end.message ?? 'The run failed.', { hint: end.hint });
          if (!args.json) print(`run ${runId} in ${recorder.runDir(runId)}`);
          const repeated = args.text('config') === undefined || end.reason !== 'completed' ? null : repeatLine(resolve(args.text('config')!), recorder.runDir(runId));
          if (repeated !== null && !args.json) print(repeated);
          ends.push(`${name}: ${end.verdict?.line ?? end.reason}`);
          if (end.reason === 'stopped') break;
        } catch (error) {
          if (jobs.length === 1) throw error;
          failed ??= error;
          ends.push(`${name}: failed: ${errorLine(error)}`);
        }
      }
      if (jobs.length > 1 && !args.json) for (const line of ends) print(line);
      if (failed !== null) throw new AppError('run', `Of ${jobs.length} runs some failed, the first so: ${errorLine(failed)}`);
      return 0;
    } finally {
      recorder.close();
    }
  },
};

/** Claims an ended run to go on with it; --set may change its config, --name its name. */
function takeUp(recorder: RunRecorder, args: Arguments, text: string, home: string): Job {
  const { id, state, name } = findRun(recorder, text);
  if (state === 'running' || state === 'queued') {
    throw new AppError('busy', `The run "${name}" is ${state}.`, { hint: 'If the process that ran it is gone, open the app once: it finds such runs.' });
  }
  assertResumable(recorder.runDir(id), name);
  const raw = structuredClone(configOf(recorder.runs.get(id))) as Record<string, unknown>;
  for (const assignment of args.texts('set')) applySet(raw, assignment);
  const config = checkConfig(raw);
  checkRun(config, home);
  recorder.runs.setConfig(id, config);
  if (args.text('name') !== undefined) recorder.runs.update(id, { name: args.text('name') });
  recorder.begin(id, true);
  return { runId: id, config, name };
}
