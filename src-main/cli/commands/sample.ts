/** Pictures from prompts, as files; with --save-tensors also what led to them. */
import { join, resolve } from 'node:path';
import { writeWhole } from '../../base/atomic.ts';
import { AppError } from '../../base/errors.ts';
import { checkFolder, makeFolder } from '../../base/folder.ts';
import type { Work } from '../../base/work.ts';
import { appVersion } from '../../app/version.ts';
import { nearestKey, SCHEDULERS } from '../../contract/run.ts';
import { readFloatsSync, scope } from '../../engine/scope.ts';
import { tf, type Tensor4D } from '../../engine/tf.ts';
import { findModel, STARTER } from '../../models/known.ts';
import type { LoraSet } from '../../nn/lora.ts';
import { openPipeline } from '../../pipeline/load.ts';
import { lorasHash } from '../../pipeline/adapter.ts';
import type { Pipeline } from '../../pipeline/pipeline.ts';
import { toUnitRange } from '../../pipeline/images.ts';
import { sampleAt } from '../../pipeline/sample.ts';
import { pipelineMemory, refuseIfTooLarge } from '../../train/memory-plan.ts';
import { planSampling } from '../../train/session-plan.ts';
import { writePicture } from '../../train/samples.ts';
import { openSafetensors, writeSafetensors } from '../../weights/safetensors.ts';
import { UsageError, type Arguments } from '../arguments.ts';
import { commandEngine, type Command } from '../command.ts';
import { openLoras, parseLora } from '../lora-flag.ts';
import { onTerminal } from '../progress.ts';
import { promptFlags, promptUsage, readPromptFlags, type PromptFlags } from '../prompt-flags.ts';
import { channelsFirst, NOT_A_NUMBER } from './gradient.ts';

/** Where pictures go when nothing is said. */
const DEFAULT_OUT = 'samples';

/** Pictures that are denoised together. */
const AT_ONCE = 4;

interface Request extends PromptFlags {
  readonly prompt: string;
  readonly negativePrompt: string | null;
  readonly steps: number;
  readonly guidance: number;
  readonly scheduler: string;
  readonly eta: number;
  readonly loraFrom: number;
  readonly width: number;
  readonly height: number;
}

export const sample: Command = {
  name: 'sample',
  usage: `sample --prompt P [--model M] [--out DIR] [--negative N] [--steps T] [--guidance G] [--scheduler S] [--eta E] [--width W --height H] [--seed S] [--count C] [--lora FILE[:scale]]... [--lora-from N] [--latents FILE] ${promptUsage} [--save-tensors] [--engine NAME] [--json]`,
  what: 'Pictures as PNG with manifest.json, in ./samples if no folder is named; --save-tensors adds noise, latents and image.',
  flags: {
    model: { type: 'string' }, prompt: { type: 'string' }, negative: { type: 'string' }, steps: { type: 'string' }, guidance: { type: 'string' }, scheduler: { type: 'string' }, eta: { type: 'string' },
    width: { type: 'string' }, height: { type: 'string' }, seed: { type: 'string' }, count: { type: 'string' }, lora: { type: 'string', multiple: true }, 'lora-from': { type: 'string' }, latents: { type: 'string' },
    ...promptFlags, out: { type: 'string' }, 'save-tensors': { type: 'boolean' }, engine: { type: 'string' },
  },
  async run(context) {
    const { args, home, print } = context;
    args.allowPositionals(0);
    const [prompt, out] = [args.text('prompt') ?? args.need('prompt'), resolve(args.text('out') ?? DEFAULT_OUT)];
    const seed = args.number('seed', { min: 0, whole: true }) ?? 0;
    const wanted = args.number('count', { min: 1, max: 10_000, whole: true });
    const common = {
      prompt, negativePrompt: args.text('negative') ?? null, steps: args.number('steps', { min: 1, max: 1000, whole: true }) ?? 25,
      guidance: args.number('guidance', { min: 0 }) ?? 5, scheduler: schedulerName(args), eta: args.number('eta', { min: 0, max: 1 }) ?? 0, loraFrom: args.number('lora-from', { min: 0, whole: true }) ?? 0, ...readPromptFlags(args),
    };
    const size = { width: args.number('width', { min: 1, whole: true }), height: args.number('height', { min: 1, whole: true }) };
    const flags = args.texts('lora').map(parseLora);
    if (common.loraFrom > 0 && flags.length === 0) throw new UsageError('--lora-from is for a LoRA, and there is no --lora.');
    checkFolder(out);
    const model = findModel(home, args.text('model') ?? STARTER);
    const engine = await commandEngine(context);
    const plan = planSampling(engine, model.path, { ...size, batch: Math.min(AT_ONCE, wanted ?? 1), guided: common.guidance > 1 });
    refuseIfTooLarge(plan);
    if (plan.small) engine.beSmall();
    const pipeline = await openPipeline(engine, model.path, { name: model.name, memory: pipelineMemory(plan) });
    const { info } = pipeline;
    const loras = openLoras(flags, pipeline);
    const given = args.text('latents') === undefined ? undefined : readNoise(resolve(args.text('latents')!), info.latentChannels);
    const [, h, w] = given?.shape ?? [0, 0, 0];
    const request: Request = {
      ...common, width: size.width ?? (given ? w * info.vaeFactor : info.defaultWidth), height: size.height ?? (given ? h * info.vaeFactor : info.defaultHeight),
    };
    if (given && wanted !== undefined && wanted !== given.shape[0]) throw new AppError('config', `--count is ${wanted}, but the noise of --latents is for ${given.shape[0]} pictures.`);
    for (const [name, cells] of given ? [['width', w], ['height', h]] as const : []) {
      if (request[name] !== cells * info.vaeFactor) throw new AppError('config', `--${name} is ${request[name]}, but the noise of --latents is for ${cells * info.vaeFactor}.`, { hint: `Leave --${name} out.` });
    }
    const count = given?.shape[0] ?? wanted ?? 1;
    checkSize(request, info.vaeFactor);
    const parts = await onTerminal(context, async (work) => {
      await pipeline.load(work);
      return paintAll(pipeline, request, loras, { seed, count, noise: given }, work);
    });
    makeFolder(out);
    const images: { file: string; seed: number | null }[] = [];
    for (const picture of parts.pictures) {
      const file = `${String(images.length).padStart(3, '0')}.png`;
      await writePicture(join(out, file), picture, request.width, request.height);
      images.push({ file, seed: given ? null : seed + images.length });
    }
    if (args.flag('save-tensors')) writeSafetensors(join(out, 'tensors.safetensors'), parts.tensors, { metadata: { format: 'pt' } });
    const { tokens, limit, cut } = pipeline.countTokens(prompt, common);
    const manifest = {
      app: appVersion(), model: model.name, modelPath: model.path, ...request, seed, loras: flags, weights: flags.length > 0 ? lorasHash(loras).slice(0, 16) : 'base',
      latents: args.text('latents') ?? null, cut, engine: { name: engine.name, version: engine.version, device: engine.device, why: engine.why }, images,
    };
    writeWhole(join(out, 'manifest.json'), `${JSON.stringify(manifest, null, 1)}\n`);
    if (args.json) print(JSON.stringify({ out, ...manifest }));
    else print(`${images.length} picture${images.length === 1 ? '' : 's'} in ${out}`);
    if (!args.json && cut !== '') print(`The prompt has ${tokens}/${limit} tokens, cut: "${cut}". --long-prompts chunk reads all of it.`);
    pipeline.dispose();
    return 0;
  },
};

/** @throws AppError('config') unless both sides are multiples of the VAE's factor */
function checkSize({ width, height }: Request, factor: number): void {
  for (const [name, size] of [['width', width], ['height', height]] as const) {
    if (size % factor !== 0) throw new AppError('config', `--${name} is ${size}, expected a multiple of ${factor} for this model.`, { hint: `The nearest is ${Math.max(factor, Math.round(size / factor) * factor)}.` });
  }
}

function schedulerName(args: Arguments): string {
  const name = args.text('scheduler') ?? 'ddim';
  if ((SCHEDULERS as readonly string[]).includes(name)) return name;
  const near = nearestKey(name, SCHEDULERS);
  throw new UsageError(`There is no scheduler "${name}"${near ? `: did you mean "${near}"?` : `. There are: ${SCHEDULERS.join(', ')}.`}`);
}

/** Key `noise` [B,C,h,w] of a file, as [B,h,w,C]. @throws AppError('weights') */
function readNoise(path: string, channels: number): Tensor4D {
  using file = openSafetensors(path);
  const entry = file.entries.get('noise');
  if (!entry) throw new AppError('weights', `${path} has no tensor "noise".`, { hint: `It has: ${[...file.entries.keys()].slice(0, 8).join(', ') || 'nothing'}.` });
  if (entry.shape.length !== 4 || entry.shape[1] !== channels || entry.shape.includes(0)) throw new AppError('weights', `"noise" of ${path} is [${entry.shape}], expected [pictures,${channels},height,width].`);
  const values = file.readFloats('noise');
  if (!values.every(Number.isFinite)) throw new AppError('weights', `"noise" of ${path} has values that are no numbers.`, { hint: 'Make the file again.' });
  return scope(() => tf.transpose(tf.tensor4d(values, entry.shape as [number, number, number, number]), [0, 2, 3, 1]));
}

const isFinite = (x: Tensor4D): boolean => readFloatsSync(x).every(Number.isFinite);

interface Painted {
  /** Each [H,W,3] in [0,1]. */
  pictures: Float32Array[];
  tensors: Record<'noise' | 'latents' | 'image', ReturnType<typeof channelsFirst>>;
}

/** @param source picture i has seed + i, and starts from `noise` [B,h,w,C] where it is given */
async function paintAll(pipeline: Pipeline, request: Request, loras: LoraSet, { seed, count: total, noise }: { seed: number; count: number; noise: Tensor4D | undefined }, work: Work): Promise<Painted> {
  const parts: Record<'noise' | 'latents' | 'image', Tensor4D[]> = { noise: [], latents: [], image: [] };
  for (let from = 0; from < total; from += AT_ONCE) {
    const count = Math.min(AT_ONCE, total - from);
    const own = noise && tf.slice(noise, [from, 0, 0, 0], [count, ...noise.shape.slice(1)]) as Tensor4D;
    const { prompt, ...rest } = request;
    const result = await sampleAt(work, { what: 'painting', before: from, total }, pipeline, { ...rest, prompts: new Array<string>(count).fill(prompt), seed: seed + from, noise: own, adapter: loras.unet ?? null, textAdapters: loras });
    for (const key of ['noise', 'latents', 'image'] as const) parts[key].push(result[key]);
    if (![result.latents, result.image].every(isFinite)) throw new AppError('run', 'The pictures came out as values that are no numbers.', { hint: NOT_A_NUMBER });
  }
  return scope(() => {
    const whole = (key: keyof typeof parts): Tensor4D => tf.concat(parts[key], 0);
    const image = whole('image');
    const values = readFloatsSync(toUnitRange(image));
    const size = values.length / total;
    return {
      pictures: Array.from({ length: total }, (_, i) => values.slice(i * size, (i + 1) * size)),
      tensors: { noise: channelsFirst(whole('noise')), latents: channelsFirst(whole('latents')), image: channelsFirst(tf.clipByValue(image, -1, 1)) },
    };
  });
}
