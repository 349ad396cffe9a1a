/** The memory plan of a run: how its parts are kept, and how much each phase will need. Made before the start and obeyed. */
import { z } from 'zod';

/** float32; stored: half precision where the file has it; half: float32 rounded to float16 too. */
const precision = z.enum(['float32', 'stored', 'half']);
const kept = z.enum(['residuals', 'recompute']);
const stays = z.enum(['stay', 'leave']);

export const memoryPlanSchema = z.object({
  weights: z.object({ unet: precision, vae: precision, text: precision }),
  /** What gradients through UNet and VAE keep of the forward pass. */
  unet: kept,
  vae: kept,
  textEncoders: stays,
  vaeWeights: stays,
  /** Pictures that go through VAE and rewards at once. */
  picturesAtOnce: z.number(),
  /** Whether all networks are small: cores then take pictures each, instead of a share of every operation. */
  small: z.boolean().default(false),
  /** Estimated bytes of the process. */
  phases: z.array(z.object({ phase: z.string(), bytes: z.number() })),
  peakBytes: z.number(),
  /** What the process can have. */
  availableBytes: z.number(),
  fits: z.boolean(),
  /** What is kept where, and why, in words. */
  notes: z.array(z.string()),
  /** Where it does not fit: settings that would, each with its estimate. */
  advice: z.array(z.string()),
  /** Settings that need less, each with how much; for a run that the system ends all the same. */
  savings: z.array(z.string()).default([]),
});
export type MemoryPlan = z.infer<typeof memoryPlanSchema>;

/** The plan in one line, for logs. */
export function planLine({ peakBytes, availableBytes, notes }: MemoryPlan): string {
  return `memory: about ${(peakBytes / 1e9).toFixed(1)} of ${(availableBytes / 1e9).toFixed(1)} GB. ${notes.join(' ')}`;
}
