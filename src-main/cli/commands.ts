/**
 * The commands by name. One result on stdout; for bad input one line on stderr and exit code 1, for wrong usage 2.
 */
import { AppError, errorLine } from '../base/errors.ts';
import { isCancelled } from '../base/work.ts';
import { nearestKey } from '../contract/run.ts';
import { Arguments, UsageError } from './arguments.ts';
import { streamContext, type Command, type Streams } from './command.ts';

/** Command -> its file; loaded only when it is asked for. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  doctor: async () => (await import('./commands/doctor.ts')).doctor,
  models: async () => (await import('./commands/models.ts')).models,
  sample: async () => (await import('./commands/sample.ts')).sample,
  score: async () => (await import('./commands/score.ts')).score,
  train: async () => (await import('./commands/train.ts')).train,
  gradient: async () => (await import('./commands/gradient.ts')).gradient,
  compare: async () => (await import('./commands/compare.ts')).compare,
  history: async () => (await import('./commands/history.ts')).history,
  export: async () => (await import('./commands/export.ts')).exportCommand,
  bench: async () => (await import('./commands/bench.ts')).bench,
  demo: async () => (await import('./commands/demo.ts')).demo,
};

async function dispatch(argv: readonly string[], streams: Streams): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined || name === 'help' || name === '--help') return help(streams);
  const load = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!load) {
    const near = nearestKey(name, Object.keys(COMMANDS));
    throw new UsageError(`Unknown command "${name}"${near ? `: did you mean "${near}"?` : `. Commands: ${Object.keys(COMMANDS).join(', ')}.`}`);
  }
  const command = await load();
  const args = new Arguments(rest, command.flags);
  if (args.help) {
    streams.stdout.write(`drtune ${command.usage}\n${command.what}\n`);
    return 0;
  }
  const context = streamContext(args, streams);
  const code = await command.run(context);
  context.showNotes();
  return code;
}

async function help({ stdout }: Streams): Promise<number> {
  for (const load of Object.values(COMMANDS)) {
    const { usage, what } = await load();
    stdout.write(`drtune ${usage}\n    ${what}\n`);
  }
  return 0;
}

/** The one line for a fault; what is not an operating error names itself a defect. */
function faultLine(error: unknown): string {
  const line = errorLine(error).replace(/\s*\n\s*/g, ' ');
  return error instanceof AppError || error instanceof UsageError ? line : `Internal error: ${line}`;
}

/** Runs one command to its end. @returns the exit code */
export async function runCommand(argv: readonly string[], streams: Streams): Promise<number> {
  try {
    return await dispatch(argv, streams);
  } catch (error) {
    streams.stderr.write(`${faultLine(error)}\n`);
    if (isCancelled(error)) return 130;
    if (process.env['DRTUNE_TRACE'] && error instanceof Error) streams.stderr.write(`${error.stack}\n`);
    return error instanceof UsageError ? 2 : 1;
  }
}
