/** The run config: one schema for the app, the command line and manifest.json. Names are the field's. */
import { z } from 'zod';

export const SCHEDULERS = ['ddim', 'euler', 'euler-a', 'dpmpp2m', 'dpmpp2m-karras', 'lcm', 'tcd'] as const;
export const ALGORITHMS = ['drtune', 'refl', 'draft-k', 'draft-lv', 'alignprop', 'full', 'srpo', 'nft'] as const;
export const OPTIMIZERS = ['adamw', 'adamw8bit', 'adafactor', 'prodigy'] as const;
export const LONG_PROMPTS = ['truncate', 'chunk'] as const;
export const PROMPT_SYNTAXES = ['plain', 'a1111'] as const;
export const ENGINES = ['auto', 'tensorflow', 'webgpu', 'wasm'] as const;
export const TRAINED = ['lora', 'full'] as const;
export const LORA_METHODS = ['lora', 'dora', 'lokr'] as const;
export const LORA_TARGETS = ['to_q', 'to_k', 'to_v', 'to_out.0'] as const;

const positiveInt = z.number().int().min(1);
const unit = z.number().min(0).max(1);

export const rewardTermSchema = z.strictObject({
  name: z.string().min(1),
  /** Factor in the weighted sum that is maximised. */
  weight: z.number().default(1),
  /** Folder or file of the reward's own model, where it has one; the starter's CLIP for clipscore if left out. */
  model: z.string().optional(),
  /** Hinge: the term counts only up to this value (maximises min(value, target)). */
  target: z.number().optional(),
  /** Divide by the spread of this reward over pictures of the base model, so that weights of unlike rewards compare; the config's `normalize` if left out. */
  normalize: z.boolean().optional(),
  /** The term counts only for some prompts: those that hold this text (upper and lower case alike), or those of a list. */
  prompts: z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]).optional(),
  /** Colours "#rrggbb" for the reward that compares with a palette. */
  palette: z.array(z.string().regex(/^#[0-9a-f]{6}$/i, 'a colour is written "#rrggbb"')).min(1).max(64).optional(),
  /** For the reward that compares with a reference: a picture file, or the picture itself as a data: URL, which goes wherever the config goes. */
  reference: z.string().min(1).max(4_000_000).optional(),
  /** The file of the head for the reward whose head stands apart from its model. */
  head: z.string().min(1).optional(),
  /** The thing to look for, for the reward that detects objects; any object if left out. */
  object: z.string().min(1).optional(),
  /** The program of the reward that runs one, and its arguments; files of pictures are added to them. */
  command: z.array(z.string()).min(1).optional(),
});
export type RewardTerm = z.infer<typeof rewardTermSchema>;

/** What each term is called in logs and charts: the reward's name, "name#2" for a second term of the same reward. */
export function termKeys(terms: readonly Pick<RewardTerm, 'name'>[]): string[] {
  return terms.map(({ name }, i) => {
    const before = terms.slice(0, i).filter((each) => each.name === name).length;
    return before === 0 ? name : `${name}#${before + 1}`;
  });
}

/** Whether a reference is the picture itself, not a file's path. */
export const isInlinePicture = (reference: string): boolean => reference.startsWith('data:');

/** A setting's text for people: of a picture in it only its size. */
export const shortPictures = (text: string): string => text.replace(/data:[\w./+-]*;base64,[\w+/=]*/g, (url) => `picture of ${Math.ceil((url.length * 3) / 4000)} kB`);

/** Whether a term counts for a prompt. */
export function appliesTo({ prompts }: Pick<RewardTerm, 'prompts'>, prompt: string): boolean {
  if (prompts === undefined) return true;
  return typeof prompts === 'string' ? prompt.toLowerCase().includes(prompts.toLowerCase()) : prompts.includes(prompt);
}

export const loraSchema = z.strictObject({
  /** lora: two thin matrices a layer; dora: the layer's size apart from its direction besides; lokr: a Kronecker product, smaller still. */
  method: z.enum(LORA_METHODS).default('lora'),
  rank: positiveInt.max(1024).default(16),
  /** Scale is alpha / rank; alpha = rank if left out. */
  alpha: z.number().positive().optional(),
  /** Scale is alpha / sqrt(rank) (rsLoRA), so that large ranks learn as fast as small ones. */
  rankStabilized: z.boolean().default(false),
  /** Share of each module's ranks that a training pass leaves out, the others made larger by 1 / (1 - share). */
  rankDropout: unit.lt(1).default(0),
  /** lokr: the size of the first factor, as PEFT's decompose_factor; -1 = near the square root of the layer's. */
  factor: z.number().int().refine((value) => value === -1 || value > 0, 'must be -1 or above 0').default(-1),
  /** Train the text encoders too: a LoRA of the same form and rank in their attention. */
  textEncoder: z.boolean().default(false),
  /** Ends of the names of the UNet's linear layers and convolutions. */
  targets: z.array(z.string().min(1)).min(1).default([...LORA_TARGETS]),
  /** A LoRA file to start from. */
  initFile: z.string().optional(),
});

export const optimizerSchema = z.strictObject({
  kind: z.enum(OPTIMIZERS).default('adamw'),
  /** With prodigy a factor on the step size it finds by itself: 1 is meant. */
  lr: z.number().positive().default(1e-4),
  weightDecay: z.number().min(0).default(1e-4),
  betas: z.tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)]).default([0.9, 0.999]),
  eps: z.number().positive().default(1e-8),
  /** Global norm at which the gradient is clipped; 0 = never. */
  clipNorm: z.number().min(0).default(1),
});

export type OptimizerConfig = z.infer<typeof optimizerSchema>;

export const lrScheduleSchema = z.strictObject({
  kind: z.enum(['constant', 'cosine', 'linear']).default('constant'),
  /** Iterations of linear warm-up. */
  warmup: z.number().int().min(0).default(0),
});

export const augmentSchema = z.strictObject({
  /** Pixels by which a random part is smaller than the picture, in height and width, before rewards see it in training; 0 = the whole picture. */
  crop: z.number().int().min(0).default(0),
});

export const runConfigSchema = z.strictObject({
  /** Name of a known model, or a path to a diffusers folder. */
  model: z.string().min(1).default('starter'),
  /** A list of prompts, a file (one prompt a line, or CSV with a column "prompt"), or a set that comes with the app ("set:animals"). Choices in braces, {a|b}, are expanded. */
  prompts: z.union([z.array(z.string().min(1)).min(1), z.string().min(1)]),
  /** Prompts never trained on, scored at every sample point; a list or a file. */
  heldOutPrompts: z.union([z.array(z.string().min(1)), z.string().min(1)]).default([]),
  /** Seed of a prompt's sample picture, by prompt; the run's seed + its place where it has none. A CSV file's seed column counts too. */
  sampleSeeds: z.record(z.string(), z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)).optional(),
  negativePrompt: z.string().default(''),
  /** What happens to a prompt longer than the text encoder reads: its end is cut off, as diffusers does, or it is read in chunks. */
  longPrompts: z.enum(LONG_PROMPTS).default('truncate'),
  /** a1111: (more), [less], (by number:1.3), BREAK. */
  promptSyntax: z.enum(PROMPT_SYNTAXES).default('plain'),
  /** Last layers of the text encoders that are left out, as diffusers counts them. */
  clipSkip: z.number().int().min(0).max(64).default(0),
  /** SDXL is told [width, height] before cropping, [top, left] of the crop and the [width, height] wanted; the picture's size and 0, 0 if left out. */
  originalSize: z.tuple([positiveInt, positiveInt]).optional(),
  cropTopLeft: z.tuple([z.number().int().min(0), z.number().int().min(0)]).optional(),
  targetSize: z.tuple([positiveInt, positiveInt]).optional(),
  /** Pixels, a multiple of the VAE's factor; the model's own size if left out. */
  width: positiveInt.optional(),
  height: positiveInt.optional(),
  /** Sizes [width, height] that training draws from, one an iteration; samples are painted at width and height. */
  sizes: z.array(z.tuple([positiveInt, positiveInt])).min(1).optional(),
  scheduler: z.enum(SCHEDULERS).default('ddim'),
  /** Share of fresh noise a step of ddim or tcd takes; 0 = none, as in diffusers' pipelines. */
  eta: z.number().min(0).max(1).default(0),
  /** T, sampling steps. */
  steps: positiveInt.max(1000).default(25),
  /** Classifier-free guidance scale; 1 = off. */
  guidance: z.number().min(0).default(5),
  /** Guidance of each training pass drawn from low to high, instead of `guidance`, with which samples are painted all the same. */
  guidanceRange: z.tuple([z.number().min(0), z.number().min(0)]).refine(([low, high]) => low <= high, 'the first number must not be above the second').optional(),
  algorithm: z.enum(ALGORITHMS).default('drtune'),
  /** K, steps that are trained in each iteration. */
  trainedSteps: positiveInt.default(3),
  /** Trained steps counted from the end (1 is the last), instead of K drawn ones. */
  trainedStepList: z.array(positiveInt).min(1).optional(),
  /** m: the image is predicted from a step drawn from 1..m; 0 = never early. */
  earlyStop: z.number().int().min(0).default(0),
  /** The step, counted from the end, at which the image is predicted; 0 = none. Instead of a drawn one. */
  earlyStopStep: z.number().int().min(0).optional(),
  /** drtune: the reward sees the one-step prediction at the early stop, or the picture at the end of sampling. */
  rewardOn: z.enum(['prediction', 'x0']).default('prediction'),
  /** draft-lv: how often the finished picture is noised again and trained on. */
  renoise: z.number().int().min(0).max(64).default(2),
  /** Length of the push towards worse pixels (their Euclidean norm over a picture) before the reward's gradient is taken; 0 = none. */
  worstCase: z.number().min(0).default(0),
  rewards: z.array(rewardTermSchema).min(1),
  /** Divide each term by its spread over pictures of the base model, measured at the start. */
  normalize: z.boolean().default(false),
  /** Scored at every sample point, never trained on. */
  heldOutRewards: z.array(rewardTermSchema).default([]),
  /** lora: add-on weights beside the frozen network; full: every weight of the UNet itself, at seven times its size in memory. */
  train: z.enum(TRAINED).default('lora'),
  lora: loraSchema.prefault({}),
  optimizer: optimizerSchema.prefault({}),
  lrSchedule: lrScheduleSchema.prefault({}),
  /** Pictures per accumulation step. */
  batch: positiveInt.default(4),
  accumulate: positiveInt.default(1),
  iterations: positiveInt.default(100),
  /** Decay of the average of the LoRA weights that is sampled and exported; 0 = none. */
  ema: unit.lt(1).default(0),
  /** Weight of the mean squared distance to the base model's noise prediction at the trained steps. */
  kl: z.number().min(0).default(0),
  augment: augmentSchema.prefault({}),
  seed: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).default(0),
  /** Iterations between sample pictures; 0 = only at the start and the end. */
  sampleEvery: z.number().int().min(0).default(10),
  /** How many prompts are painted at each sample point (held-out ones first). */
  samplePrompts: z.number().int().min(0).max(64).default(4),
  /** Further seeds of the first sampled prompt, painted at each sample point to measure how much seeds differ; not shown. 0 = never. */
  diversitySeeds: z.number().int().min(0).max(16).default(1),
  /** Iterations between checkpoints; 0 = only at the end. */
  checkpointEvery: z.number().int().min(0).default(20),
  /** How many newest checkpoints stay, and the best; 0 = all. Two at least: where the newest is damaged, a run goes on from the one before. */
  keepCheckpoints: z.number().int().min(0).refine((value) => value !== 1, 'must be 0 (all) or at least 2').default(0),
  engine: z.enum(ENGINES).default('auto'),
  memory: z.enum(['auto', 'fast', 'low']).default('auto'),
});
/** A checked config, every default filled in. */
export type RunConfig = z.infer<typeof runConfigSchema>;
/** What a user writes. */
export type RunConfigInput = z.input<typeof runConfigSchema>;

/** The known key nearest to a misspelt one, or undefined where nothing is near. */
export function nearestKey(wrong: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.ceil(wrong.length / 2));
  for (const key of known) {
    const distance = editDistance(wrong.toLowerCase(), key.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [key, distance];
  }
  return best;
}

/** Letters left out, put in, changed, or two neighbours swapped. Source: Damerau 1964, optimal string alignment. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? before[j - 2]! + 1 : Infinity;
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, substitution, swapped));
    }
    [before, row] = [row, next];
  }
  return row[b.length]!;
}

/** The keys the schema knows at a path; list indices are skipped. */
function keysAt(path: readonly PropertyKey[]): string[] {
  const shapes: Record<string, object> = {
    '': runConfigSchema.shape, rewards: rewardTermSchema.shape, heldOutRewards: rewardTermSchema.shape,
    lora: loraSchema.shape, optimizer: optimizerSchema.shape, lrSchedule: lrScheduleSchema.shape, augment: augmentSchema.shape,
  };
  const place = path.filter((part) => typeof part === 'string').join('.');
  return Object.keys(shapes[place] ?? {});
}

/** One clear line for every fault of a config: where, what, expected, and the nearest known key. */
export function describeIssues(error: z.ZodError): string {
  return error.issues
    .map((issue) => {
      const where = issue.path.length > 0 ? issue.path.map(String).join('.') : 'config';
      if (issue.code === 'unrecognized_keys') {
        const names = issue.keys.map((key) => {
          const near = nearestKey(key, keysAt(issue.path));
          return near ? `"${key}" (did you mean "${near}"?)` : `"${key}"`;
        });
        return `${where}: unknown key ${names.join(', ')}`;
      }
      return `${where}: ${issue.message}`;
    })
    .join('; ');
}
