import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ConfigReader, type JsonRecord } from '../../../src-main/models/config.ts';
import { endPosition } from '../../../src-main/models/clip-text.ts';
import { unetConfig, unetParameters } from '../../../src-main/models/unet-config.ts';
import { vaeConfig } from '../../../src-main/models/vae-config.ts';

const fixture = (path: string): JsonRecord => JSON.parse(readFileSync(new URL(`../../golden/models/fixtures/${path}`, import.meta.url), 'utf8')) as JsonRecord;
const unet = fixture('linear/unet/config.json');
const vae = fixture('linear/vae/config.json');
const unetWith = (change: JsonRecord) => unetConfig(new ConfigReader('unet/config.json', { ...unet, ...change }));

/** SDXL base 1.0's UNet, as its config.json describes it. */
const sdxl: JsonRecord = {
  ...unet, block_out_channels: [320, 640, 1280], layers_per_block: 2, transformer_layers_per_block: [1, 2, 10], attention_head_dim: [5, 10, 20],
  cross_attention_dim: 2048, norm_num_groups: 32, addition_time_embed_dim: 256, projection_class_embeddings_input_dim: 2816, sample_size: 128,
};

describe('model configs', () => {
  it('describe SDXL base: 2,567,463,684 parameters', () => {
    const { shapes } = unetParameters(unetConfig(new ConfigReader('unet/config.json', sdxl)));
    const count = [...shapes.values()].reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
    expect(count).toBe(2_567_463_684);
    expect(shapes.size).toBe(1680);
  });

  it.each<[string, JsonRecord, string]>([
    ['down_block_types', { down_block_types: ['DownBlock2D', 'AttnDownBlock2D', 'DownBlock2D'] }, 'CrossAttnDownBlock2D'],
    ['up_block_types', { up_block_types: ['UpBlock2D'] }, 'one for each of the 3'],
    ['time_cond_proj_dim', { time_cond_proj_dim: 0.5 }, 'a whole number'],
    ['addition_embed_type', { addition_embed_type: 'text' }, '"text_time" or null'],
    ['class_embed_type', { class_embed_type: 'timestep' }, 'null'],
    ['resnet_time_scale_shift', { resnet_time_scale_shift: 'scale_shift' }, 'default'],
    ['mid_block_type', { mid_block_type: 'UNetMidBlock2DSimpleCrossAttn' }, 'UNetMidBlock2DCrossAttn'],
    ['only_cross_attention', { only_cross_attention: true }, 'false'],
    ['dual_cross_attention', { dual_cross_attention: true }, 'false'],
    ['act_fn', { act_fn: 'snake' }, 'silu'],
    ['block_out_channels', { block_out_channels: [] }, 'whole numbers'],
    ['layers_per_block', { layers_per_block: [1, 2] }, 'list of 3'],
    ['attention_head_dim', { attention_head_dim: 0 }, 'above 0'],
    ['transformer_layers_per_block', { transformer_layers_per_block: [1, 'two', 1] }, 'whole numbers'],
    ['layers_per_block', { layers_per_block: 1e7 }, 'at most 1000'],
    ['transformer_layers_per_block', { transformer_layers_per_block: 1e7 }, 'whole numbers of 1 to 1000'],
    ['norm_num_groups', { norm_num_groups: 7 }, 'a divisor of each of block_out_channels'],
    ['num_attention_heads', { num_attention_heads: 4 }, 'null'],
    ['conv_in_kernel', { conv_in_kernel: 4 }, 'odd'],
    ['encoder_hid_dim_type', { encoder_hid_dim_type: 'text_proj' }, 'null'],
  ])('refuse %s out of reach, naming key, value and what is supported', (key, change, supported) => {
    expect(() => unetWith(change)).toThrow(new RegExp(`unet/config\\.json has "${key}": .*it supports .*${supported}`));
  });

  it('accept no mid block, one without attention, and uneven transformers', () => {
    expect(unetWith({ mid_block_type: null }).midType).toBeNull();
    expect(unetWith({ mid_block_type: 'UNetMidBlock2D' }).mid).toMatchObject({ resnets: 1, attention: false });
    const uneven = unetWith({ layers_per_block: 2, transformer_layers_per_block: [[1, 1], [2, 1], 3], reverse_transformer_layers_per_block: [[1, 2, 3], 1, 2] });
    expect(uneven.down.map((level) => level.transformerLayers)).toEqual([[1, 1], [2, 1], [3, 3]]);
    expect(uneven.up.map((level) => level.transformerLayers)).toEqual([[1, 2, 3], [1, 1, 1], [2, 2, 2]]);
  });

  it('take defaults for what the VAE file leaves open, and refuse the rest', () => {
    const { use_quant_conv: _, act_fn: __, ...older } = vae;
    expect(vaeConfig(new ConfigReader('vae/config.json', older))).toMatchObject({ quantConv: true, activation: 'silu' });
    expect(vaeConfig(new ConfigReader('vae/config.json', { ...vae, latents_mean: [0, 0, 0, 0] })).latentsMean).toBeNull();
    expect(() => vaeConfig(new ConfigReader('vae/config.json', { ...vae, down_block_types: ['AttnDownEncoderBlock2D', 'DownEncoderBlock2D'] }))).toThrow('down_block_types');
    expect(() => vaeConfig(new ConfigReader('vae/config.json', { ...vae, shift_factor: 0.1 }))).toThrow('shift_factor');
    expect(() => vaeConfig(new ConfigReader('vae/config.json', { ...vae, scaling_factor: 0 }))).toThrow('"scaling_factor": 0');
    expect(() => vaeConfig(new ConfigReader('vae/config.json', { ...vae, norm_num_groups: 5 }))).toThrow('a divisor of each');
    expect(() => vaeConfig(new ConfigReader('vae/config.json', { ...vae, layers_per_block: 1e7 }))).toThrow('at most 1000');
  });

  it('find the end of a prompt by id, or by the old rule', () => {
    expect(endPosition([8, 3, 9, 9, 9], 9)).toBe(2);
    expect(endPosition([8, 3, 9, 0, 0], 2)).toBe(2);
    expect(endPosition([8, 3, 2], 2)).toBe(0);
    expect(endPosition([1, 2, 3], 77)).toBe(0);
  });
});
