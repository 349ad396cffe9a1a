/**
 * What a trainer says while it works: the JSON lines of `drtune train --json`, the messages of the trainer process, and
 * (once written to SQLite) the events the renderer sees. One union for all three.
 */
import { z } from 'zod';
import { memoryPlanSchema } from './memory.ts';

/** Measures of a set of pictures; means over the set. */
export const pictureMeasuresSchema = z.object({
  /** Each reward's own value by name (weights not applied), trained and held-out ones alike. */
  rewards: z.record(z.string(), z.number()),
  /** Mean absolute horizontal + vertical pixel difference, [0,1]; low = blank pictures. */
  edgeDensity: z.number(),
  /** Mean HSV saturation, [0,1]. */
  saturation: z.number(),
  /** Mean absolute deviation from the picture's mean colour, [0,1]. */
  contrast: z.number(),
  /** Entropy of the colour histogram, bits (4 levels a channel). */
  colorEntropy: z.number(),
  /** The weighted sum that is trained, as training counts it: hinges, spreads and prompts included. */
  reward: z.number().optional(),
  /** What a reward stands for, where that can be counted, beside its estimate: true JPEG bits per pixel. */
  exact: z.record(z.string(), z.number()).optional(),
  /** What each normalised term is divided by. */
  spread: z.record(z.string(), z.number()).optional(),
  /** Mean distance between pictures of one prompt with different seeds, [0,1]; low = all alike. */
  diversity: z.number().optional(),
  /** Mean distance of each picture to the base model's of the same prompt and seed, [0,1]. */
  baseDistance: z.number().optional(),
});
export type PictureMeasures = z.infer<typeof pictureMeasuresSchema>;

export const imageRole = z.enum(['base', 'tuned']);

/** What a completed run was found to be: its last checkpoint was read back, and then looked at. */
export const verdictSchema = z.object({
  /** True where every check passed. */
  sound: z.boolean(),
  /** One line for people. */
  line: z.string(),
  checks: z.array(z.object({ check: z.enum(['reloaded', 'finite', 'differs', 'picture', 'reward']), passed: z.boolean(), words: z.string() })),
});
export type Verdict = z.infer<typeof verdictSchema>;

const toldEventSchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('started'),
    engine: z.object({ name: z.string(), version: z.string(), device: z.string(), why: z.string() }),
    model: z.string(),
    iterations: z.number(),
    /** First iteration of this session: 0, or where a resumed run goes on. */
    startIteration: z.number(),
    trainableParameters: z.number(),
    width: z.number(),
    height: z.number(),
  }),
  /** Loading, making base pictures, ...: what the user waits for now. */
  z.object({ type: z.literal('phase'), phase: z.string(), done: z.number().optional(), total: z.number().optional() }),
  z.object({
    type: z.literal('step'),
    /** Counts finished iterations: 1 is the first. */
    step: z.number(),
    /** The weighted sum that is maximised, mean over the batch. */
    reward: z.number(),
    terms: z.record(z.string(), z.number()),
    kl: z.number(),
    gradNorm: z.number(),
    lr: z.number(),
    stepMs: z.number(),
    /** True where the gradient was not finite and the step was left out. */
    skipped: z.boolean(),
    memoryBytes: z.number(),
    etaSeconds: z.number(),
  }),
  z.object({
    type: z.literal('image'),
    role: imageRole,
    step: z.number(),
    prompt: z.string(),
    promptIndex: z.number(),
    heldOut: z.boolean(),
    seed: z.number(),
    width: z.number(),
    height: z.number(),
    /** Path of the PNG, relative to the run's folder. */
    file: z.string(),
    rewards: z.record(z.string(), z.number()),
    /** sha256 of the adapter that painted it (first 16 hex), "base" with the adapter off. */
    weights: z.string(),
    /** The LoRA's share that was added, 1 where left out. */
    strength: z.number().optional(),
    /** The sampling step from which it was added, 0 (the first) where left out. */
    loraFrom: z.number().optional(),
  }),
  /** How memory will be used; before anything is loaded. */
  z.object({ type: z.literal('plan'), plan: memoryPlanSchema }),
  /** Measures of one sample point's pictures. */
  z.object({ type: z.literal('sampled'), step: z.number(), role: imageRole, heldOut: z.boolean(), measures: pictureMeasuresSchema }),
  z.object({
    type: z.literal('checkpoint'), step: z.number(), file: z.string(), sha256: z.string(), bytes: z.number(),
    /** Steps whose checkpoints are left, where the run keeps but some. */
    kept: z.array(z.number()).optional(),
    /** Weighted reward of the held-out sample pictures of this step, where it was sampled. */
    score: z.number().optional(),
    /** True where it is the best so far by what is held out (contract/best.ts). */
    best: z.boolean().optional(),
  }),
  z.object({ type: z.literal('alarm'), step: z.number(), kind: z.string(), message: z.string(), remedy: z.string() }),
  z.object({
    type: z.literal('finished'),
    reason: z.enum(['completed', 'stopped', 'failed']),
    step: z.number(),
    message: z.string().optional(),
    hint: z.string().optional(),
    seconds: z.number(),
    verdict: verdictSchema.optional(),
  }),
]);

/** The newest events again, from the checkpoint a run goes on from: a history that was not there to hear them takes them now. */
const caughtUpSchema = z.object({ type: z.literal('caught-up'), events: z.array(toldEventSchema) });

export const trainerEventSchema = z.discriminatedUnion('type', [...toldEventSchema.options, caughtUpSchema]);
export type ToldEvent = z.infer<typeof toldEventSchema>;
export type TrainerEvent = z.infer<typeof trainerEventSchema>;
export type TrainerEventOf<T extends TrainerEvent['type']> = Extract<TrainerEvent, { type: T }>;
