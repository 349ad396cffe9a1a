/**
 * An operating error: something a user can read and act on (a bad file, a full disk, no network).
 * Programmer errors use {@link assert} and crash with values instead.
 */
export type ErrorCode =
  | 'config' // a setting or an argument is wrong
  | 'weights' // a model file is missing, truncated or of the wrong shape
  | 'engine' // no usable engine, missing kernel, out of memory
  | 'network' // a download failed
  | 'disk' // a file cannot be read or written
  | 'history' // the database cannot be opened or is from the future
  | 'run' // a run failed (NaN reward, killed trainer)
  | 'busy' // the port, the folder or the device is in use
  | 'not-found' // no such run, model, image
  | 'denied' // token, Origin or Host refused
  | 'cancelled' // the user ended it: no fault, nothing to show
  | 'internal'; // a defect of ours

export class AppError extends Error {
  readonly code: ErrorCode;
  /** What to do next, one sentence; shown after the message. */
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'AppError';
    this.code = code;
    this.hint = options.hint;
  }

  /** The one clear line: what happened and what to do. */
  get line(): string {
    return this.hint ? `${this.message} ${this.hint}` : this.message;
  }
}

/** Programmer error: crash with the values that were wrong. */
export function assert(condition: unknown, message: string | (() => string)): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${typeof message === 'string' ? message : message()}`);
}

/** The one line to show for anything that was thrown. */
export function errorLine(error: unknown): string {
  if (error instanceof AppError) return error.line;
  return error instanceof Error ? error.message : String(error);
}

/** The system's words for what it refused, without the names of files it gives: these may be temporary ones. */
export const systemWords = (error: unknown): string => errorLine(error).replace(/^([A-Z]+: [^,']+), .*$/s, '$1');
