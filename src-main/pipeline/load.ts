/** Opens a model as a pipeline. Source: diffusers 0.42.1 pipelines/stable_diffusion/pipeline_stable_diffusion.py, pipelines/stable_diffusion_xl/pipeline_stable_diffusion_xl.py. */
import { basename } from 'node:path';
import { AppError, assert } from '../base/errors.ts';
import { stepping, unwatched, type Work } from '../base/work.ts';
import { scope } from '../engine/scope.ts';
import { tf, type Tensor, type Tensor4D } from '../engine/tf.ts';
import type { Engine } from '../engine/engine.ts';
import { loadClipText } from '../models/clip-text.ts';
import { rowNorms, type Adapter } from '../nn/lora.ts';
import { openModelFiles, type ModelFiles } from '../models/files.ts';
import { inFull } from '../models/part-memory.ts';
import { countTokens, plainReading } from '../models/prompt-chunks.ts';
import { expectedPooledSize, loadUNet, type UNet, type UNetInputs } from '../models/unet.ts';
import { unetConfig, type UNetConfig } from '../models/unet-config.ts';
import { loadVae, type Vae } from '../models/vae.ts';
import { openScheduler } from '../schedulers/index.ts';
import { wholeAdapter } from './adapter.ts';
import { conditioner, type TextEncoder } from './conditioning.ts';
import { correctedScheduler, isOldSampleSize } from './old-settings.ts';
import type { Conditioning, Pipeline, PipelineMemory, PromptOptions } from './pipeline.ts';

/**
 * Opens a pipeline; the caller disposes it. Headers and configs are checked now, weights are loaded at first use or by its `load`.
 * @param options.name shown for the model, its folder's name if left out
 * @param options.memory how its parts are kept; if left out, everything in full and loaded at once, as `work` tells
 * @throws AppError('weights'): one line naming file, key, expected and found
 */
export async function openPipeline(engine: Engine, path: string, options: { name?: string; memory?: PipelineMemory; work?: Work } = {}): Promise<Pipeline> {
  const files = openModelFiles(path);
  unetConfig(files.config('unet')); // refuses other networks before anything else
  const memory = options.memory ?? allInFull;
  const encoders = (files.architecture === 'sdxl' ? ['text_encoder', 'text_encoder_2'] as const : ['text_encoder'] as const).map((name): TextEncoder => {
    const model = loadClipText(engine, files, name, memory.text);
    return { model, tokenizer: files.tokenizer(name, model.config.positions) };
  });
  const unet = loadUNet(engine, files, memory.unet);
  const vae = loadVae(engine, files, memory.vae);
  checkFit(files, encoders, unet, vae);
  const pipeline = buildPipeline({ engine, files, name: options.name ?? basename(files.path), encoders, unet, vae, leave: memory.leave });
  try {
    if (!options.memory) await pipeline.load(options.work);
    return pipeline;
  } catch (error) {
    pipeline.dispose();
    throw error;
  }
}

const allInFull: PipelineMemory = { unet: inFull, vae: inFull, text: 'float32', leave: new Set() };

/** The parts must fit each other, or the first step would fail with a riddle. */
function checkFit(files: ModelFiles, encoders: readonly TextEncoder[], unet: UNet, vae: Vae): void {
  const refuse = (what: string): AppError => new AppError('weights', `The parts of ${files.path} do not fit each other: ${what}.`);
  const xl = files.architecture === 'sdxl';
  if (!unet.config.added === xl) throw refuse(xl ? 'the UNet has no addition_embed_type "text_time", as SDXL has' : 'the UNet has SDXL\'s addition_embed_type "text_time", the pipeline one text encoder');
  const widths = encoders.map((encoder) => encoder.model.config.width);
  const width = widths.reduce((sum, each) => sum + each);
  for (const level of [...unet.config.down, unet.config.mid, ...unet.config.up]) {
    if (level.attention && level.crossDim !== width) throw refuse(`the UNet's cross_attention_dim is ${level.crossDim}, the text encoder${xl ? 's give' : ' gives'} ${widths.join(' + ')}`);
  }
  const [pooled, given] = [expectedPooledSize(unet.config), encoders.at(-1)!.model.config.projection];
  if (xl && pooled !== given) throw refuse(`the UNet expects a pooled embedding of ${pooled}, text_encoder_2 gives ${given}`);
  if (unet.config.inChannels !== vae.config.latentChannels || unet.config.outChannels !== vae.config.latentChannels) {
    throw refuse(`the UNet takes ${unet.config.inChannels} channels and gives ${unet.config.outChannels}, the VAE has ${vae.config.latentChannels}`);
  }
  if (vae.config.inChannels !== 3 || vae.config.outChannels !== 3) throw refuse(`the VAE's pictures have ${vae.config.outChannels} channels, expected 3`);
  const limits = encoders.map((encoder) => encoder.tokenizer.limit);
  if (limits.some((limit) => limit !== limits[0])) throw refuse(`the tokenizers' lengths are ${limits.join(' and ')}, expected the same`);
}

interface Loaded {
  engine: Engine; files: ModelFiles; name: string; encoders: readonly TextEncoder[]; unet: UNet; vae: Vae;
  leave: PipelineMemory['leave'];
}

/** Latent cells of a side where the UNet's config leaves sample_size open. */
const usualCells = { sd1: 64, sd2: 64, sdxl: 128 } as const;

/** diffusers corrects old settings where it loads SD 1.x and 2.x. */
function isCorrected({ architecture, index }: ModelFiles): boolean {
  return architecture !== 'sdxl' && String(index['_class_name']).startsWith('StableDiffusion');
}

/** The model's own picture size in pixels. @param factor pixels per latent cell */
export function ownPictureSize(files: ModelFiles, config: UNetConfig, factor: number): { width: number; height: number } {
  const cells = isCorrected(files) && isOldSampleSize(files.config('unet').values) ? null : config.sampleSize;
  const [height, width] = cells ?? [usualCells[files.architecture], usualCells[files.architecture]];
  return { width: width * factor, height: height * factor };
}

function buildPipeline({ engine, files, name, encoders, unet, vae, leave }: Loaded): Pipeline {
  const { architecture } = files;
  const xl = architecture === 'sdxl';
  const corrected = isCorrected(files);
  const own = ownPictureSize(files, unet.config, vae.factor);
  const all = [...encoders.map((encoder) => encoder.model), unet, vae];
  const sum = (of: (part: { parameters: number; bytes: number }) => number): number => all.reduce((total, part) => total + of(part), 0);
  const info: Pipeline['info'] = {
    name, path: files.path, architecture, vaeFactor: vae.factor, latentChannels: vae.config.latentChannels, scalingFactor: vae.config.scalingFactor,
    defaultWidth: own.width, defaultHeight: own.height,
    parameters: sum((part) => part.parameters), weightBytes: sum((part) => part.bytes),
  };
  const embeddings = conditioner({
    encoders, xl, zeroEmpty: xl && files.index['force_zeros_for_empty_prompt'] !== false, guidanceDim: unet.config.timeCondDim,
  });
  /** Runs `work` with parts that leave afterwards if they do not stay. */
  const visit = <T>(part: 'textEncoders' | 'vae', models: ReadonlyArray<{ release(): void }>, work: () => T): T => {
    try {
      return work();
    } finally {
      if (leave.has(part)) for (const model of models) model.release();
    }
  };
  const textModels = encoders.map((encoder) => encoder.model);
  const prompting = <T>(promptOptions: PromptOptions, work: () => T): T => {
    checkSize(promptOptions.width, promptOptions.height, vae.factor);
    checkSizeConditioning(files, promptOptions);
    return visit('textEncoders', textModels, work);
  };
  return {
    info, engine,
    async load(work = unwatched) {
      const staying = [...(leave.has('textEncoders') ? [] : textModels), unet, ...(leave.has('vae') ? [] : [vae])];
      await stepping(work, 'loading the model', staying.reduce((bytes, model) => bytes + model.bytes, 0), loadingAll(staying), (bytes) => bytes);
    },
    dispose() {
      for (const model of all) model.release();
    },
    scheduler: (scheduler, steps, eta) => openScheduler(scheduler, steps, corrected ? correctedScheduler(files.scheduler.config, scheduler) : files.scheduler.config, files.scheduler.path, eta),
    countTokens: (prompt, reading) => countTokens(encoders.map((encoder) => encoder.tokenizer), prompt, { ...plainReading, ...reading }),
    encodePrompts: (prompts, options) => prompting(options, () => embeddings.encode(prompts, options)),
    embedPrompts: (prompts, options) => prompting(options, () => embeddings.embed(prompts, options)),
    rememberPrompts: (prompts, options) => prompting(options, () => embeddings.remember(prompts, options)),
    predictBranches: (adapter, latents, timestep, conditioning) => scope(() =>
      unet.forward(adapter, { sample: branchesOf(latents, conditioning), timestep, ...networkConditions(toldBy(adapter, conditioning)) })),
    bind(adapter, conditioning) {
      const told = scope(() => networkConditions(toldBy(adapter, conditioning)));
      const bound = unet.bind(adapter, told);
      const borrowed = new Set<unknown>(Object.values(conditioning));
      return {
        predict: (latents, timestep) => scope(() => guide(bound.forward(branchesOf(latents, conditioning), timestep), conditioning)),
        dispose() {
          bound.dispose();
          for (const tensor of Object.values(told)) if (!borrowed.has(tensor)) tensor?.dispose();
        },
      };
    },
    guide: (branches, conditioning) => guide(branches, conditioning),
    decode: (latents) => visit('vae', [vae], () => vae.decode(latents)),
    encode: (images) => visit('vae', [vae], () => vae.encode(images)),
    loraTargets: (targets) => unet.loraTargets(targets),
    ownAdapter: () => wholeAdapter(unet.weights),
    rowNorms: (part, path) => scope(() => {
      const { weights } = part === 'unet' ? unet : encoders[part === 'text_encoder' ? 0 : 1]!.model;
      return rowNorms(weights[`${path}.weight`]!);
    }),
    loraModules: () => ({
      unet: unet.loraTargets(), text_encoder: encoders[0]!.model.loraTargets(), ...(encoders[1] && { text_encoder_2: encoders[1].model.loraTargets() }),
    }),
  };
}

/** Loads parts one after the other: yields the bytes loaded so far. */
function* loadingAll(models: ReadonlyArray<{ readonly bytes: number; loading(): Generator<number, void> }>): Generator<number, void> {
  let before = 0;
  for (const model of models) {
    for (const bytes of model.loading()) yield before + bytes;
    before += model.bytes;
  }
}

/** The conditioning with the adapter's embeddings of the text in place of its own. */
function toldBy(adapter: Adapter | null, conditioning: Conditioning): Conditioning {
  if (!adapter?.text) return conditioning;
  const shapes = conditioning as unknown as Readonly<Record<string, Tensor>>;
  return { ...conditioning, ...Object.fromEntries(Object.entries(adapter.text).map(([name, rows]) => [name, tf.reshape(rows, shapes[name]!.shape)])) };
}

/** What the network sees: latents once, or for both branches. */
function branchesOf(latents: Tensor4D, { promptEmbeds, negativePromptEmbeds }: Conditioning): Tensor4D {
  assert(latents.shape[0] === promptEmbeds.shape[0], () => `predictBranches: ${latents.shape[0]} latents with ${promptEmbeds.shape[0]} prompts`);
  return negativePromptEmbeds ? tf.concat([latents, latents], 0) : latents;
}

/** What the network is told, for both branches in one batch (unconditional first) where there are two. */
function networkConditions(conditioning: Conditioning): Omit<UNetInputs, 'sample' | 'timestep'> {
  const { promptEmbeds: text, pooledPromptEmbeds: pooled, addTimeIds: timeIds, guidanceEmbeds, negativePromptEmbeds: noText, negativePooledPromptEmbeds: noPooled } = conditioning;
  if (!noText) return { text, pooled, timeIds, guidance: guidanceEmbeds };
  return { text: tf.concat([noText, text], 0), pooled: pooled && noPooled && tf.concat([noPooled, pooled], 0), timeIds: timeIds && tf.concat([timeIds, timeIds], 0) };
}

/** u + s (c - u). */
function guide(branches: Tensor4D, conditioning: Conditioning): Tensor4D {
  if (!conditioning.negativePromptEmbeds) return scope(() => tf.clone(branches));
  return scope(() => {
    const [unconditional, conditional] = tf.split(branches, 2, 0) as [Tensor4D, Tensor4D];
    return tf.add(unconditional, tf.mul(tf.sub(conditional, unconditional), conditioning.guidance));
  });
}

/** Only SDXL is told of sizes; elsewhere they would be silently of no effect. */
function checkSizeConditioning({ architecture, path }: ModelFiles, options: PromptOptions): void {
  if (architecture === 'sdxl') return;
  for (const key of ['originalSize', 'cropTopLeft', 'targetSize'] as const) {
    if (options[key]) throw new AppError('config', `${key} is ${options[key].join(', ')}, but ${path} is of the architecture ${architecture}: only SDXL is told of sizes.`, { hint: 'Leave it out.' });
  }
}

function checkSize(width: number, height: number, factor: number): void {
  for (const [side, pixels] of [['width', width], ['height', height]] as const) {
    if (!Number.isSafeInteger(pixels) || pixels < factor || pixels % factor !== 0) {
      const near = Number.isFinite(pixels) ? Math.max(factor, Math.round(pixels / factor) * factor) : factor;
      throw new AppError('config', `The ${side} is ${pixels} pixels, expected a multiple of ${factor} for this model.`, { hint: `The nearest is ${near}.` });
    }
  }
}
