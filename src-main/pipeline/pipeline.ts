/** A loaded text-to-image pipeline: what sampling, rewards and training need of a base model, whatever its architecture. */
import type { Work } from '../base/work.ts';
import type { Tensor3D, Tensor2D, Tensor4D } from '../engine/tf.ts';
import type { PartMemory } from '../models/part-memory.ts';
import type { Architecture } from '../models/files.ts';
import type { PromptReading, TokenCount } from '../models/prompt-chunks.ts';
import type { Adapter, LoraPart, LoraSet, LoraTarget } from '../nn/lora.ts';
import type { LoraModules } from './lora/names.ts';
import type { Scheduler } from '../schedulers/scheduler.ts';
import type { Precision } from '../weights/load.ts';
import type { Engine } from '../engine/engine.ts';

/** Everything the network is told besides latents and timestep; owned by the caller of `encodePrompts`. */
export interface Conditioning {
  /** [B,N,D] of the prompts. */
  readonly promptEmbeds: Tensor3D;
  /** [B,P] of the prompts; null but for SDXL. */
  readonly pooledPromptEmbeds: Tensor2D | null;
  /** The same of the negative prompt; null with guidance 1 or less, and for networks that are told the guidance. */
  readonly negativePromptEmbeds: Tensor3D | null;
  readonly negativePooledPromptEmbeds: Tensor2D | null;
  /** [B,6] (original height, width, crop top, left, target height, width); null but for SDXL. */
  readonly addTimeIds: Tensor2D | null;
  /** [B,E] the guidance as networks distilled from guided sampling are told it (LCM); null for the others. */
  readonly guidanceEmbeds: Tensor2D | null;
  readonly guidance: number;
  dispose(): void;
}

export interface PipelineInfo {
  readonly name: string;
  readonly path: string;
  readonly architecture: Architecture;
  /** Pixels per latent cell, e.g. 8. */
  readonly vaeFactor: number;
  readonly latentChannels: number;
  readonly scalingFactor: number;
  /** The model's own picture size in pixels. */
  readonly defaultWidth: number;
  readonly defaultHeight: number;
  readonly parameters: number;
  readonly weightBytes: number;
}

/** How prompts become embeddings. All but the first four may be left out: then as diffusers does without them. */
export interface PromptOptions extends Partial<PromptReading> {
  /** null: none was given, which for SDXL stands for zeros (force_zeros_for_empty_prompt), else for "". */
  readonly negativePrompt: string | null;
  readonly guidance: number;
  /** Pixels. */
  readonly width: number;
  readonly height: number;
  /** Layers of the text encoders left out at the end, beyond what the model itself leaves out (diffusers' clip_skip, which leaves the negative prompt as it is; A1111 counts one more). */
  readonly clipSkip?: number | undefined;
  /** What SDXL is told of the picture, in pixels: its size before it was cropped (else width and height), [width, height]; */
  readonly originalSize?: readonly [number, number] | undefined;
  /** where it was cropped (else 0, 0), [top, left]; */
  readonly cropTopLeft?: readonly [number, number] | undefined;
  /** the size it is to be (else width and height), [width, height]. */
  readonly targetSize?: readonly [number, number] | undefined;
  /** LoRA of the text encoders; that of the UNet is not looked at. */
  readonly adapters?: LoraSet;
}

/** A network with adapter and conditioning; borrows both. */
export interface BoundPipeline {
  /** Guided prediction [B,h,w,C]. @param latents [B,h,w,C], already scaled for the sampler */
  predict(latents: Tensor4D, timestep: number): Tensor4D;
  dispose(): void;
}

/** How a pipeline keeps its parts in memory. */
export interface PipelineMemory {
  readonly unet: PartMemory;
  readonly vae: PartMemory;
  readonly text: Precision;
  /** Parts that leave memory when they have done their work, and are loaded again for more. */
  readonly leave: ReadonlySet<'textEncoders' | 'vae'>;
}

export interface Pipeline {
  readonly info: PipelineInfo;
  readonly engine: Engine;
  /** A sampler by product name ("ddim", "euler"), from the model's own scheduler_config.json; `eta` as openScheduler's. */
  scheduler(name: string, steps: number, eta?: number): Scheduler;
  countTokens(prompt: string, reading?: Partial<PromptReading>): TokenCount;
  encodePrompts(prompts: readonly string[], options: PromptOptions): Conditioning;
  /** The embeddings of {@link Conditioning} by name as functions of `options.adapters`, a row a token: for gradients. The caller's. */
  embedPrompts(prompts: readonly string[], options: PromptOptions): Record<string, Tensor2D>;
  /** Encodes prompts and keeps the result for encodePrompts with the same options: text encoders that do not stay are loaded once for all. */
  rememberPrompts(prompts: readonly string[], options: PromptOptions): void;
  /** Loads now what else would be loaded at first use: all parts that stay. @throws AppError('cancelled') where `work` is ended */
  load(work?: Work): Promise<void>;
  /**
   * The network on both guidance branches in one batch, not yet combined: [2B,h,w,C] (unconditional first) with guidance,
   * otherwise [B,h,w,C]. Differentiable with respect to the adapter (and latents).
   * @param latents [B,h,w,C], already scaled for the sampler
   */
  predictBranches(adapter: Adapter | null, latents: Tensor4D, timestep: number, conditioning: Conditioning): Tensor4D;
  /** The same and guided, for many steps without gradient: what does not change from step to step is computed once. */
  bind(adapter: Adapter | null, conditioning: Conditioning): BoundPipeline;
  /** Combines branches by classifier-free guidance: u + s (c - u), [B,h,w,C]. */
  guide(branches: Tensor4D, conditioning: Conditioning): Tensor4D;
  /** Latents as sampled [B,h,w,C] -> picture [B,H,W,3] in about [-1,1] (not clamped). Differentiable. */
  decode(latents: Tensor4D): Tensor4D;
  /** Picture [B,H,W,3] in [-1,1] -> mean latents times scaling factor [B,h,w,C]. */
  encode(images: Tensor4D): Tensor4D;
  /** Linear layers and convolutions of the UNet whose diffusers path ends in one of `targets`. */
  loraTargets(targets: readonly string[]): LoraTarget[];
  /** The UNet's weights as an adapter of their own, to be tuned in full; the caller's. */
  ownAdapter(): Adapter;
  /** |W| of each row of a module's weight, [1, out]. @param path of the module */
  rowNorms(part: LoraPart, path: string): Tensor2D;
  /** Every module that a LoRA file may adapt. */
  loraModules(): LoraModules;
  dispose(): void;
}

