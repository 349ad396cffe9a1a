import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AppError } from '../../../src-main/base/errors.ts';
import { drtuneHome } from '../../../src-main/base/paths.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { readFloatsSync, scope, tensorCount } from '../../../src-main/engine/scope.ts';
import { tf, type Tensor2D } from '../../../src-main/engine/tf.ts';
import type { Adapter, LoraTarget } from '../../../src-main/nn/lora.ts';
import { adapterHash, combineAdapters, createAdapter, disposeAdapter, disposeLoras } from '../../../src-main/pipeline/adapter.ts';
import { readLora, readLoras } from '../../../src-main/pipeline/lora-file.ts';
import type { LoraModules } from '../../../src-main/pipeline/lora/names.ts';
import { writeDiffusersLora, writePeftLora } from '../../../src-main/pipeline/lora/write.ts';
import { openSafetensors, writeSafetensors, type TensorData } from '../../../src-main/weights/safetensors.ts';

const targets: LoraTarget[] = [
  { path: 'down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q', inFeatures: 5, outFeatures: 4 },
  { path: 'mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0', inFeatures: 3, outFeatures: 6 },
];
const [first, second] = targets.map((target) => target.path) as [string, string];
const ramp = (shape: number[], from = 0): TensorData => ({ shape, data: Float32Array.from({ length: shape[0]! * shape[1]! }, (_, i) => Math.sin(i + from)) });

let folder: string;
let path: string;
beforeAll(async () => {
  await openEngine({ prefer: 'wasm', home: drtuneHome() });
  folder = mkdtempSync(join(tmpdir(), 'lora-'));
  path = join(folder, 'x.safetensors');
});
afterAll(() => rmSync(folder, { recursive: true }));

/** scale * B A of one module, [out, in]. */
function update(adapter: Adapter, module: string): number[] {
  const { 'lora_A.weight': a, 'lora_B.weight': b } = adapter.modules[module]!.matrices as { 'lora_A.weight': Tensor2D; 'lora_B.weight': Tensor2D };
  return scope(() => Array.from(readFloatsSync(tf.mul(tf.matMul(b, a), adapter.scale))));
}
function expectClose(a: readonly number[], b: readonly number[]): void {
  expect(a.length).toBe(b.length);
  a.forEach((value, i) => expect(value).toBeCloseTo(b[i]!, 5));
}

describe('LoRA files', () => {
  it.each([
    ['diffusers', (m: string) => [`unet.${m}.lora_A.weight`, `unet.${m}.lora_B.weight`]],
    ['without prefix', (m: string) => [`${m}.lora_A.weight`, `${m}.lora_B.weight`]],
    ['PEFT', (m: string) => [`base_model.model.${m}.lora_A.weight`, `base_model.model.${m}.lora_B.weight`]],
    ['PEFT with adapter name', (m: string) => [`base_model.model.${m}.lora_A.default.weight`, `base_model.model.${m}.lora_B.default.weight`]],
    ['older diffusers', (m: string) => [`unet.${m}.lora.down.weight`, `unet.${m}.lora.up.weight`]],
    ['attention processors', (m: string) => { const p = m.replace(/\.to_(q|out)(\.0)?$/, '.processor.to_$1_lora'); return [`unet.${p}.down.weight`, `unet.${p}.up.weight`]; }],
    ['kohya', (m: string) => [`lora_unet_${m.replaceAll('.', '_')}.lora_down.weight`, `lora_unet_${m.replaceAll('.', '_')}.lora_up.weight`]],
  ])('are read in the form of %s', (_, keys) => {
    const tensors: Record<string, TensorData> = {};
    for (const { path: module, inFeatures, outFeatures } of targets) {
      const [a, b] = keys(module) as [string, string];
      tensors[a] = ramp([2, inFeatures]);
      tensors[b] = ramp([outFeatures, 2], 5);
    }
    writeSafetensors(path, tensors);
    const adapter = readLora(path, { targets, alpha: 6 });
    expect(adapter.scale).toBe(3);
    expect(Object.keys(adapter.modules).sort()).toEqual([first, second]);
    expect(readFloatsSync(adapter.modules[second]!.matrices['lora_B.weight']!)).toEqual(ramp([6, 2], 5).data);
    disposeAdapter(adapter);
  });

  it('take alpha from the file before the argument, each module its own', () => {
    const one = (value: number): TensorData => ({ shape: [], data: Float32Array.of(value) });
    writeSafetensors(path, {
      [`${first}.lora_A.weight`]: ramp([2, 5]), [`${first}.lora_B.weight`]: ramp([4, 2]), [`${first}.alpha`]: one(4),
      [`${second}.lora_A.weight`]: ramp([1, 3]), [`${second}.lora_B.weight`]: ramp([6, 1]), [`${second}.alpha`]: one(8),
    });
    const adapter = readLora(path, { targets, alpha: 1 });
    expect(adapter.scale).toBe(2);
    expectClose(update(adapter, second).slice(0, 1), [8 * Math.sin(0) * Math.sin(0)]);
    expectClose(Array.from(readFloatsSync(adapter.modules[second]!.matrices['lora_B.weight']!)), Array.from(ramp([6, 1]).data, (v) => v * 4));
    disposeAdapter(adapter);
  });

  const conv: LoraTarget = { path: 'down_blocks.0.resnets.0.conv1', inFeatures: 2 * 9, outFeatures: 5, kernel: [3, 3], original: 'input_blocks.1.0.in_layers.2' };
  const narrow: LoraTarget = { path: 'mid_block.attentions.0.proj_in', inFeatures: 3, outFeatures: 4, kernel: [1, 1], original: 'middle_block.1.proj_in' };
  const text: LoraTarget = { path: 'text_model.encoder.layers.0.self_attn.q_proj', inFeatures: 3, outFeatures: 3 };
  const modules: LoraModules = { unet: [...targets, conv, narrow], text_encoder: [text], text_encoder_2: [text] };
  const filter = (shape: number[], from = 0): TensorData => ({ shape, data: Float32Array.from({ length: shape.reduce((n, x) => n * x, 1) }, (_, i) => Math.sin(i + from)) });
  const number = (value: number): TensorData => ({ shape: [], data: Float32Array.of(value) });

  it.each([
    ['lora_unet_input_blocks_1_0_in_layers_2', 'lora_down', 'lora_up'],
    ['lora_unet_down_blocks_0_resnets_0_conv1', 'lora_down', 'lora_up'],
    ['unet.down_blocks.0.resnets.0.conv1', 'lora_A', 'lora_B'],
    ['diffusion_model.input_blocks.1.0.in_layers.2', 'lora_A', 'lora_B'],
    ['base_model.model.down_blocks.0.resnets.0.conv1', 'lora_A', 'lora_B'],
  ])('adapt convolutions: %s', (name, down, up) => {
    writeSafetensors(path, { [`${name}.${down}.weight`]: filter([4, 2, 3, 3]), [`${name}.${up}.weight`]: filter([5, 4, 1, 1]), [`${name}.alpha`]: number(2) });
    const set = readLoras(path, modules);
    expect(Object.keys(set)).toEqual(['unet']);
    expect(set.unet).toMatchObject({ scale: 0.5, modules: { [conv.path]: { kernel: [3, 3] } } });
    expect([set.unet!.modules[conv.path]!.matrices['lora_A.weight']!.shape, set.unet!.modules[conv.path]!.matrices['lora_B.weight']!.shape]).toEqual([[4, 18], [5, 4]]);
    expect(readFloatsSync(set.unet!.modules[conv.path]!.matrices['lora_A.weight']!)).toEqual(filter([4, 2, 3, 3]).data);
    disposeLoras(set);
  });

  it.each([
    ['lora_te_text_model_encoder_layers_0_self_attn_q_proj', 'lora_down', 'lora_up', 'text_encoder'],
    ['lora_te1_text_model_encoder_layers_0_self_attn_q_proj', 'lora_down', 'lora_up', 'text_encoder'],
    ['lora_te2_text_model_encoder_layers_0_self_attn_q_proj', 'lora_down', 'lora_up', 'text_encoder_2'],
    ['text_encoder.text_model.encoder.layers.0.self_attn.q_proj', 'lora_linear_layer.down', 'lora_linear_layer.up', 'text_encoder'],
    ['text_encoder_2.encoder.layers.0.self_attn.q_proj', 'lora_A', 'lora_B', 'text_encoder_2'],
    ['text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora', 'down', 'up', 'text_encoder'],
    ['base_model.model.encoder.layers.0.self_attn.q_proj', 'lora_A.default', 'lora_B.default', 'text_encoder'],
  ] as const)('adapt text encoders: %s', (name, down, up, part) => {
    writeSafetensors(path, { [`${name}.${down}.weight`]: ramp([2, 3]), [`${name}.${up}.weight`]: ramp([3, 2], 1) });
    const set = readLoras(path, modules);
    expect(Object.keys(set)).toEqual([part]);
    expect(Object.keys(set[part]!.modules)).toEqual([text.path]);
    disposeLoras(set);
    expect(() => readLora(path, { targets })).toThrow(/1 modules of the (second )?text encoder \(text_model.*\), which is not adapted here/);
  });

  it('take rank and alpha patterns and rank-stabilised scales from PEFT\'s config, and nothing from one that is not theirs', () => {
    const peft = join(folder, 'patterns');
    mkdirSync(peft, { recursive: true });
    const file = join(peft, 'adapter_model.safetensors');
    writeSafetensors(file, {
      [`base_model.model.${first}.lora_A.weight`]: ramp([2, 5]), [`base_model.model.${first}.lora_B.weight`]: ramp([4, 2]),
      [`base_model.model.${second}.lora_A.weight`]: ramp([4, 3]), [`base_model.model.${second}.lora_B.weight`]: ramp([6, 4]),
    });
    const scaleOf = (config: object, module: string): number => {
      writeFileSync(join(peft, 'adapter_config.json'), JSON.stringify({ peft_type: 'LORA', ...config }));
      const { unet } = readLoras(peft, modules);
      const factor = readFloatsSync(unet!.modules[module]!.matrices['lora_B.weight']!)[1]! / Math.sin(1);
      const scale = unet!.scale * factor;
      disposeAdapter(unet!);
      return scale;
    };
    expect(scaleOf({ r: 2, lora_alpha: 6 }, first)).toBeCloseTo(3, 5);
    expect(scaleOf({ r: 2, lora_alpha: 6, alpha_pattern: { 'to_out.0': 12 } }, second)).toBeCloseTo(3, 5);
    expect(scaleOf({ r: 2, lora_alpha: 6, alpha_pattern: { 'mid_block.*': 2 } }, second)).toBeCloseTo(0.5, 5);
    expect(scaleOf({ r: 2, lora_alpha: 6, alpha_pattern: { 'out.0': 2, '[': 3 } }, second)).toBeCloseTo(1.5, 5); // only whole names
    expect(scaleOf({ r: 2, lora_alpha: 6, use_rslora: true }, second)).toBeCloseTo(3, 5);
    for (const [config, words] of [[{ peft_type: 'LOHA' }, /type LOHA/], [{ use_dora: true }, /has no magnitude/]] as const) {
      writeFileSync(join(peft, 'adapter_config.json'), JSON.stringify(Object.assign({ peft_type: 'LORA' }, config)));
      expect(() => readLoras(peft, modules)).toThrow(words);
    }
    writeFileSync(join(peft, 'adapter_config.json'), '{');
    expect(() => readLoras(peft, modules)).toThrow(/adapter_config.json cannot be read/);
    rmSync(file);
    expect(() => readLoras(peft, modules)).toThrow(/is a folder without adapter_model.safetensors/);
  });

  const pair = (name: string): Record<string, TensorData> => ({ [`${name}.lora_down.weight`]: ramp([2, 5]), [`${name}.lora_up.weight`]: ramp([4, 2]) });
  it.each([
    ['DoRA of inputs', { ...pair(`unet.${first}`), [`unet.${first}.dora_scale`]: ramp([1, 5]) }, 'has magnitudes [1,5], expected one for each of 4 outputs'],
    ['DoRA without a pair', { [`unet.${first}.lora_magnitude_vector`]: ramp([1, 4]) }, 'only one of lora_A and lora_B'],
    ['LoHa', { 'lora_unet_x.hada_w1_a': ramp([2, 5]) }, 'is a LoHa'],
    ['LoKr in Tucker form', { 'lora_unet_x.lokr_t2': ramp([2, 5]) }, 'is a LoKr in Tucker form'],
    ['half a LoKr', { [`unet.${first}.lokr_w1`]: ramp([2, 5]) }, 'has no lokr_w2'],
    ['LoKr of another size', { [`unet.${first}.lokr_w1`]: ramp([2, 5]), [`unet.${first}.lokr_w2`]: ramp([2, 2]) }, 'has factors that make [4,10], expected [4,5]'],
    ['OFT', { 'lora_unet_x.oft_blocks': ramp([2, 5]) }, 'is an OFT'],
    ['Tucker form', { ...pair('lora_unet_x'), 'lora_unet_x.lora_mid.weight': ramp([2, 2]) }, 'Tucker form'],
    ['differences', { 'lora_unet_x.diff': ramp([2, 2]) }, 'whole weight differences'],
    ['biases', { ...pair('lora_unet_x'), 'unet.x.lora_B.bias': ramp([2, 1]) }, 'a LoRA with biases'],
    ['FLUX by kohya', pair('lora_unet_double_blocks_0_img_attn_qkv'), 'transformer network (FLUX'],
    ['FLUX by diffusers', { 'transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight': ramp([2, 2]) }, 'transformer network (FLUX'],
    ['textual inversions', { ...pair('lora_unet_x'), 'bundle_emb.style.string_to_param.*': ramp([2, 2]) }, 'bundled textual inversions'],
    ['a textual inversion', { emb_params: ramp([2, 2]) }, 'is a textual inversion'],
    ['a whole model', { 'model.diffusion_model.out.2.weight': ramp([2, 2]) }, 'is a whole model'],
    ['a third encoder', pair('lora_te3_encoder_block_0'), 'third text encoder'],
    ['other names', { 'something.else': ramp([2, 2]) }, '1 tensors that are no LoRA\'s (something.else)'],
    ['an unknown kohya module', pair('lora_unet_input_blocks_11_1_proj_in'), 'do not have (lora_unet_input_blocks_11_1_proj_in)'],
    ['a module twice', { ...pair('lora_unet_input_blocks_1_0_in_layers_2'), ...pair('lora_unet_down_blocks_0_resnets_0_conv1') }, 'has down_blocks.0.resnets.0.conv1 twice'],
    ['a filter of another size', { 'lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight': filter([2, 2, 1, 1]), 'lora_unet_down_blocks_0_resnets_0_conv1.lora_up.weight': filter([5, 2, 1, 1]) }, 'expected [rank,2,3,3] and [5,rank]'],
    ['two ranks', { 'unet.mid_block.attentions.0.proj_in.lora_A.weight': filter([2, 3, 1, 1]), 'unet.mid_block.attentions.0.proj_in.lora_B.weight': filter([4, 3, 1, 1]) }, 'another shape'],
    ['no rank', { [`unet.${first}.lora_A.weight`]: filter([0, 5]), [`unet.${first}.lora_B.weight`]: filter([4, 0]) }, 'another shape'],
    ['an alpha that is none', { [`unet.${first}.lora_A.weight`]: ramp([2, 5]), [`unet.${first}.lora_B.weight`]: ramp([4, 2]), [`unet.${first}.alpha`]: ramp([2, 1]) }, 'expected one number'],
    ['an alpha without matrices', { [`unet.${first}.alpha`]: number(1) }, 'only one of lora_A and lora_B'],
    ['values that are not finite', { [`unet.${first}.lora_A.weight`]: { shape: [2, 5], data: new Float32Array(10).fill(Infinity) }, [`unet.${first}.lora_B.weight`]: ramp([4, 2]) }, 'not finite'],
  ] as Array<[string, Record<string, TensorData>, string]>)('are refused in one line for %s', (_, tensors, words) => {
    const alive = tensorCount();
    writeSafetensors(path, tensors);
    let message = '';
    try {
      readLoras(path, modules);
    } catch (error) {
      expect(error).toBeInstanceOf(AppError);
      message = (error as AppError).line;
    }
    expect(message).toContain(words);
    expect(message).not.toContain('\n');
    expect(tensorCount()).toBe(alive);
  });

  it('for a model of another text encoder are told apart', () => {
    const cross = 'down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k';
    writeSafetensors(path, { [`lora_unet_${cross.replaceAll('.', '_')}.lora_down.weight`]: ramp([1, 768]), [`lora_unet_${cross.replaceAll('.', '_')}.lora_up.weight`]: ramp([320, 1]) });
    const sdxl = { path: 'down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k', inFeatures: 2048, outFeatures: 640 };
    expect(() => readLoras(path, { unet: [sdxl] })).toThrow(/a text of width 768 as in SD 1\.x, where this model has 2048 as in SDXL; 1 modules that this model/);
    const same = { path: cross, inFeatures: 768, outFeatures: 640 };
    expect(() => readLoras(path, { unet: [same] })).toThrow(/it has 1 modules of another shape/);
  });

  it('of a text encoder that the model does not have are refused', () => {
    writeSafetensors(path, pair('lora_te2_text_model_encoder_layers_0_self_attn_q_proj'));
    expect(() => readLoras(path, { unet: targets, text_encoder: [text] })).toThrow(/1 modules of the second text encoder/);
    expect(() => readLoras(join(folder, 'no.safetensors'), modules)).toThrow(/There is no file/);
    writeFileSync(join(folder, 'x.pt'), 'neither zip nor pickle');
    expect(() => readLoras(join(folder, 'x.pt'), modules)).toThrow(/x\.pt/);
  });

  it('with alpha 0 have the rank for it, as kohya\'s trainer reads it', () => {
    writeSafetensors(path, { [`${first}.lora_A.weight`]: ramp([2, 5]), [`${first}.lora_B.weight`]: ramp([4, 2]), [`${first}.alpha`]: number(0) });
    const adapter = readLora(path, { targets });
    expect(adapter.scale).toBe(1);
    disposeAdapter(adapter);
  });

  it.each([
    ['unknown modules', { 'unet.other.to_q.lora_A.weight': ramp([2, 5]), 'unet.other.to_q.lora_B.weight': ramp([4, 2]) }, '1 modules that this model or its targets do not have (other.to_q)'],
    ['half a pair', { [`unet.${first}.lora_A.weight`]: ramp([2, 5]) }, 'only one of lora_A and lora_B'],
    ['another shape', { [`unet.${first}.lora_A.weight`]: ramp([2, 4]), [`unet.${first}.lora_B.weight`]: ramp([4, 2]) }, 'expected [rank,5] and [4,rank]'],
    ['other tensors', { 'text_encoder.q.lora_A.weight': ramp([2, 5]) }, '1 modules of the text encoder (text_model.q), which is not adapted here'],
    ['nothing', {}, 'it has no tensors'],
  ] as Array<[string, Record<string, TensorData>, string]>)('are refused for %s', (_, tensors, words) => {
    writeSafetensors(path, tensors);
    expect(() => readLora(path, { targets })).toThrow(words);
  });

  it('come back as they were written, diffusers and PEFT', () => {
    const before = tensorCount();
    const adapter = createAdapter(targets, { rank: 2, alpha: 5, seed: 3 });
    writeDiffusersLora(path, { unet: adapter }, { prompt: 'x' });
    const again = readLora(path, { targets, alpha: 99 });
    expect(adapterHash(again)).toBe(adapterHash(adapter));
    expect(openSafetensors(path).metadata).toMatchObject({ prompt: 'x', format: 'pt' });
    writePeftLora(join(folder, 'peft'), adapter, { baseModel: 'tiny' });
    const config = JSON.parse(readFileSync(join(folder, 'peft', 'adapter_config.json'), 'utf8')) as Record<string, unknown>;
    expect(config).toMatchObject({ peft_type: 'LORA', r: 2, lora_alpha: 5, target_modules: [first, second] });
    const peft = readLora(join(folder, 'peft', 'adapter_model.safetensors'), { targets, alpha: 5 });
    expect(adapterHash(peft)).toBe(adapterHash(adapter));
    for (const each of [adapter, again, peft]) disposeAdapter(each);
    expect(tensorCount()).toBe(before);
  });
});

describe('adapters', () => {
  it('start at zero effect, equal for equal seeds', () => {
    const [a, b, c] = [0, 0, 1].map((seed) => createAdapter(targets, { rank: 2, alpha: 2, seed })) as [Adapter, Adapter, Adapter];
    expect(update(a, first).every((value) => value === 0)).toBe(true);
    expect(readFloatsSync(a.modules[first]!.matrices['lora_A.weight']!).every((value) => Math.abs(value) <= 1 / Math.sqrt(5) && value !== 0)).toBe(true);
    expect(adapterHash(a)).toBe(adapterHash(b));
    expect(adapterHash(a)).not.toBe(adapterHash(c));
    for (const each of [a, b, c]) disposeAdapter(each);
  });

  it('combine to the sum of their updates, each with its strength', () => {
    const make = (rank: number, scale: number, only?: string): Adapter => ({
      scale,
      modules: Object.fromEntries(targets.filter((t) => only === undefined || t.path === only).map((t) => [t.path, {
        matrices: { 'lora_A.weight': tf.tensor2d(ramp([rank, t.inFeatures], rank).data, [rank, t.inFeatures]), 'lora_B.weight': tf.tensor2d(ramp([t.outFeatures, rank], 9).data, [t.outFeatures, rank]) },
      }])),
    });
    const [x, y] = [make(2, 1.5), make(3, 0.5, second)];
    const both = combineAdapters([{ adapter: x, strength: 0.5 }, { adapter: y, strength: -2 }]);
    expectClose(update(both, first), update(x, first).map((v) => 0.5 * v));
    const yUpdate = update(y, second);
    expectClose(update(both, second), update(x, second).map((v, i) => 0.5 * v - 2 * yUpdate[i]!));
    const alone = combineAdapters([{ adapter: x, strength: 0.5 }]);
    expect(alone.scale).toBe(0.75);
    expectClose(update(alone, first), update(both, first));
    for (const each of [x, y, both, alone]) disposeAdapter(each);
  });
});
