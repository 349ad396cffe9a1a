/** The denoising network of SD 1.x, SD 2.x and SDXL. Source: diffusers 0.42.1 UNet2DConditionModel.forward, unet_2d_blocks.py. */
import { assert } from '../base/errors.ts';
import { traceInLanes } from '../engine/lanes.ts';
import { scope } from '../engine/scope.ts';
import { tf, type Tensor, type Tensor2D, type Tensor3D, type Tensor4D } from '../engine/tf.ts';
import { keeping, type Engine, type TensorTree } from '../engine/engine.ts';
import { diffusersActivations } from '../nn/activations.ts';
import { sinusoidalEmbedding, timestepEmbedding } from '../nn/embeddings.ts';
import { adaptableModules, blockAdapter, blockScale, isFull, loraConv, loraLinear, mergedWeights, ownWeights, type Adapter, type BlockAdapter, type LoraModule, type LoraTarget } from '../nn/lora.ts';
import { downsample, normConv, resnet, upsample, type ResnetOptions } from '../nn/resnet.ts';
import { textKeysAndValues, transformer2d, type TransformerOptions } from '../nn/transformer.ts';
import type { Weights } from '../nn/parameters.ts';
import { residentWeights } from '../weights/resident.ts';
import type { ModelFiles } from './files.ts';
import { inFull, SMALL_NETWORK_BYTES, type PartMemory } from './part-memory.ts';
import { unetNames } from './single-file/names.ts';
import { unetConfig, unetParameters, type LevelConfig, type UNetConfig } from './unet-config.ts';

export interface UNetInputs {
  /** [B, h, w, C] */
  readonly sample: Tensor4D;
  /** 0..999, also between whole numbers (euler). One for all, or one for each of the batch. */
  readonly timestep: number | readonly number[];
  /** [B, N, D] */
  readonly text: Tensor3D;
  /** [B, P], SDXL's */
  readonly pooled?: Tensor2D | null;
  /** [B, 6], SDXL's */
  readonly timeIds?: Tensor2D | null;
  /** [B, timeCondDim] of a network distilled from guided sampling */
  readonly guidance?: Tensor2D | null;
}

export interface UNet {
  readonly config: UNetConfig;
  readonly weights: Weights;
  readonly parameters: number;
  readonly bytes: number;
  /** The network's output [B, h, w, C]; differentiable with respect to adapter and inputs. */
  forward(adapter: Adapter | null, inputs: UNetInputs): Tensor4D;
  /** The network for many steps with the same adapter and conditions, without gradient: what does not change is computed once. */
  bind(adapter: Adapter | null, conditions: Omit<UNetInputs, 'sample' | 'timestep'>): BoundUNet;
  /** Linear layers and convolutions whose path ends in one of `targets`; all if left out. */
  loraTargets(targets?: readonly string[]): LoraTarget[];
  /** Loads the weights now instead of at first use; yields the bytes loaded so far. */
  loading(): Generator<number, void>;
  /** Frees the weights; they are loaded again when used. */
  release(): void;
}

export interface BoundUNet {
  /** As UNet.forward. */
  forward(sample: Tensor4D, timestep: number): Tensor4D;
  dispose(): void;
}

/** Opens the network; its weights are loaded at first use. @throws AppError('weights') */
export function loadUNet(anyEngine: Engine, files: ModelFiles, { precision, memory }: PartMemory = inFull): UNet {
  const engine = keeping(anyEngine, memory);
  const config = unetConfig(files.config('unet'));
  const list = unetParameters(config);
  const resident = residentWeights(() => files.open('unet'), list.shapes, { what: 'the UNet', engine, precision });
  const whole = memory === 'residuals' && 4 * resident.parameters <= SMALL_NETWORK_BYTES;
  const code = JSON.stringify(config);
  /** @param context text, or keys and values made of it */
  const run = (weights: Weights, adapter: Adapter | null, context: Weights, { sample, timestep, pooled, timeIds, guidance }: Omit<UNetInputs, 'text'>, by = engine): Tensor4D => scope(() => {
    const times = typeof timestep === 'number' ? new Array<number>(sample.shape[0]).fill(timestep) : [...timestep];
    assert(!config.added === !(pooled && timeIds) && (config.timeCondDim === null) === !guidance, () => `the UNet was given pooled text ${pooled?.shape}, sizes ${timeIds?.shape} and guidance ${guidance?.shape}`);
    const tensors: Weights = { ...context, sample, timestep: tf.tensor1d(times, 'float32'), ...(pooled && timeIds && { pooled, timeIds }), ...(guidance && { guidance }) };
    if (!whole) return unetForward(by, config, weights, adapter, tensors) as Tensor4D;
    const scale = adapter?.scale ?? 0;
    const traced = traceInLanes(by, `unet ${scale} ${code}`, (w: Weights, modules: ReturnType<typeof adapterTree>, input: Weights) =>
      unetForward(by, config, w, adapter && { scale, modules }, input));
    return traced(weights, adapterTree(adapter), tensors) as Tensor4D;
  });
  return {
    config, parameters: resident.parameters, bytes: resident.bytes, loading: () => resident.loading(), release: () => resident.release(),
    get weights() {
      return resident.get();
    },
    forward(adapter, { text, ...inputs }) {
      if (!adapter || !isFull(adapter)) return run(resident.get(), adapter, { text }, inputs);
      return scope(() => run(ownWeights(resident.get(), adapter), null, { text }, inputs, learning(engine)));
    },
    bind(adapter, { text, ...conditions }) {
      if (adapter && isFull(adapter)) {
        const own = scope(() => ownWeights(resident.get(), adapter));
        return { forward: (sample, timestep) => run(own, null, { text }, { ...conditions, sample, timestep }), dispose: () => tf.dispose(own as Record<string, Tensor>) };
      }
      const weights = resident.get();
      const made = scope(() => {
        const context = Object.assign({}, ...attentions(config).map(({ path, ...options }) => textKeysAndValues(options, weights, adapter, path, text))) as Record<string, Tensor>;
        return { context, merged: whole && adapter ? mergedWeights(weights, adapter) : {} };
      });
      const [bound, left] = whole ? [{ ...weights, ...made.merged }, null] : [weights, adapter];
      return { forward: (sample, timestep) => run(bound, left, made.context, { ...conditions, sample, timestep }), dispose: () => tf.dispose(made) };
    },
    loraTargets: (targets) => unetLoraTargets(config, targets),
  };
}

/** The engine with blocks' weights where their adapters are: to be differentiated. */
function learning(engine: Engine): Engine {
  const trace: Engine['trace'] = (key, block, options) => {
    const traced = engine.trace(`${key} learning`, (_none: Weights, given: { weights: Weights; adapter: TensorTree }, input) => block(given.weights as never, given.adapter as never, input as never), options);
    return (weights, adapter, input) => traced({}, { weights: weights as unknown as Weights, adapter }, input);
  };
  return { ...engine, trace };
}

/** What LoRA may adapt, with each module's name in the original layout. */
export function unetLoraTargets(config: UNetConfig, targets?: readonly string[]): LoraTarget[] {
  const original = unetNames(config);
  return adaptableModules(unetParameters(config), targets).map((target) => ({ ...target, original: original(`${target.path}.weight`)?.replace(/\.weight$/, '') }));
}

/** The matrices of all modules, as a tree of tensors. */
function adapterTree(adapter: Adapter | null): Record<string, Pick<LoraModule, 'matrices'>> {
  return Object.fromEntries(Object.entries(adapter?.modules ?? {}).flatMap(([path, own]) => (own ? [[path, { matrices: own.matrices }]] : [])));
}

/**
 * The network as a pure function.
 * @param inputs sample [B, h, w, C], timestep [B], text [B, N, D] or all that textKeysAndValues makes of it; for SDXL pooled [B, P] and timeIds [B, 6]; distilled guidance [B, timeCondDim]
 * @returns [B, h, w, C]
 */
export function unetForward(engine: Engine, config: UNetConfig, weights: Weights, adapter: Adapter | null, inputs: Weights): Tensor {
  const options: ResnetOptions = { groups: config.groups, eps: config.eps, activation: config.activation, outputScale: 1 };
  const temb = embedTime(engine, config, weights, adapter, inputs); // [B, T]
  const attend = (path: string, level: LevelConfig, layers: number, input: Tensor): Tensor =>
    transformer2d(engine, { heads: level.heads, layers, groups: config.groups }, weights, adapter, path, input, inputs);

  let x = config.centerInput ? tf.sub(tf.mul(inputs['sample']!, 2), 1) : inputs['sample']!;
  x = loraConv(weights, blockAdapter(adapter, '', ['conv_in']), adapter?.scale ?? 0, 'conv_in', x, 1, (config.convInKernel - 1) / 2);
  const skips = [x];
  for (const [i, level] of config.down.entries()) {
    for (let j = 0; j < level.resnets; j++) {
      x = resnet(engine, options, weights, `down_blocks.${i}.resnets.${j}`, x, temb, adapter);
      if (level.attention) x = attend(`down_blocks.${i}.attentions.${j}`, level, level.transformerLayers[j]!, x);
      skips.push(x);
    }
    if (i < config.down.length - 1) {
      x = downsample(engine, weights, `down_blocks.${i}.downsamplers.0.conv`, x, config.downsamplePadding, adapter);
      skips.push(x);
    }
  }

  if (config.midType !== null) {
    const mid = { ...options, outputScale: config.midScale };
    x = resnet(engine, mid, weights, 'mid_block.resnets.0', x, temb, adapter);
    if (config.mid.attention) {
      x = attend('mid_block.attentions.0', config.mid, config.mid.transformerLayers[0]!, x);
      x = resnet(engine, mid, weights, 'mid_block.resnets.1', x, temb, adapter);
    }
  }

  for (const [i, level] of config.up.entries()) {
    for (let j = 0; j < level.resnets; j++) {
      x = tf.concat([x, skips.pop()!], 3);
      x = resnet(engine, options, weights, `up_blocks.${i}.resnets.${j}`, x, temb, adapter);
      if (level.attention) x = attend(`up_blocks.${i}.attentions.${j}`, level, level.transformerLayers[j]!, x);
    }
    if (i < config.up.length - 1) {
      const [, h, w] = skips.at(-1)!.shape as [number, number, number, number]; // odd sizes: not always twice
      x = upsample(engine, weights, `up_blocks.${i}.upsamplers.0.conv`, x, [h, w], adapter);
    }
  }
  return normConv(engine, options, weights, 'conv_norm_out', 'conv_out', x, adapter);
}

/** Where the network attends, by path. */
function attentions(config: UNetConfig): Array<TransformerOptions & { path: string }> {
  const at = (path: string, level: LevelConfig, count: number): Array<TransformerOptions & { path: string }> =>
    Array.from({ length: level.attention ? count : 0 }, (_, j) => ({ path: `${path}.attentions.${j}`, heads: level.heads, layers: level.transformerLayers[j]!, groups: config.groups }));
  return [
    ...config.down.flatMap((level, i) => at(`down_blocks.${i}`, level, level.resnets)), ...(config.midType === null ? [] : at('mid_block', config.mid, 1)),
    ...config.up.flatMap((level, i) => at(`up_blocks.${i}`, level, level.resnets)),
  ];
}

/** Embedding of the timestep, with SDXL's of pooled text and sizes added to it, [B, T]. */
function embedTime(engine: Engine, config: UNetConfig, weights: Weights, adapter: Adapter | null, inputs: Weights): Tensor {
  const { flipSinToCos, freqShift, activation, timeActivation, added } = config;
  const modules = ['time_embedding', 'add_embedding'].flatMap((path) => [`${path}.linear_1`, `${path}.linear_2`]).concat('time_embedding.cond_proj');
  const pairs = blockAdapter(adapter, '', modules);
  const scale = blockScale(adapter, pairs);
  const own = Object.fromEntries(modules.flatMap((name) => [`${name}.weight`, `${name}.bias`]).flatMap((name) => (weights[name] ? [[name, weights[name]]] : [])));
  const given = Object.fromEntries(['timestep', 'pooled', 'timeIds', 'guidance'].flatMap((name) => (inputs[name] ? [[name, inputs[name]]] : [])));
  const block = engine.trace(`time ${flipSinToCos} ${freqShift} ${activation} ${timeActivation} ${added?.timeDim} ${scale}`, (w: Weights, a: BlockAdapter, input: Weights) => {
    const dim = w['time_embedding.linear_1.weight']!.shape[1]!;
    let time = sinusoidalEmbedding(input['timestep']!, dim, flipSinToCos, freqShift);
    if (input['guidance']) time = tf.add(time, loraLinear(w, a, scale, 'time_embedding.cond_proj', input['guidance']));
    let sum = timestepEmbedding(w, a, scale, 'time_embedding', time, diffusersActivations[activation]!);
    if (added) {
      const B = input['pooled']!.shape[0]!;
      const sizes = sinusoidalEmbedding(tf.reshape(input['timeIds']!, [-1]), added.timeDim, flipSinToCos, freqShift); // [B*6, timeDim]
      sum = tf.add(sum, timestepEmbedding(w, a, scale, 'add_embedding', tf.concat([input['pooled']!, tf.reshape(sizes, [B, -1])], 1), diffusersActivations['silu']!));
    }
    return timeActivation === null ? sum : diffusersActivations[timeActivation]!(sum);
  });
  return block(own, pairs, given);
}

/** What a pooled embedding of `size` needs: the add embedding's input is P + 6 * timeDim; null without one. */
export function expectedPooledSize(config: UNetConfig): number | null {
  return config.added && config.added.inputDim - 6 * config.added.timeDim;
}
