/** The runs of the history, from SQLite. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { diffRuns, purgeRun } from '../../app/run-library.ts';
import { RunRecorder } from '../../app/run-recorder.ts';
import { importRun, shareRun } from '../../app/share-run.ts';
import { AppError } from '../../base/errors.ts';
import type { RunSummary } from '../../contract/api.ts';
import { nearestKey } from '../../contract/run.ts';
import { UsageError, type Arguments } from '../arguments.ts';
import type { Command, CommandContext } from '../command.ts';
import { onTerminal } from '../progress.ts';

const ACTIONS = ['list', 'show', 'delete', 'diff', 'export', 'import'] as const;

/** The run with that id, or the one run whose id or name begins so. @throws AppError('not-found') */
export function findRun(recorder: RunRecorder, text: string): RunSummary {
  const runs = [...recorder.runs.list({ limit: 10_000 }), ...recorder.runs.list({ limit: 10_000, deleted: true })];
  const exact = runs.find((each) => each.id === text) ?? runs.find((each) => each.name === text);
  if (exact) return exact;
  const starting = runs.filter((each) => each.id.startsWith(text));
  if (starting.length === 1) return starting[0]!;
  const near = nearestKey(text, runs.flatMap((each) => [each.id, each.name]));
  throw new AppError('not-found', starting.length > 1 ? `"${text}" begins the ids of ${starting.length} runs.` : `There is no run "${text}".`, {
    hint: near ? `Did you mean "${near}"?` : 'drtune history list shows them.',
  });
}

export const history: Command = {
  name: 'history',
  usage: 'history [list|show RUN|delete RUN|diff A B|export RUN FILE|import FILE] [--search TEXT] [--json]',
  what: 'Runs with their settings, scores and files; export and import carry one to another machine as a .drtune file.',
  flags: { search: { type: 'string' } },
  async run(context) {
    const { args, home } = context;
    const [action = 'list', ...rest] = args.positionals;
    if (!(ACTIONS as readonly string[]).includes(action)) {
      const near = nearestKey(action, ACTIONS);
      throw new UsageError(`Unknown action "${action}"${near ? `: did you mean "${near}"?` : `. Actions: ${ACTIONS.join(', ')}.`}`);
    }
    const recorder = RunRecorder.open(home);
    try {
      switch (action as (typeof ACTIONS)[number]) {
        case 'list': return list(context, recorder);
        case 'show': return show(context, recorder, run(recorder, args, rest[0]));
        case 'delete': return remove(context, recorder, run(recorder, args, rest[0]));
        case 'diff': {
          args.allowPositionals(3);
          if (rest.length !== 2) throw new UsageError('history diff needs two runs.');
          return diff(context, recorder, findRun(recorder, rest[0]!), findRun(recorder, rest[1]!));
        }
        case 'export': {
          args.allowPositionals(3);
          if (rest.length !== 2) throw new UsageError('history export needs a run and a file.');
          return await share(context, recorder, findRun(recorder, rest[0]!), rest[1]!);
        }
        case 'import': {
          args.allowPositionals(2);
          if (rest.length !== 1) throw new UsageError('history import needs a file.');
          const id = await onTerminal(context, (work) => importRun(recorder, resolve(rest[0]!), { work }));
          context.print(args.json ? JSON.stringify({ run: id, folder: recorder.runDir(id) }) : `Imported as ${id}: ${recorder.summary(id).name}`);
          return 0;
        }
      }
    } finally {
      recorder.close();
    }
  },
};

function run(recorder: RunRecorder, args: Arguments, text: string | undefined): RunSummary {
  args.allowPositionals(2);
  if (text === undefined) throw new UsageError(`history ${args.positionals[0]} needs a run.`);
  return findRun(recorder, text);
}

const figure = (value: number | null): string => (value === null ? '-' : value.toFixed(3));

function list({ args, print }: CommandContext, recorder: RunRecorder): number {
  args.allowPositionals(1);
  const runs = recorder.runs.list({ search: args.text('search') ?? '', limit: 10_000 });
  if (args.json) {
    print(JSON.stringify({ runs }));
    return 0;
  }
  if (runs.length === 0) print('No runs.');
  for (const each of runs) {
    print(`${each.id}  ${each.state.padEnd(8)} ${`${each.step}/${each.iterations}`.padStart(9)}  reward ${figure(each.rewardFirst)} -> ${figure(each.rewardLast)}  ${each.name}${each.verdict && !each.verdict.sound ? `  (${each.verdict.line})` : ''}`);
  }
  return 0;
}

function show({ args, print }: CommandContext, recorder: RunRecorder, summary: RunSummary): number {
  const detail = recorder.detail(summary.id);
  if (args.json) {
    print(JSON.stringify(detail));
    return 0;
  }
  print(`${summary.id}  ${summary.name}`);
  print(`${summary.state}${summary.reason ? `: ${summary.reason}` : ''}, ${summary.step} of ${summary.iterations} iterations, ${Math.round(summary.seconds)} s on ${summary.engine ?? 'no engine yet'}`);
  if (summary.verdict) print(summary.verdict.line);
  print(`model ${summary.model}, rewards ${summary.rewards.map((each) => `${each.weight} ${each.name}`).join(' + ')}`);
  print(`reward ${figure(summary.rewardFirst)} -> ${figure(summary.rewardLast)}, held out ${figure(summary.heldOutBase)} -> ${figure(summary.heldOutLast)}`);
  for (const each of detail.alarms) print(`alarm at step ${each.step}: ${each.message} ${each.remedy}`);
  print(`${detail.images.length} pictures, checkpoints at ${detail.checkpoints.map((each) => each.step).join(', ') || 'none'}, files in ${detail.folder}`);
  return 0;
}

async function share(context: CommandContext, recorder: RunRecorder, summary: RunSummary, file: string): Promise<number> {
  const { args, print } = context;
  const path = resolve(file.endsWith('.drtune') ? file : `${file}.drtune`);
  if (existsSync(path)) throw new AppError('disk', `${path} exists.`, { hint: 'Name another file.' });
  const shared = await onTerminal(context, (work) => shareRun(recorder, summary.id, path, { work }));
  print(args.json ? JSON.stringify(shared) : `Wrote ${shared.path}, ${(shared.bytes / 1e6).toFixed(1)} MB.`);
  return 0;
}

/** To the trash first, as in the app; what is in the trash already goes for good. */
function remove({ args, print }: CommandContext, recorder: RunRecorder, summary: RunSummary): number {
  if (summary.state === 'running') throw new AppError('busy', `The run "${summary.name}" is at work.`, { hint: 'Stop it first.' });
  if (summary.deletedAt === null) recorder.runs.set(summary.id, { deleted_at: Date.now() });
  purgeRun(recorder, summary.id);
  print(args.json ? JSON.stringify({ deleted: summary.id }) : `Deleted ${summary.id} and its files.`);
  return 0;
}

function diff({ args, print }: CommandContext, recorder: RunRecorder, a: RunSummary, b: RunSummary): number {
  const rows = diffRuns(recorder, a.id, b.id);
  if (args.json) print(JSON.stringify({ a: a.id, b: b.id, differences: rows }));
  else if (rows.length === 0) print('The settings are the same.');
  else for (const row of rows) print(`${row.key}: ${row.a || '(none)'} -> ${row.b || '(none)'}`);
  return 0;
}
