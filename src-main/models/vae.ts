/** The autoencoder between pictures and latents. Source: diffusers 0.42.1 AutoencoderKL, models/autoencoders/vae.py. */
import { traceInLanes } from '../engine/lanes.ts';
import { conv2d, groupNorm, linear } from '../engine/ops.ts';
import { scope } from '../engine/scope.ts';
import { tf, type Tensor, type Tensor4D } from '../engine/tf.ts';
import { keeping, type Engine } from '../engine/engine.ts';
import { AppError } from '../base/errors.ts';
import { multiHeadAttention } from '../nn/attention.ts';
import { blockWeights, type Weights } from '../nn/parameters.ts';
import { downsample, normConv, resnet, upsample, type ResnetOptions } from '../nn/resnet.ts';
import { residentWeights } from '../weights/resident.ts';
import type { ModelFiles } from './files.ts';
import { inFull, type PartMemory } from './part-memory.ts';
import { vaeConfig, vaeParameters, type VaeConfig } from './vae-config.ts';

export interface Vae {
  readonly config: VaeConfig;
  /** Pixels per latent cell. */
  readonly factor: number;
  readonly parameters: number;
  readonly bytes: number;
  /** Latents as the sampler has them [B, h, w, C] -> picture [B, H, W, 3], not clamped. Differentiable. */
  decode(latents: Tensor4D): Tensor4D;
  /** Picture [B, H, W, 3] in [-1, 1] -> mean latents as the sampler has them [B, h, w, C]. Differentiable. */
  encode(images: Tensor4D): Tensor4D;
  /** Loads the weights now instead of at first use; yields the bytes loaded so far. */
  loading(): Generator<number, void>;
  /** Frees the weights; they are loaded again when used. */
  release(): void;
}

/** Names of attention in files written before diffusers 0.15. Source: diffusers _convert_deprecated_attention_blocks. */
const oldNames: ReadonlyArray<readonly [RegExp, string]> = [
  [/(mid_block\.attentions\.0)\.query\./, '$1.to_q.'], [/(mid_block\.attentions\.0)\.key\./, '$1.to_k.'],
  [/(mid_block\.attentions\.0)\.value\./, '$1.to_v.'], [/(mid_block\.attentions\.0)\.proj_attn\./, '$1.to_out.0.'],
];

/** As for the UNet: smaller autoencoders are traced whole. */
const wholeTraceBytes = 100e6;

/** @throws AppError('weights') */
export function loadVae(anyEngine: Engine, files: ModelFiles, { precision, memory }: PartMemory = inFull): Vae {
  const engine = keeping(anyEngine, memory);
  const config = vaeConfig(files.config('vae'));
  const resident = residentWeights(() => files.open('vae'), vaeParameters(config).shapes, {
    what: 'the VAE', engine, precision,
    rename: (key) => oldNames.reduce((name, [old, now]) => name.replace(old, now), key),
  });
  const factor = 2 ** (config.channels.length - 1);
  const part = (prefix: readonly string[]): Weights => Object.fromEntries(Object.entries(resident.get()).filter(([key]) => prefix.includes(key.split('.')[0]!)));
  const whole = memory === 'residuals' && 4 * resident.parameters <= wholeTraceBytes;
  const code = JSON.stringify(config);
  const run = (name: string, body: (w: Weights, x: Tensor) => Tensor, w: Weights, x: Tensor4D): Tensor4D => scope(() => {
    if (!whole) return body(w, x) as Tensor4D;
    return traceInLanes(engine, `vae ${name} ${code}`, (p: Weights, _adapter: Weights, input: Tensor) => body(p, input))(w, {}, x) as Tensor4D;
  });
  return {
    config, factor, parameters: resident.parameters, bytes: resident.bytes, loading: () => resident.loading(), release: () => resident.release(),
    decode(latents) {
      if (latents.shape[3] !== config.latentChannels) throw new AppError('internal', `decode: latents [${latents.shape}], expected ${config.latentChannels} channels`);
      return run('decode', (w, x) => decode(engine, config, w, x), part(['decoder', 'post_quant_conv']), latents);
    },
    encode(images) {
      const [, H, W] = images.shape;
      if (H % factor || W % factor) throw new AppError('config', `A picture of ${W}x${H} cannot be encoded: both sides must be multiples of ${factor}.`);
      return run('encode', (w, x) => encode(engine, config, w, x), part(['encoder', 'quant_conv']), images);
    },
  };
}

function decode(engine: Engine, config: VaeConfig, w: Weights, latents: Tensor): Tensor {
  const { latentsMean, latentsStd, scalingFactor } = config;
  const options: ResnetOptions = { groups: config.groups, eps: 1e-6, activation: config.activation, outputScale: 1 };
  let x = tf.div(latentsStd ? tf.mul(latents, tf.tensor1d([...latentsStd])) : latents, scalingFactor);
  if (latentsMean) x = tf.add(x, tf.tensor1d([...latentsMean]));
  if (config.postQuantConv) x = conv2d(x, w['post_quant_conv.weight']!, w['post_quant_conv.bias']);
  x = conv2d(x, w['decoder.conv_in.weight']!, w['decoder.conv_in.bias'], 1, 1);
  x = midBlock(engine, config, options, w, 'decoder.mid_block', x);
  for (let i = 0; i < config.channels.length; i++) {
    for (let j = 0; j <= config.layers; j++) x = resnet(engine, options, w, `decoder.up_blocks.${i}.resnets.${j}`, x, null);
    if (i < config.channels.length - 1) x = upsample(engine, w, `decoder.up_blocks.${i}.upsamplers.0.conv`, x);
  }
  return normConv(engine, { ...options, activation: 'silu' }, w, 'decoder.conv_norm_out', 'decoder.conv_out', x);
}

function encode(engine: Engine, config: VaeConfig, w: Weights, images: Tensor): Tensor {
  const { latentsMean, latentsStd, scalingFactor, latentChannels } = config;
  const options: ResnetOptions = { groups: config.groups, eps: 1e-6, activation: config.activation, outputScale: 1 };
  let x = conv2d(images, w['encoder.conv_in.weight']!, w['encoder.conv_in.bias'], 1, 1);
  for (let i = 0; i < config.channels.length; i++) {
    for (let j = 0; j < config.layers; j++) x = resnet(engine, options, w, `encoder.down_blocks.${i}.resnets.${j}`, x, null);
    if (i < config.channels.length - 1) x = downsample(engine, w, `encoder.down_blocks.${i}.downsamplers.0.conv`, x, 0);
  }
  x = midBlock(engine, config, options, w, 'encoder.mid_block', x);
  x = normConv(engine, { ...options, activation: 'silu' }, w, 'encoder.conv_norm_out', 'encoder.conv_out', x);
  if (config.quantConv) x = conv2d(x, w['quant_conv.weight']!, w['quant_conv.bias']);
  let mean: Tensor = tf.slice(x as Tensor4D, [0, 0, 0, 0], [-1, -1, -1, latentChannels]); // the other half is the log variance
  if (latentsMean) mean = tf.sub(mean, tf.tensor1d([...latentsMean]));
  mean = tf.mul(mean, scalingFactor);
  return latentsStd ? tf.div(mean, tf.tensor1d([...latentsStd])) : mean;
}

function midBlock(engine: Engine, config: VaeConfig, options: ResnetOptions, weights: Weights, path: string, input: Tensor): Tensor {
  let x = resnet(engine, options, weights, `${path}.resnets.0`, input, null);
  if (config.midAttention) {
    const names = ['group_norm', 'to_q', 'to_k', 'to_v', 'to_out.0'].flatMap((name) => [`${name}.weight`, `${name}.bias`]);
    const block = engine.trace(`vae attention ${config.groups}`, (w: Weights, _adapter: Weights, image: Tensor) => {
      const [B, h, wide, C] = image.shape as [number, number, number, number];
      const tokens = tf.reshape(groupNorm(image, w['group_norm.weight']!, w['group_norm.bias']!, config.groups, 1e-6), [B, h * wide, C]);
      const project = (name: string, t: Tensor): Tensor => linear(t, w[`${name}.weight`]!, w[`${name}.bias`]);
      const seen = multiHeadAttention(project('to_q', tokens), project('to_k', tokens), project('to_v', tokens), 1);
      return tf.add(tf.reshape(project('to_out.0', seen), [B, h, wide, C]), image);
    });
    x = block(blockWeights(weights, `${path}.attentions.0`, names), {}, x);
  }
  return resnet(engine, options, weights, `${path}.resnets.1`, x, null);
}
