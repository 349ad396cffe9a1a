/** Tunes a model and keeps the run in the history. */
import { RunRecorder } from '../../app/run-recorder.ts';
import { AppError } from '../../base/errors.ts';
import type { RunConfig } from '../../contract/run.ts';
import { configOf } from '../../history/runs.ts';
import { checkRun } from '../../train/session.ts';
import { UsageError, type Arguments } from '../arguments.ts';
import { commandEngine, type Command } from '../command.ts';
import { applySet, checkConfig, CONFIG_FLAGS, readConfig } from '../config-file.ts';
import { progressPrinter } from '../progress.ts';
import { runTraining } from '../run-training.ts';
import { findRun } from './history.ts';

export const train: Command = {
  name: 'train',
  usage: 'train --config FILE | --preset NAME [--set key=value]... [--resume RUN] [--name N] [--engine NAME] [--json]',
  what: 'Tunes a model by reward gradients; with --json one event a line.',
  flags: { ...CONFIG_FLAGS, resume: { type: 'string' }, name: { type: 'string' }, engine: { type: 'string' } },
  async run(context) {
    const { args, home, print } = context;
    args.allowPositionals(0);
    const again = args.text('resume');
    if (again !== undefined && (args.text('config') ?? args.text('preset')) !== undefined) {
      throw new UsageError('A resumed run has its own config: leave out --config and --preset, or change it by --set.');
    }
    const fresh = again === undefined ? readConfig(args) : undefined;
    if (fresh) checkRun(fresh, home);
    const recorder = RunRecorder.open(home);
    try {
      if (again !== undefined) findRun(recorder, again);
      const engine = await commandEngine(context, fresh?.engine);
      const { runId, config } = fresh ? { runId: recorder.createRun({ name: args.text('name') ?? '', config: fresh }), config: fresh } : takeUp(recorder, args, again!, home);
      context.showNotes();
      const progress = progressPrinter(process.stderr);
      const heard = args.json ? (event: object) => print(JSON.stringify('engine' in event ? { ...event, run: runId, folder: recorder.runDir(runId) } : event)) : progress;
      const end = await runTraining({ recorder, runId, config, engine, home, resume: again !== undefined, heard });
      if (end.reason === 'failed') throw new AppError('run', end.message ?? 'The run failed.', { hint: end.hint });
      if (!args.json) print(`run ${runId} in ${recorder.runDir(runId)}`);
      return 0;
    } finally {
      recorder.close();
    }
  },
};

/** Claims an ended run to go on with it; --set may change its config, --name its name. */
function takeUp(recorder: RunRecorder, args: Arguments, text: string, home: string): { runId: string; config: RunConfig } {
  const { id, state, name } = findRun(recorder, text);
  if (state === 'running' || state === 'queued') {
    throw new AppError('busy', `The run "${name}" is ${state}.`, { hint: 'If the process that ran it is gone, open the app once: it finds such runs.' });
  }
  const raw = structuredClone(configOf(recorder.runs.get(id))) as Record<string, unknown>;
  for (const assignment of args.texts('set')) applySet(raw, assignment);
  const config = checkConfig(raw);
  checkRun(config, home);
  recorder.runs.setConfig(id, config);
  if (args.text('name') !== undefined) recorder.runs.update(id, { name: args.text('name') });
  recorder.begin(id, true);
  return { runId: id, config };
}
