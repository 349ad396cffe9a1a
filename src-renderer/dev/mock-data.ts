/** Invented runs, models and rewards for developing pages without a main process. Not in the production bundle. */
import type { CatalogModel, ImageRow, ModelInfo, ModelPlan, Preset, PromptSet, RewardInfo, RunDetail, RunSummary, SystemInfo } from '#contract/api.ts';
import { runConfigSchema, type RunConfig } from '#contract/run.ts';

export const PROMPTS = [
  'a 3d render of a red apple on a blue background', 'a cartoon of a cat on a green background', 'a flat icon of a sailboat on a white background',
  'a 3d render of a rocket on a black background', 'a cartoon of a house on a yellow background', 'a flat icon of a butterfly on a pink background',
];
export const HELD_OUT = ['a 3d render of a frog on a grey background', 'a cartoon of a robot on an orange background'];

export const config = (more: Partial<RunConfig> = {}): RunConfig => runConfigSchema.parse({
  model: 'starter', prompts: PROMPTS, heldOutPrompts: HELD_OUT, rewards: [{ name: 'symmetry', weight: 1 }, { name: 'clipscore', weight: 0.5 }],
  heldOutRewards: [{ name: 'colorfulness', weight: 1 }], iterations: 60, steps: 20, trainedSteps: 4, earlyStop: 6, ...more,
});

/** A picture as SVG: hue from the prompt, lopsided at step 0, symmetric at the end. */
export function picture(prompt: string, seed: number, t: number): string {
  let hash = seed * 7919;
  for (const letter of prompt) hash = (hash * 31 + letter.codePointAt(0)!) >>> 0;
  const hue = hash % 360;
  const lean = (((hash >> 4) % 40) - 20) * (1 - t);
  const shift = (((hash >> 7) % 30) - 15) * (1 - t);
  const svg = `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 128 128' width='256' height='256'><rect width='128' height='128' fill='hsl(${hue} 45% 62%)'/><g transform='translate(${64 + shift} 66) rotate(${lean})'><ellipse cx='${3 * (1 - t)}' cy='38' rx='32' ry='7' fill='#0003'/><circle r='36' fill='hsl(${(hue + 150) % 360} 60% ${48 + 8 * t}%)'/><circle cx='${-11 - 6 * (1 - t)}' cy='-12' r='9' fill='#fff8'/><circle cx='${11 + 2 * (1 - t)}' cy='${-12 + 9 * (1 - t)}' r='${9 - 3 * (1 - t)}' fill='#fff8'/><rect x='-4' y='-48' width='8' height='18' rx='3' fill='#4a3320'/></g></svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

const wave = (step: number, salt: number) => Math.sin(step * 1.7 + salt) * 0.5 + Math.sin(step * 0.61 + salt * 2) * 0.5;
export const progress = (step: number, total: number) => 1 - Math.exp((-2.6 * step) / total);

export function rewardsAt(t: number, salt: number): Record<string, number> {
  return { symmetry: -0.11 + 0.07 * t + 0.006 * wave(salt, 1), clipscore: 0.86 - 0.02 * t + 0.01 * wave(salt, 3), colorfulness: 0.32 + 0.03 * wave(salt, 5) };
}
export const measuresAt = (t: number, salt: number) => ({
  rewards: rewardsAt(t, salt), edgeDensity: 0.021 - 0.003 * t, saturation: 0.41 + 0.04 * t + 0.01 * wave(salt, 7), contrast: 0.18 - 0.01 * t, colorEntropy: 3.4 - 0.25 * t,
});
export function stepAt(step: number, total: number) {
  const t = progress(step, total);
  const terms = rewardsAt(t, step * 1.3);
  return {
    step, reward: terms['symmetry']! + 0.5 * terms['clipscore']!, terms: { symmetry: terms['symmetry']!, clipscore: terms['clipscore']! }, kl: 0.002 * t,
    gradNorm: 0.6 + 0.25 * wave(step, 2) - 0.2 * t, lr: 1e-3, stepMs: 2300 + 220 * wave(step, 4), skipped: false, memoryBytes: 1.1e9, etaSeconds: (total - step) * 2.3,
  };
}

let nextImage = 1;
export const images = new Map<number, string>();
export function imagesAt(runId: string, config: RunConfig, step: number): ImageRow[] {
  const t = step === 0 ? 0 : progress(step, config.iterations);
  const prompts = [...HELD_OUT.map((prompt) => ({ prompt, heldOut: true })), ...PROMPTS.slice(0, 3).map((prompt) => ({ prompt, heldOut: false }))];
  return prompts.map(({ prompt, heldOut }, promptIndex) => makeImage({ runId, role: step === 0 ? 'base' : 'tuned', step, prompt, promptIndex, heldOut, seed: promptIndex }, t));
}
export function makeImage(row: Pick<ImageRow, 'runId' | 'role' | 'step' | 'prompt' | 'promptIndex' | 'heldOut' | 'seed'>, t: number): ImageRow {
  const id = nextImage++;
  images.set(id, picture(row.prompt, row.seed, t));
  return { ...row, id, width: 128, height: 128, rewards: rewardsAt(t, row.promptIndex * 3 + row.seed), weights: row.role === 'base' ? 'base' : `ab${row.step}` };
}

export function detail(id: string, name: string, state: RunSummary['state'], more: { step?: number; config?: RunConfig; ago?: number; reason?: string } = {}): RunDetail {
  const cfg = more.config ?? config();
  const step = more.step ?? cfg.iterations;
  const steps = Array.from({ length: step }, (_, index) => stepAt(index + 1, cfg.iterations));
  const points = [0, ...Array.from({ length: Math.floor(step / cfg.sampleEvery) }, (_, index) => (index + 1) * cfg.sampleEvery)];
  const pictures = points.flatMap((at) => imagesAt(id, cfg, at));
  const samples = points.flatMap((at) => [true, false].map((heldOut) => ({
    step: at, role: at === 0 ? 'base' as const : 'tuned' as const, heldOut, measures: measuresAt(at === 0 ? 0 : progress(at, cfg.iterations), at + (heldOut ? 1 : 0)),
  })));
  const total = (rewards: Record<string, number>) => cfg.rewards.reduce((sum, term) => sum + term.weight * (rewards[term.name] ?? 0), 0);
  const held = samples.filter((row) => row.heldOut);
  const createdAt = Date.now() - (more.ago ?? 0);
  const first = pictures[0];
  const last = pictures.findLast((image) => image.prompt === first?.prompt && image.role === 'tuned');
  return {
    summary: {
      id, name, state, reason: more.reason ?? null, verdict: null, model: cfg.model, rewards: cfg.rewards.map(({ name: reward, weight }) => ({ name: reward, weight })), engine: 'tensorflow', step, iterations: cfg.iterations,
      createdAt, startedAt: createdAt, finishedAt: state === 'running' ? null : createdAt + step * 2300, seconds: step * 2.3, rewardFirst: steps[0]?.reward ?? null, rewardLast: steps.at(-1)?.reward ?? null,
      heldOutBase: held[0] ? total(held[0].measures.rewards) : null, heldOutLast: held.length > 1 ? total(held.at(-1)!.measures.rewards) : null,
      sparkline: steps.filter((_, index) => index % 3 === 0).map((row) => row.reward), thumbnails: first && last ? { base: first.id, tuned: last.id } : null,
      diskBytes: 8.4e6, note: '', favourite: id === 'r1', deletedAt: null, tags: id === 'r1' ? ['good'] : [],
    },
    config: cfg, lastSeq: 0, steps, images: pictures, samples,
    checkpoints: points.filter((at) => at > 0 && at % 20 === 0).map((at) => ({ step: at, file: `checkpoints/step-${at}.safetensors`, sha256: '9f2c'.repeat(16), bytes: 1_240_000 })),
    alarms: id === 'r2' ? [{ step: 30, kind: 'edge-density', message: 'Edge density fell by 46 % since the base pictures: the pictures are going blank.', remedy: 'Add CLIPScore at 0.5, or stop and keep the checkpoint of step 20.' }] : [],
    log: ['started on tensorflow 2.21, CPU with 2 cores: fastest engine that passed its probe', 'base pictures made'], phase: null, folder: `/home/you/.drtune/runs/${id}`,
  };
}

const rewardList: (Omit<RewardInfo, 'usesPrompt' | 'gradientFree' | 'takes' | 'mayTake' | 'memory' | 'examples'>)[] = [
  { name: 'symmetry', title: 'Symmetry', what: 'How alike the picture and its left-right mirror image are.', habit: 'Alone it erases the object: a blank picture is perfectly symmetric.', needs: 'Nothing', licence: 'Part of the app', usable: true, problem: null, range: '−1 to 0', color: '#0f9d8a', needsModel: false },
  { name: 'compressibility', title: 'Compressibility', what: 'How small the picture becomes as a JPEG.', habit: 'Alone it flattens everything to one colour.', needs: 'Nothing', licence: 'Part of the app', usable: true, problem: null, range: 'about −4 to 0 bits a pixel', color: '#b7791f', needsModel: false },
  { name: 'clipscore', title: 'CLIPScore', what: 'How well the picture fits its prompt, by CLIP.', habit: 'Exaggerates: repeats the object, bakes words into the picture.', needs: "The starter's CLIP, or a CLIP folder", licence: 'Apache-2.0', usable: true, problem: null, range: '0 to 1', color: '#7b61d1', needsModel: false },
  { name: 'brightness', title: 'Brightness', what: 'The mean lightness of the picture.', habit: 'Burns out to white.', needs: 'Nothing', licence: 'Part of the app', usable: true, problem: null, range: '0 to 1', color: '#c9a400', needsModel: false },
  { name: 'colorfulness', title: 'Colourfulness', what: 'How varied and strong the colours are.', habit: 'Oversaturates; skin turns orange.', needs: 'Nothing', licence: 'Part of the app', usable: true, problem: null, range: '0 to about 1', color: '#d0488f', needsModel: false },
  { name: 'hpsv2.1', title: 'HPS v2.1', what: 'What people prefer, learnt from 800,000 comparisons.', habit: 'Drifts to glossy, over-detailed pictures.', needs: 'OpenCLIP ViT-H-14 folder, 3.9 GB', licence: 'Apache-2.0', usable: true, problem: null, range: 'about 0.2 to 0.4', color: '#c2572b', needsModel: true },
];
export const rewards: RewardInfo[] = rewardList.map((reward) => ({
  ...reward, usesPrompt: ['clipscore', 'hpsv2.1'].includes(reward.name), gradientFree: false, takes: [], mayTake: [], memory: reward.name === 'hpsv2.1' ? 'about 4 GB' : 'next to nothing',
  examples: reward.name === 'hpsv2.1' ? null : { low: `rewards/${reward.name}-low.webp`, high: `rewards/${reward.name}-high.webp` },
}));

export const promptSets: PromptSet[] = [
  { name: 'animals', title: 'Animals', what: '45 common animals', prompts: ['cat', 'dog', 'horse'] },
  { name: 'photo', title: 'Photo', what: '60 things, places and people as photographs', prompts: ['a photo of a wooden chair in an empty white room'] },
];

export const presets: Preset[] = [
  { name: 'demo', title: 'Teach it symmetry', what: 'The starter model learns to make symmetric pictures without losing the object.', config: config({ iterations: 40 }) },
  { name: 'colour', title: 'Stronger colours', what: 'Colourfulness held in check by CLIPScore.', config: config({ rewards: [{ name: 'colorfulness', weight: 1 }, { name: 'clipscore', weight: 0.5 }] }) },
];

export const models: ModelInfo[] = [
  { name: 'starter', path: 'resources/starter', architecture: 'SDXL, small', usable: true, problem: null, width: 128, height: 128, bytes: 22e6, precision: 'fp16', parameters: 9.4e6, licence: 'Apache-2.0', builtIn: true, lastUsed: Date.now() - 4e6, picture: 'starter/sample.png', missing: false, origin: null },
  { name: 'sdxl-base-1.0', path: '/data/models/stable-diffusion-xl-base-1.0', architecture: 'SDXL', usable: true, problem: null, width: 1024, height: 1024, bytes: 6.9e9, precision: 'fp16', parameters: 2.6e9, licence: 'OpenRAIL++-M', builtIn: false, lastUsed: null, picture: null, missing: false, origin: null },
  { name: 'broken', path: '/data/models/broken', architecture: 'unknown', usable: false, problem: 'unet/diffusion_pytorch_model.safetensors is missing.', width: 512, height: 512, bytes: 1.2e9, precision: 'fp16', parameters: 0, licence: 'not stated', builtIn: false, lastUsed: null, picture: null, missing: false, origin: null },
];

export const catalog: CatalogModel[] = [
  {
    id: 'sdxl', title: 'SDXL 1.0 base', repo: 'stabilityai/stable-diffusion-xl-base-1.0', revision: 'main', file: null, architecture: 'sdxl', approximateBytes: 6.94e9, what: 'Pictures of 1024 pixels.', note: null,
    licence: { id: 'openrail++', link: 'https://example.com/licence', allows: 'Use, also commercial, with the listed harmful uses left out.' }, settings: { width: 1024, height: 1024, steps: 25, guidance: 5, scheduler: 'euler' }, present: null,
  },
];
export const plan: ModelPlan = {
  id: 'a--b', repo: 'a/b', revision: 'main', commit: '0123456789abcdef', file: null, variant: 'fp16', variants: ['fp16', 'plain'], files: [{ path: 'model_index.json', size: 600 }, { path: 'unet/diffusion_pytorch_model.fp16.safetensors', size: 5.1e9 }],
  bytes: 6.94e9, bytesThere: 0, freeBytes: 61e9, tooLarge: null, licence: { id: 'openrail++', link: null }, gated: false, notes: [], present: null, page: 'https://example.com/a/b',
};

export const system: SystemInfo = {
  appVersion: '0.1.0', home: '/home/you/.local/share/drtune', cpus: 2, platform: 'linux', historySchema: 20,
  engines: [
    { name: 'tensorflow', usable: true, version: '2.21', device: 'CPU, 2 cores', why: 'the fastest engine that passed its probe; no CUDA device was found', active: true },
    { name: 'webgpu', usable: false, version: '', device: '', why: 'no GPU adapter was offered', active: false },
    { name: 'wasm', usable: true, version: '4.22', device: 'CPU, 1 thread', why: 'always there; about six times slower than TensorFlow here', active: false },
  ],
  pack: { installed: true, offered: true, bytes: 268e6, bytesThere: 0, bytesNeeded: 0, file: '', notice: '', progress: null, error: null },
  memory: { usedBytes: 1.3e9, availableBytes: 5.2e9, totalBytes: 8e9 }, disk: { homeBytes: 412e6, freeBytes: 61e9 }, queue: { running: 'r0', waiting: 0 },
};
