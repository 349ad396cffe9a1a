/** What a command of the command line is. */
import { drtuneHome } from '../base/paths.ts';
import type { Engine } from '../engine/engine.ts';
import type { Arguments, FlagSpecs } from './arguments.ts';

export interface CommandContext {
  readonly args: Arguments;
  readonly home: string;
  /** One line of the command's result on stdout. */
  print(line: string): void;
  /** One line beside the result, on stderr; kept back until the command has got so far that it can show something. */
  note(line: string): void;
  /** Lets the notes out, those kept back and those to come. A command that fails before has one line on stderr, its fault. */
  showNotes(): void;
}

/** Where a command writes. */
export interface Streams {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
}

export interface Command {
  readonly name: string;
  readonly usage: string;
  readonly what: string;
  readonly flags: FlagSpecs;
  /** Returns the exit code. */
  run(context: CommandContext): Promise<number>;
}

/** A command's context on two streams. With --json notes are left out. */
export function streamContext(args: Arguments, { stdout, stderr }: Streams): CommandContext {
  const kept: string[] = [];
  let shown = false;
  const showNotes = (): void => {
    shown = true;
    for (const line of kept.splice(0)) stderr.write(`${line}\n`);
  };
  return {
    args,
    home: drtuneHome(),
    showNotes,
    print: (line) => {
      showNotes();
      stdout.write(`${line}\n`);
    },
    note: (line) => {
      if (args.json) return;
      if (shown) stderr.write(`${line}\n`);
      else kept.push(line);
    },
  };
}

/** Opens the engine a command computes with: --engine, else what the config says, else the best that works. */
export async function commandEngine(context: CommandContext, wanted?: string): Promise<Engine> {
  const { openEngine } = await import('../engine/select.ts');
  const prefer = (context.args.text('engine') ?? wanted ?? 'auto') as 'auto';
  return openEngine({ prefer, home: context.home, onNotice: (line) => context.note(line) });
}
