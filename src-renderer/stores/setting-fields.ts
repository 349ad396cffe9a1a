/** Every setting of a run with the words the form shows: unit, what it does, what too little and too much look like. */
import { ALGORITHMS, ENGINES, LONG_PROMPTS, LORA_METHODS, OPTIMIZERS, PROMPT_SYNTAXES, runConfigSchema, SCHEDULERS, TRAINED, type RunConfig } from '#contract/run.ts';

export interface SettingField {
  path: string; label: string; group: string; unit?: string; what: string; less?: string; more?: string;
  kind: 'number' | 'optional-number' | 'select' | 'text' | 'numbers' | 'sizes' | 'words' | 'switch';
  step?: number; min?: number; max?: number; options?: readonly string[]; placeholder?: string;
  /** What each option is and when to take it, shown under the chosen one. */
  says?: Readonly<Record<string, string>>;
}

export const GROUPS = ['Training', 'Sampling', 'Which steps are trained', 'LoRA', 'Optimiser', 'Samples and checkpoints', 'Machine'] as const;

const ALGORITHM_WORDS: Readonly<Record<RunConfig['algorithm'], string>> = {
  drtune: 'A few evenly spread steps learn, the early ones too. The one to begin with: it reaches layout and symmetry.',
  refl: 'One step near the end learns, from a predicted picture. Quick; needs an early stop. For rewards of detail.',
  'draft-k': 'The last K steps learn as one chain. Strong on style and preference, blind to layout.',
  'draft-lv': 'The last step learns, also from the picture noised again. The cheapest; for preference rewards.',
  alignprop: 'As draft-k, with a number of last steps drawn anew each time. Reaches layout, slower.',
  full: 'Every step learns as one chain. Exact and the slowest; early steps make it unsteady.',
  srpo: 'The finished picture is noised to a step and brought back by one: early steps learn at low cost.',
  nft: 'Learns from scores alone, pictures of one prompt against each other: for rewards without a gradient. Batch 8 or more, guidance 1; slow.',
};

const OPTIMIZER_WORDS: Readonly<Record<RunConfig['optimizer']['kind'], string>> = {
  adamw: 'The usual one.',
  adamw8bit: 'As adamw, its own memory rounded to a quarter. For large ranks or the whole UNet.',
  adafactor: 'Needs almost no memory of its own; no momentum. For large ranks.',
  prodigy: 'Finds its step size by itself: leave the learning rate at 1. Slow in the first 20 iterations.',
};

const TRAINED_WORDS: Readonly<Record<RunConfig['train'], string>> = {
  lora: 'Small add-on weights; the model stays as it is.',
  full: 'Every weight of the UNet: seven times its size in memory, and a learning rate a tenth of a LoRA’s. Exported as a whole model.',
};
const METHOD_WORDS: Readonly<Record<RunConfig['lora']['method'], string>> = {
  lora: 'The usual one; every program reads it.',
  dora: 'A LoRA that learns the size of each output apart from its direction: more from a small rank, slower iterations.',
  lokr: 'A Kronecker product of small matrices: smaller files. Read by PEFT, ComfyUI and A1111, not by diffusers.',
};

export const SETTING_FIELDS: readonly SettingField[] = [
  { path: 'iterations', label: 'Iterations', group: 'Training', kind: 'number', min: 1, what: 'How many times the weights change.', less: 'hardly any difference to the base', more: 'the reward gets gamed: blank, garish or all-alike pictures' },
  { path: 'batch', label: 'Batch', group: 'Training', unit: 'pictures', kind: 'number', min: 1, what: 'Pictures painted and scored together in one pass.', less: 'a noisy reward curve', more: 'memory runs out' },
  { path: 'accumulate', label: 'Accumulate', group: 'Training', unit: 'passes', kind: 'number', min: 1, what: 'Passes added up before the weights change: a larger batch without more memory.', less: 'a noisy reward curve', more: 'slow iterations' },
  { path: 'kl', label: 'Stay near the base', group: 'Training', kind: 'number', min: 0, step: 0.05, what: 'Weight of the distance to the base model’s noise prediction.', less: 'the pictures drift away from the prompt', more: 'nothing changes' },
  { path: 'augment.crop', label: 'Random crop', group: 'Training', unit: 'pixels', kind: 'number', min: 0, what: 'In training, rewards see a random part of each picture, smaller by this many pixels; 0 is the whole. It keeps a model from answering to one pixel grid.', less: 'grid patterns that only the reward sees', more: 'the reward judges cut pictures' },
  { path: 'ema', label: 'Averaging (EMA)', group: 'Training', kind: 'number', min: 0, step: 0.005, what: 'Decay of a running average of the weights, used for samples and export; 0 is off.', less: 'jumpy results from step to step', more: 'results lag far behind the training' },
  { path: 'seed', label: 'Seed', group: 'Training', kind: 'number', min: 0, what: 'The same seed and settings give the same run.' },
  { path: 'steps', label: 'Sampling steps, T', group: 'Sampling', unit: 'steps', kind: 'number', min: 1, what: 'Steps from noise to picture.', less: 'soft, unfinished pictures', more: 'slow, with no better pictures' },
  { path: 'guidance', label: 'Guidance', group: 'Sampling', kind: 'number', min: 0, step: 0.5, what: 'How strictly the prompt is followed; 1 is off and twice as fast.', less: 'pictures ignore the prompt', more: 'burnt colours' },
  { path: 'guidanceRange', label: 'Guidance drawn from', group: 'Sampling', unit: 'low, high', kind: 'numbers', what: 'Training draws its guidance from this range each time, so that the result holds at any; samples keep the guidance above. Empty is off.', placeholder: 'off' },
  { path: 'scheduler', label: 'Sampler', group: 'Sampling', kind: 'select', options: SCHEDULERS, what: 'The rule that goes from noise to picture. ddim: the one DRTune was made with. euler: as good, and what SDXL-Turbo expects with 1 to 4 steps and no guidance. euler-a: fresh noise at each step, more varied detail. dpmpp2m, dpmpp2m-karras: good pictures in fewer steps, 10 to 25. lcm, tcd: only for distilled models, or with an LCM or TCD LoRA; 4 to 8 steps, guidance 1 to 2.' },
  { path: 'eta', label: 'Fresh noise (eta)', group: 'Sampling', kind: 'number', min: 0, max: 1, step: 0.1, what: 'Share of fresh noise each step of ddim or tcd takes; the other samplers do not look at it. 0 is none, 0.3 is usual with tcd.', less: 'details stay soft with tcd', more: 'rougher pictures, noisier gradients' },
  { path: 'negativePrompt', label: 'Negative prompt', group: 'Sampling', kind: 'text', what: 'What the pictures should not show.', placeholder: 'none' },
  { path: 'longPrompts', label: 'Long prompts', group: 'Sampling', kind: 'select', options: LONG_PROMPTS, what: 'What happens to a prompt longer than the model reads at once (77 tokens). truncate: its end is cut off, as in diffusers. chunk: it is read in pieces one after another, as in A1111.' },
  { path: 'promptSyntax', label: 'Prompt syntax', group: 'Sampling', kind: 'select', options: PROMPT_SYNTAXES, what: 'plain: brackets are ordinary letters. a1111: (word) and (word:1.3) count more, [word] counts less, \\( is a bracket, BREAK starts a new chunk where long prompts are read in chunks. Rewards read the prompt without these marks.' },
  { path: 'clipSkip', label: 'Clip skip', group: 'Sampling', unit: 'layers', kind: 'number', min: 0, what: 'Last layers of the text encoder that are left out, as diffusers counts; A1111 calls 1 “clip skip 2”. For models trained that way.', less: 'the prompt is read as the model’s makers meant it', more: 'the prompt is read more and more loosely' },
  { path: 'originalSize', label: 'Original size', group: 'Sampling', unit: 'width, height', kind: 'numbers', what: 'Only for SDXL: the size it is told the picture had before cropping; the picture’s own if left empty.', less: 'pictures look like enlarged small ones', placeholder: 'the picture’s' },
  { path: 'cropTopLeft', label: 'Crop', group: 'Sampling', unit: 'top, left', kind: 'numbers', what: 'Only for SDXL: where it is told the picture was cropped; 0, 0 if left empty.', more: 'objects are off centre or cut off', placeholder: '0, 0' },
  { path: 'targetSize', label: 'Target size', group: 'Sampling', unit: 'width, height', kind: 'numbers', what: 'Only for SDXL: the size it is told to aim at; the picture’s own if left empty.', placeholder: 'the picture’s' },
  { path: 'width', label: 'Width', group: 'Sampling', unit: 'pixels', kind: 'optional-number', min: 8, step: 8, what: 'Picture width; the model’s own size if left empty.', less: 'objects are cut off', more: 'memory runs out, objects repeat' },
  { path: 'height', label: 'Height', group: 'Sampling', unit: 'pixels', kind: 'optional-number', min: 8, step: 8, what: 'Picture height; the model’s own size if left empty.', less: 'objects are cut off', more: 'memory runs out, objects repeat' },
  { path: 'sizes', label: 'Sizes drawn from', group: 'Sampling', unit: 'w x h, ...', kind: 'sizes', what: 'Training draws the size of each iteration from this list, such as 512x512, 512x768, so that the result holds at all of them; samples keep width and height. Empty is off.', placeholder: 'off' },
  { path: 'algorithm', label: 'Algorithm', group: 'Which steps are trained', kind: 'select', options: ALGORITHMS, says: ALGORITHM_WORDS, what: 'How the reward’s gradient reaches the model.' },
  { path: 'trainedSteps', label: 'Trained steps, K', group: 'Which steps are trained', unit: 'steps', kind: 'number', min: 1, what: 'Sampling steps that learn in each iteration.', less: 'slow, uneven progress', more: 'each iteration takes longer' },
  { path: 'earlyStop', label: 'Early stop, m', group: 'Which steps are trained', unit: 'steps', kind: 'number', min: 0, what: 'The picture is predicted from one of the last m steps instead of the very last; 0 is never.', less: 'every iteration pays for all steps', more: 'the reward sees blurred predictions' },
  { path: 'trainedStepList', label: 'Trained steps by hand', group: 'Which steps are trained', kind: 'numbers', what: 'Exact steps, counted from the end (1 is the last), instead of K drawn ones.', placeholder: 'drawn' },
  { path: 'earlyStopStep', label: 'Early stop by hand', group: 'Which steps are trained', unit: 'steps', kind: 'optional-number', min: 0, what: 'The exact step the picture is predicted from, instead of a drawn one; 0 is none.' },
  { path: 'rewardOn', label: 'Reward on', group: 'Which steps are trained', kind: 'select', options: ['prediction', 'x0'], what: 'Only for drtune with an early stop. prediction: the reward sees the picture predicted there. x0: sampling runs to the end and the reward sees the true picture; slower, often better.' },
  { path: 'renoise', label: 'Noised again', group: 'Which steps are trained', unit: 'times', kind: 'number', min: 0, what: 'Only for draft-lv: how often the finished picture is noised again to learn from.', less: 'a noisy gradient', more: 'slow iterations' },
  { path: 'worstCase', label: 'Worst-case push', group: 'Which steps are trained', kind: 'number', min: 0, step: 0.5, what: 'Before the reward’s gradient is taken, pixels move this far, all together, towards a worse reward; 0 is off. It makes gaming the reward harder. At 512 pixels, 1 to 10.', less: 'no effect', more: 'the reward hardly rises' },
  { path: 'train', label: 'What is trained', group: 'LoRA', kind: 'select', options: TRAINED, says: TRAINED_WORDS, what: 'Add-on weights, or the network itself.' },
  { path: 'lora.method', label: 'Form', group: 'LoRA', kind: 'select', options: LORA_METHODS, says: METHOD_WORDS, what: 'What the add-on weights look like.' },
  { path: 'lora.rank', label: 'Rank', group: 'LoRA', kind: 'number', min: 1, what: 'How much the add-on weights can express.', less: 'cannot follow the reward', more: 'large files, quicker gaming of the reward' },
  { path: 'lora.alpha', label: 'Alpha', group: 'LoRA', kind: 'optional-number', min: 0, step: 1, what: 'Strength is alpha / rank; equal to the rank if left empty.', less: 'slow learning', more: 'unstable learning' },
  { path: 'lora.rankStabilized', label: 'Rank-stabilised', group: 'LoRA', kind: 'switch', what: 'Strength is alpha / √rank instead (rsLoRA): large ranks learn as fast as small ones.' },
  { path: 'lora.factor', label: 'LoKr factor', group: 'LoRA', kind: 'number', min: -1, what: 'Only for lokr: size of its first matrix; -1 is near the square root of the layer’s.', less: 'larger files', more: 'a coarser first matrix' },
  { path: 'lora.rankDropout', label: 'Rank dropout', group: 'LoRA', kind: 'number', min: 0, max: 1, step: 0.1, what: 'Share of the ranks that each training pass leaves out, so that the others do not lean on them.', less: 'quicker gaming of the reward', more: 'slow learning' },
  { path: 'lora.textEncoder', label: 'Text encoders too', group: 'LoRA', kind: 'switch', what: 'The model’s reading of prompts learns as well: stronger on words it misunderstands, quicker to lose what it knew.' },
  { path: 'lora.targets', label: 'Where', group: 'LoRA', kind: 'words', what: 'Endings of the layers that get add-on weights: to_q, to_k, to_v and to_out.0 are the usual ones of attention; proj_in, ff.net.2, conv1 and the like work too.' },
  { path: 'lora.initFile', label: 'Start from a file', group: 'LoRA', kind: 'text', what: 'A LoRA of diffusers, PEFT or kohya whose UNet weights are the starting point; it may adapt no other layers than those.', placeholder: 'none' },
  { path: 'optimizer.kind', label: 'Optimiser', group: 'Optimiser', kind: 'select', options: OPTIMIZERS, says: OPTIMIZER_WORDS, what: 'How a gradient becomes a change to the weights.' },
  { path: 'optimizer.lr', label: 'Learning rate', group: 'Optimiser', unit: 'per step', kind: 'number', min: 0, step: 0.0001, what: 'Size of each change to the weights. With prodigy a factor on the size it finds: 1.', less: 'the reward stays flat', more: 'the pictures collapse within a few iterations' },
  { path: 'optimizer.clipNorm', label: 'Gradient clip', group: 'Optimiser', kind: 'number', min: 0, step: 0.1, what: 'Longest gradient that is let through; 0 is no limit.', less: 'slow learning', more: 'single pictures can throw the model off' },
  { path: 'optimizer.weightDecay', label: 'Weight decay', group: 'Optimiser', kind: 'number', min: 0, step: 0.0001, what: 'Pulls the add-on weights back to zero a little at each step.', more: 'nothing is learnt' },
  { path: 'optimizer.betas', label: 'Betas', group: 'Optimiser', kind: 'numbers', what: 'Memory of the gradient’s mean and of its square.' },
  { path: 'optimizer.eps', label: 'Epsilon', group: 'Optimiser', kind: 'number', min: 0, step: 1e-9, what: 'Keeps divisions finite. Leave it.' },
  { path: 'lrSchedule.kind', label: 'Learning-rate schedule', group: 'Optimiser', kind: 'select', options: ['constant', 'cosine', 'linear'], what: 'How the learning rate goes down over the run.' },
  { path: 'lrSchedule.warmup', label: 'Warm-up', group: 'Optimiser', unit: 'iterations', kind: 'number', min: 0, what: 'The learning rate rises from zero over this many iterations.', less: 'a rough start', more: 'time lost' },
  { path: 'sampleEvery', label: 'Sample every', group: 'Samples and checkpoints', unit: 'iterations', kind: 'number', min: 0, what: 'How often sample pictures are painted; 0 is only at start and end.', less: 'much time goes into pictures', more: 'you see a collapse late' },
  { path: 'samplePrompts', label: 'Pictures a sample', group: 'Samples and checkpoints', unit: 'prompts', kind: 'number', min: 0, what: 'Prompts painted at each sample point, held-out ones first.', less: 'the held-out score is noisy', more: 'sampling takes long' },
  { path: 'diversitySeeds', label: 'Seeds for diversity', group: 'Samples and checkpoints', unit: 'pictures', kind: 'number', min: 0, what: 'More seeds of the first sampled prompt, painted at each sample point to see whether seeds still make a difference; they are not shown. 0 is never.', less: 'pictures that become all alike go unseen', more: 'sampling takes longer' },
  { path: 'keepCheckpoints', label: 'Keep', group: 'Samples and checkpoints', unit: 'checkpoints', kind: 'number', min: 0, what: 'How many of the newest checkpoints stay on the disk, and the best besides; 0 is all of them, otherwise at least 2.', more: 'the disk fills' },
  { path: 'checkpointEvery', label: 'Checkpoint every', group: 'Samples and checkpoints', unit: 'iterations', kind: 'number', min: 0, what: 'How often the weights are written; 0 is only at the end.', less: 'more disk', more: 'more is lost if the power fails' },
  { path: 'engine', label: 'Engine', group: 'Machine', kind: 'select', options: ENGINES, what: 'What computes. Auto takes the fastest engine that passed its probe, and says which.' },
  { path: 'memory', label: 'Memory', group: 'Machine', kind: 'select', options: ['auto', 'fast', 'low'], what: 'Fast keeps more in memory; low computes again instead.' },
];

export const DEFAULTS: Record<string, unknown> = runConfigSchema.parse({ prompts: ['a'], rewards: [{ name: 'a' }] });

export function getAt(object: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], object);
}

/** A copy of the object with the value at the path; undefined takes the key out. */
export function setAt<T extends object>(object: T, path: string, value: unknown): T {
  const [key, ...rest] = path.split('.') as [string, ...string[]];
  const copy = { ...object } as Record<string, unknown>;
  if (rest.length > 0) copy[key] = setAt((copy[key] ?? {}) as object, rest.join('.'), value);
  else if (value === undefined) delete copy[key];
  else copy[key] = value;
  return copy as T;
}

export function isDefault(config: unknown, path: string): boolean {
  return JSON.stringify(getAt(config, path)) === JSON.stringify(getAt(DEFAULTS, path));
}

/** The config with one setting changed, and what that setting rules out or needs brought along. */
export function withSetting<T extends object>(config: T, path: string, value: unknown): T {
  let next = setAt(config, path, value);
  if (path === 'algorithm' && value !== 'drtune') {
    const wanted = value === 'refl' ? Number(getAt(next, 'earlyStop')) || Math.max(1, Math.round(Number(getAt(next, 'steps')) / 4)) : 0;
    next = setAt(setAt(next, 'earlyStop', wanted), 'earlyStopStep', undefined);
  }
  if (path === 'optimizer.kind') {
    const [was, lr] = [getAt(config, path), getAt(next, 'optimizer.lr')];
    if (value === 'prodigy' && was !== 'prodigy') next = setAt(next, 'optimizer.lr', 1);
    else if (value !== 'prodigy' && was === 'prodigy' && lr === 1) next = setAt(next, 'optimizer.lr', getAt(DEFAULTS, 'optimizer.lr'));
  }
  return next;
}

export function fieldText(value: unknown): string {
  if (Array.isArray(value) && value.every(Array.isArray)) return value.map((pair) => (pair as unknown[]).join('x')).join(', ');
  return Array.isArray(value) ? value.join(', ') : value === undefined || value === null ? '' : String(value);
}

/** What was typed, as the config wants it; NaN and odd text pass through so that the schema can say what is wrong. */
export function parseField(field: SettingField, text: string): unknown {
  const trimmed = text.trim();
  switch (field.kind) {
    case 'number': return trimmed === '' ? null : Number(trimmed);
    case 'optional-number': return trimmed === '' ? undefined : Number(trimmed);
    case 'numbers': return trimmed === '' ? undefined : trimmed.split(/[\s,;]+/).map(Number);
    case 'sizes': return trimmed === '' ? undefined : trimmed.split(/[,;]+/).map((pair) => pair.trim().split(/\s*[x×]\s*/).map(Number));
    case 'words': return trimmed.split(/[\s,;]+/).filter(Boolean);
    case 'text': return trimmed === '' ? (getAt(DEFAULTS, field.path) === undefined ? undefined : '') : text;
    case 'switch': return text === 'true';
    case 'select': return text;
  }
}
