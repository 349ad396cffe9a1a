/** UNet2DConditionModel's config.json as flat values. Source: diffusers 0.42.1 models/unets/unet_2d_condition.py. */
import { AppError } from '../base/errors.ts';
import { ParameterList } from '../nn/parameters.ts';
import { resnetParameters } from '../nn/resnet.ts';
import { transformerParameters } from '../nn/transformer.ts';
import { diffusersActivations } from '../nn/activations.ts';
import { MOST_LAYERS, type ConfigReader } from './config.ts';

export interface UNetConfig {
  readonly inChannels: number;
  readonly outChannels: number;
  /** In latent cells: [height, width]; null where the file leaves it open. */
  readonly sampleSize: readonly [number, number] | null;
  readonly centerInput: boolean;
  readonly flipSinToCos: boolean;
  readonly freqShift: number;
  readonly timeEmbedDim: number;
  readonly timeActivation: string | null;
  readonly activation: string;
  readonly groups: number;
  readonly eps: number;
  readonly convInKernel: number;
  readonly convOutKernel: number;
  readonly downsamplePadding: number;
  readonly midScale: number;
  readonly midType: 'UNetMidBlock2DCrossAttn' | 'UNetMidBlock2D' | null;
  /** SDXL's embedding of pooled text and sizes; null in SD 1.x and 2.x. */
  readonly added: { readonly timeDim: number; readonly inputDim: number } | null;
  /** Width of the guidance embedding of a network distilled from guided sampling (LCM), null for the others. */
  readonly timeCondDim: number | null;
  readonly linearProjection: boolean;
  /** First level first. */
  readonly down: readonly LevelConfig[];
  /** In the order they run: last level first. */
  readonly up: readonly LevelConfig[];
  readonly mid: LevelConfig;
}

/** One down, mid or up block. */
export interface LevelConfig {
  readonly channels: number;
  readonly resnets: number;
  readonly attention: boolean;
  readonly heads: number;
  readonly crossDim: number;
  /** Transformer blocks after each resnet. */
  readonly transformerLayers: readonly number[];
}

export function unetConfig(reader: ConfigReader): UNetConfig {
  refuseUnsupported(reader);
  const channels = reader.sizes('block_out_channels');
  const levels = channels.length;
  const downTypes = reader.names('down_block_types', ['DownBlock2D', 'CrossAttnDownBlock2D']);
  const upTypes = reader.names('up_block_types', ['UpBlock2D', 'CrossAttnUpBlock2D']);
  for (const [key, types] of [['down_block_types', downTypes], ['up_block_types', upTypes]] as const) {
    if (types.length !== levels) throw reader.refuse(key, `one for each of the ${levels} block_out_channels`);
  }
  const layers = reader.perLevel('layers_per_block', levels, 2);
  if (Math.max(...layers) > MOST_LAYERS) throw reader.refuse('layers_per_block', `at most ${MOST_LAYERS}`);
  const crossDims = reader.perLevel('cross_attention_dim', levels, 1280);
  // By its history, attention_head_dim is the NUMBER of heads; diffusers refuses num_attention_heads.
  const heads = reader.perLevel('attention_head_dim', levels, 8);
  const transformers = transformerLayers(reader, 'transformer_layers_per_block', layers, 0);
  const isOpen = (key: string): boolean => (reader.values[key] ?? null) === null;
  const reversed = isOpen('reverse_transformer_layers_per_block')
    ? [...transformers].reverse().map((list, i) => new Array<number>(layers[levels - 1 - i]! + 1).fill(list[0]!))
    : transformerLayers(reader, 'reverse_transformer_layers_per_block', [...layers].reverse(), 1);
  const level = (i: number, resnets: number, attention: boolean, perResnet: readonly number[]): LevelConfig => ({
    channels: channels[i]!, resnets, attention, heads: heads[i]!, crossDim: crossDims[i]!, transformerLayers: perResnet,
  });
  const last = levels - 1;
  const midType = reader.values['mid_block_type'] === null ? null : reader.oneOf('mid_block_type', ['UNetMidBlock2DCrossAttn', 'UNetMidBlock2D'], 'UNetMidBlock2DCrossAttn');
  const sample = reader.values['sample_size'];
  const sampleSize = isOpen('sample_size') ? null : Array.isArray(sample) ? reader.perLevel('sample_size', 2) : [reader.size('sample_size'), reader.size('sample_size')];
  const kernel = (key: string): number => {
    const size = reader.size(key, 3);
    if (size % 2 === 0) throw reader.refuse(key, 'odd sizes');
    return size;
  };
  const activations = Object.keys(diffusersActivations);
  return {
    inChannels: reader.size('in_channels', 4), outChannels: reader.size('out_channels', 4),
    sampleSize: sampleSize as [number, number] | null,
    centerInput: reader.flag('center_input_sample', false),
    flipSinToCos: reader.flag('flip_sin_to_cos', true), freqShift: reader.number('freq_shift', 0),
    timeEmbedDim: reader.numberOrNull('time_embedding_dim') ?? channels[0]! * 4,
    timeActivation: isOpen('time_embedding_act_fn') ? null : reader.oneOf('time_embedding_act_fn', activations),
    activation: reader.oneOf('act_fn', activations, 'silu'),
    groups: reader.groups('norm_num_groups', 32, channels), eps: reader.number('norm_eps', 1e-5),
    convInKernel: kernel('conv_in_kernel'), convOutKernel: kernel('conv_out_kernel'),
    downsamplePadding: reader.number('downsample_padding', 1), midScale: reader.number('mid_block_scale_factor', 1), midType,
    added: isOpen('addition_embed_type') ? null : { timeDim: reader.size('addition_time_embed_dim'), inputDim: reader.size('projection_class_embeddings_input_dim') },
    timeCondDim: isOpen('time_cond_proj_dim') ? null : reader.size('time_cond_proj_dim'),
    linearProjection: reader.flag('use_linear_projection', false),
    down: downTypes.map((type, i) => level(i, layers[i]!, type === 'CrossAttnDownBlock2D', transformers[i]!)),
    up: upTypes.map((type, i) => level(last - i, layers[last - i]! + 1, type === 'CrossAttnUpBlock2D', reversed[i]!)),
    mid: level(last, midType === 'UNetMidBlock2DCrossAttn' ? 2 : 1, midType === 'UNetMidBlock2DCrossAttn', transformers[last]!),
  };
}

/** A number, one per level, or (asymmetric UNets) one list per level; `extra` resnets more than the level's layers. */
function transformerLayers(reader: ConfigReader, key: string, layers: readonly number[], extra: number): number[][] {
  const value = reader.values[key] ?? 1;
  const natural = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) > 0 && (n as number) <= MOST_LAYERS;
  const list: readonly unknown[] = Array.isArray(value) ? value : layers.map(() => value);
  if (list.length !== layers.length) throw reader.refuse(key, `a whole number of 1 to ${MOST_LAYERS}, or a list of ${layers.length}`);
  return list.map((entry, i) => {
    if (natural(entry)) return new Array<number>(layers[i]! + extra).fill(entry);
    if (Array.isArray(entry) && entry.length === layers[i]! + extra && entry.every(natural)) return entry;
    throw reader.refuse(key, `whole numbers of 1 to ${MOST_LAYERS}, or lists of ${layers[i]! + extra} of them`);
  });
}

/** What a network of other input channels is for: such a one needs more than a prompt. Source: diffusers' pipelines of those names. */
const otherTasks: Readonly<Record<number, string>> = {
  5: 'the network of depth-to-image, which takes a depth map beside the latents',
  7: 'the network of an upscaler, which takes a small picture beside the latents',
  8: 'the network of InstructPix2Pix, which takes the picture to edit beside the latents',
  9: 'an inpainting network, which takes a mask and a masked picture beside the latents',
};

/** @throws AppError('weights') where the network is known and made for another task than text to image */
function refuseOtherTasks(reader: ConfigReader): void {
  const refuse = (what: string): AppError => new AppError('weights', `${reader.path} describes ${what}; this version reads networks that make pictures from text alone.`);
  const task = otherTasks[reader.size('in_channels', 4)];
  if (task !== undefined && reader.size('out_channels', 4) === 4) throw refuse(`${task} (in_channels ${reader.size('in_channels', 4)})`);
  if (reader.values['class_embed_type'] === 'projection') throw refuse('the network of unCLIP, which takes an embedding of a picture');
  if (reader.values['num_class_embeds']) throw refuse('the network of an upscaler, which takes a level of noise as its class');
  if (reader.values['addition_embed_type'] === 'text_time' && reader.values['cross_attention_dim'] === 1280 && reader.values['projection_class_embeddings_input_dim'] === 2560) {
    throw refuse('the SDXL refiner, which only finishes pictures');
  }
}

function refuseUnsupported(reader: ConfigReader): void {
  reader.only('_class_name', ['UNet2DConditionModel']);
  refuseOtherTasks(reader);
  for (const key of [
    'num_attention_heads', 'class_embed_type', 'num_class_embeds', 'encoder_hid_dim', 'encoder_hid_dim_type',
    'timestep_post_act', 'cross_attention_norm',
  ]) reader.only(key, [null]);
  for (const key of ['dual_cross_attention', 'class_embeddings_concat', 'resnet_skip_time_act']) reader.only(key, [false, null]);
  reader.only('only_cross_attention', [false, null, new Array((reader.values['block_out_channels'] as unknown[] | undefined)?.length ?? 0).fill(false)]);
  reader.only('mid_block_only_cross_attention', [false, null]);
  reader.only('resnet_time_scale_shift', ['default']);
  reader.only('time_embedding_type', ['positional']);
  reader.only('attention_type', ['default']);
  reader.only('addition_embed_type', ['text_time', null]);
  const groups = reader.values['norm_num_groups'];
  if (groups === null) throw reader.refuse('norm_num_groups', 'a whole number above 0');
}

/** The state dict that a config describes, in torch's shapes. */
export function unetParameters(config: UNetConfig): ParameterList {
  const list = new ParameterList();
  const { timeEmbedDim: temb, linearProjection, down, up, mid } = config;
  const first = down[0]!.channels;
  const attention = (path: string, level: LevelConfig, layers: number): void =>
    transformerParameters(list, path, { channels: level.channels, heads: level.heads, layers, crossDim: level.crossDim, linearProjection });
  list.conv('conv_in', config.inChannels, first, config.convInKernel);
  list.linear('time_embedding.linear_1', first, temb);
  list.linear('time_embedding.linear_2', temb, temb);
  if (config.timeCondDim !== null) list.linear('time_embedding.cond_proj', config.timeCondDim, first, false);
  if (config.added) {
    list.linear('add_embedding.linear_1', config.added.inputDim, temb);
    list.linear('add_embedding.linear_2', temb, temb);
  }
  const skips = [first];
  let channels = first;
  for (const [i, level] of down.entries()) {
    for (let j = 0; j < level.resnets; j++) {
      resnetParameters(list, `down_blocks.${i}.resnets.${j}`, channels, level.channels, temb);
      if (level.attention) attention(`down_blocks.${i}.attentions.${j}`, level, level.transformerLayers[j]!);
      channels = level.channels;
      skips.push(channels);
    }
    if (i < down.length - 1) {
      list.conv(`down_blocks.${i}.downsamplers.0.conv`, channels, channels, 3);
      skips.push(channels);
    }
  }
  if (config.midType !== null) {
    for (let j = 0; j < mid.resnets; j++) resnetParameters(list, `mid_block.resnets.${j}`, channels, channels, temb);
    if (mid.attention) attention('mid_block.attentions.0', mid, mid.transformerLayers[0]!);
  }
  for (const [i, level] of up.entries()) {
    for (let j = 0; j < level.resnets; j++) {
      resnetParameters(list, `up_blocks.${i}.resnets.${j}`, channels + skips.pop()!, level.channels, temb);
      if (level.attention) attention(`up_blocks.${i}.attentions.${j}`, level, level.transformerLayers[j]!);
      channels = level.channels;
    }
    if (i < up.length - 1) list.conv(`up_blocks.${i}.upsamplers.0.conv`, channels, channels, 3);
  }
  list.norm('conv_norm_out', first);
  list.conv('conv_out', first, config.outChannels, config.convOutKernel);
  return list;
}
