/** Files the system hands to the app: named at the start, by a second start, by macOS's open-file. No Electron here. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { extname, isAbsolute, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AppError, errorLine } from '../base/errors.ts';
import { settingsFileSchema, type GivenFile } from '../contract/desktop.ts';
import { describeIssues } from '../contract/run.ts';

/** A run's settings are a page of text. */
const MAX_BYTES = 4e6;

/** Paths among a command line's arguments; what begins with "-" and what is neither of our kinds is not for us. Linux desktops name files by file:// addresses. */
export function filesOf(args: readonly string[], folder: string): string[] {
  return args.filter((arg) => !arg.startsWith('-')).map(pathOf).filter((path) => /\.(drtune|json|safetensors)$/i.test(path) && !path.includes('\0')).map((path) => (isAbsolute(path) ? path : resolve(folder, path)));
}

function pathOf(argument: string): string {
  if (!argument.startsWith('file:')) return argument;
  try {
    return fileURLToPath(argument);
  } catch {
    return ''; // of another machine
  }
}

/** What a page does with a file: a run's settings are read here, a shared run and a model are named. Never throws. */
export function readGiven(path: string): GivenFile {
  if (extname(path).toLowerCase() === '.safetensors') return { kind: 'model', path };
  try {
    if (isZip(path)) return { kind: 'run', path };
    const parsed = settingsFileSchema.safeParse(JSON.parse(readSmall(path)));
    if (!parsed.success) throw new AppError('config', `${path} holds no settings of a run: ${describeIssues(parsed.error)}.`);
    return { kind: 'settings', path, name: parsed.data.name, config: parsed.data.config };
  } catch (error) {
    const message = error instanceof SyntaxError ? `${path} holds no settings of a run: it is not JSON.` : errorLine(error);
    return { kind: 'problem', path, message };
  }
}

/** What is in a file counts, not its ending: a shared run is a zip. */
function isZip(path: string): boolean {
  const handle = openSync(path, 'r');
  try {
    const head = Buffer.alloc(4);
    return readSync(handle, head, 0, 4, 0) === 4 && head.toString('latin1') === 'PK\x03\x04';
  } finally {
    closeSync(handle);
  }
}

function readSmall(path: string): string {
  const handle = openSync(path, 'r');
  try {
    const { size } = fstatSync(handle);
    if (size > MAX_BYTES) throw new AppError('config', `${path} has ${size} bytes: settings of a run have fewer than ${MAX_BYTES}.`);
    const bytes = Buffer.alloc(size);
    readSync(handle, bytes, 0, size, 0);
    return bytes.toString();
  } finally {
    closeSync(handle);
  }
}

/** Keeps what was given until a page asks for it: files come before the window is there. */
export class GivenFiles {
  private waiting: GivenFile[] = [];
  private readonly opened: (path: string) => void;
  private readonly announce: () => void;

  /** @param opened the user chose this path @param announce there is something to ask for */
  constructor(opened: (path: string) => void, announce: () => void) {
    this.opened = opened;
    this.announce = announce;
  }

  add(paths: readonly string[]): void {
    if (paths.length === 0) return;
    for (const path of paths) {
      this.opened(path);
      this.waiting.push(readGiven(path));
    }
    this.announce();
  }

  take(): GivenFile[] {
    return this.waiting.splice(0);
  }
}
