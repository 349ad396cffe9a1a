/** What the machine is doing, for the panel that shows it. */
import { z } from 'zod';

const share = z.number().min(0).max(1).nullable();

export const hardwareSchema = z.object({
  /** Shares of all cores since the question before; null at the first, and where the system does not tell. */
  cpu: z.object({ model: z.string(), cores: z.number(), load: share, appLoad: share }),
  memory: z.object({ usedBytes: z.number(), availableBytes: z.number(), totalBytes: z.number() }),
  /** Null is what a GPU does not tell. */
  gpus: z.array(z.object({ name: z.string(), load: share, usedBytes: z.number().nullable(), totalBytes: z.number().nullable() })),
  disk: z.object({ homeBytes: z.number(), freeBytes: z.number() }),
});
export type HardwareInfo = z.infer<typeof hardwareSchema>;
