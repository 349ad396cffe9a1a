/** AutoencoderKL's config.json as flat values, and the parameters it describes. Source: diffusers 0.42.1 models/autoencoders/autoencoder_kl.py. */
import { diffusersActivations } from '../nn/activations.ts';
import { ParameterList } from '../nn/parameters.ts';
import { resnetParameters } from '../nn/resnet.ts';
import type { ConfigReader } from './config.ts';

export interface VaeConfig {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly latentChannels: number;
  readonly channels: readonly number[];
  readonly layers: number;
  readonly groups: number;
  readonly activation: string;
  readonly quantConv: boolean;
  readonly postQuantConv: boolean;
  readonly midAttention: boolean;
  readonly scalingFactor: number;
  readonly latentsMean: readonly number[] | null;
  readonly latentsStd: readonly number[] | null;
}

export function vaeConfig(reader: ConfigReader): VaeConfig {
  reader.only('_class_name', ['AutoencoderKL']);
  reader.only('shift_factor', [null, 0]);
  const channels = reader.sizes('block_out_channels');
  for (const [key, type] of [['down_block_types', 'DownEncoderBlock2D'], ['up_block_types', 'UpDecoderBlock2D']] as const) {
    if (reader.names(key, [type]).length !== channels.length) throw reader.refuse(key, `one for each of the ${channels.length} block_out_channels`);
  }
  const latentChannels = reader.size('latent_channels', 4);
  const latentsMean = reader.numbersOrNull('latents_mean', latentChannels);
  const latentsStd = reader.numbersOrNull('latents_std', latentChannels);
  const scalingFactor = reader.number('scaling_factor', 0.18215);
  if (scalingFactor === 0) throw reader.refuse('scaling_factor', 'any number but 0, as latents are divided by it');
  return {
    inChannels: reader.size('in_channels', 3), outChannels: reader.size('out_channels', 3), latentChannels, channels,
    layers: reader.layers('layers_per_block', 1), groups: reader.groups('norm_num_groups', 32, channels),
    activation: reader.oneOf('act_fn', Object.keys(diffusersActivations), 'silu'),
    quantConv: reader.flag('use_quant_conv', true), postQuantConv: reader.flag('use_post_quant_conv', true),
    midAttention: reader.flag('mid_block_add_attention', true), scalingFactor,
    // diffusers uses them only where both are given
    latentsMean: latentsStd && latentsMean, latentsStd: latentsMean && latentsStd,
  };
}

export function vaeParameters(config: VaeConfig): ParameterList {
  const list = new ParameterList();
  const { channels, layers, latentChannels: latent } = config;
  const last = channels.at(-1)!;
  const mid = (path: string): void => {
    resnetParameters(list, `${path}.resnets.0`, last, last, null);
    resnetParameters(list, `${path}.resnets.1`, last, last, null);
    if (!config.midAttention) return;
    list.norm(`${path}.attentions.0.group_norm`, last);
    for (const name of ['to_q', 'to_k', 'to_v', 'to_out.0']) list.linear(`${path}.attentions.0.${name}`, last, last);
  };
  list.conv('encoder.conv_in', config.inChannels, channels[0]!, 3);
  let size = channels[0]!;
  for (const [i, out] of channels.entries()) {
    for (let j = 0; j < layers; j++, size = out) resnetParameters(list, `encoder.down_blocks.${i}.resnets.${j}`, size, out, null);
    if (i < channels.length - 1) list.conv(`encoder.down_blocks.${i}.downsamplers.0.conv`, out, out, 3);
  }
  mid('encoder.mid_block');
  list.norm('encoder.conv_norm_out', last);
  list.conv('encoder.conv_out', last, 2 * latent, 3);
  if (config.quantConv) list.conv('quant_conv', 2 * latent, 2 * latent, 1);
  if (config.postQuantConv) list.conv('post_quant_conv', latent, latent, 1);
  list.conv('decoder.conv_in', latent, last, 3);
  mid('decoder.mid_block');
  size = last;
  for (const [i, out] of [...channels].reverse().entries()) {
    for (let j = 0; j <= layers; j++, size = out) resnetParameters(list, `decoder.up_blocks.${i}.resnets.${j}`, size, out, null);
    if (i < channels.length - 1) list.conv(`decoder.up_blocks.${i}.upsamplers.0.conv`, out, out, 3);
  }
  list.norm('decoder.conv_norm_out', channels[0]!);
  list.conv('decoder.conv_out', channels[0]!, config.outChannels, 3);
  return list;
}
