/** What a command of the command line is. */
import { drtuneHome } from '../base/paths.ts';
import type { Engine } from '../engine/engine.ts';
import type { Arguments, FlagSpecs } from './arguments.ts';

export interface CommandContext {
  readonly args: Arguments;
  readonly home: string;
  /** One line of the command's result on stdout. */
  print(line: string): void;
  /** One line beside the result, on stderr. */
  note(line: string): void;
}

export interface Command {
  readonly name: string;
  readonly usage: string;
  readonly what: string;
  readonly flags: FlagSpecs;
  /** Returns the exit code. */
  run(context: CommandContext): Promise<number>;
}

/** The context of a process: its data folder, its streams. With --json notes are left out. */
export function processContext(args: Arguments): CommandContext {
  return {
    args,
    home: drtuneHome(),
    print: (line) => void process.stdout.write(`${line}\n`),
    note: (line) => {
      if (!args.json) process.stderr.write(`${line}\n`);
    },
  };
}

/** Opens the engine a command computes with: --engine, else what the config says, else the best that works. */
export async function commandEngine(context: CommandContext, wanted?: string): Promise<Engine> {
  const { openEngine } = await import('../engine/select.ts');
  const prefer = (context.args.text('engine') ?? wanted ?? 'auto') as 'auto';
  return openEngine({ prefer, home: context.home, onNotice: (line) => context.note(line) });
}
