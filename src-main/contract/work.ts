/** Long work of the app besides training: how far each piece is, and its end on request. Downloads and the engine pack are told with what else is known of them. */
import { z } from 'zod';

export const workKind = z.enum(['preview', 'render', 'score', 'export', 'share', 'import', 'compare', 'verify']);
export type WorkKind = z.infer<typeof workKind>;

export const workSchema = z.object({
  id: z.string(), kind: workKind,
  /** The run or model it is about, "" for none. */
  about: z.string(),
  /** What it is doing now: "loading the model". */
  what: z.string(),
  /** `done` of `total`, fractions too; total 0 where it is not known. */
  done: z.number(), total: z.number(),
  /** Of what it is doing now, null where it is not known yet. */
  etaSeconds: z.number().nullable(),
});
export type WorkInfo = z.infer<typeof workSchema>;

const nothing = z.object({}).strict();
/** Most bytes of a file in one `files.put`. */
export const PIECE_BYTES = 4e6;
export const fileId = z.string().regex(/^[0-9a-f]{16}$/);

export const WORK_REQUESTS = {
  'work.list': { input: nothing, output: z.array(workSchema) },
  /** Its own request then ends with the error "cancelled", and nothing half-written is left; work that has ended is none. */
  'work.cancel': { input: z.strictObject({ id: z.string().max(40) }), output: nothing },
  /** A piece of a file from a browser, which keeps paths to itself: `at` is where the piece begins, 0 begins the file. The page draws the id. */
  'files.put': { input: z.strictObject({ id: fileId, at: z.number().int().min(0), data: z.base64().max(Math.ceil(PIECE_BYTES / 3) * 4) }), output: nothing },
  /** Forgets a file that was being put. */
  'files.drop': { input: z.strictObject({ id: fileId }), output: nothing },
} as const;
