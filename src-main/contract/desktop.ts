/** What the window and the system have to do with each other: files handed over, the app's log, news of releases. */
import { z } from 'zod';
import { runConfigSchema } from './run.ts';

/** A file the system gave to the app: by double click, on the Dock, at the start. */
export const givenFileSchema = z.discriminatedUnion('kind', [
  /** A shared run (.drtune), for the history. */
  z.object({ kind: z.literal('run'), path: z.string() }),
  /** The settings of a run, saved as .json. */
  z.object({ kind: z.literal('settings'), path: z.string(), name: z.string(), config: runConfigSchema }),
  /** A checkpoint, for the Models page. */
  z.object({ kind: z.literal('model'), path: z.string() }),
  z.object({ kind: z.literal('problem'), path: z.string(), message: z.string() }),
]);
export type GivenFile = z.infer<typeof givenFileSchema>;

export const logTailSchema = z.object({
  folder: z.string(),
  /** Oldest first; `at` in milliseconds since 1970. */
  entries: z.array(z.object({ at: z.number(), level: z.enum(['info', 'warning', 'error']), source: z.string(), text: z.string() })),
  /** Reports of crashes, kept on this machine only. */
  crashes: z.array(z.object({ file: z.string(), at: z.number(), bytes: z.number() })),
});
export type LogTail = z.infer<typeof logTailSchema>;

export const releaseSchema = z.object({
  current: z.string(),
  /** A later version, null where this is the newest or no place was asked. */
  newer: z.string().nullable(),
  /** Where it can be had. */
  page: z.string().nullable(),
  /** Why nothing is known, one line; null after an answer. */
  problem: z.string().nullable(),
});
export type Release = z.infer<typeof releaseSchema>;

/** What a file of saved settings holds. */
export const settingsFileSchema = z.object({ drtune: z.literal(1), name: z.string().max(200).default(''), config: runConfigSchema });
