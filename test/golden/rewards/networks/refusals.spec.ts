/** What is said of models that do not fit a reward: one line, and nothing stays in memory. */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AppError } from '../../../../src-main/base/errors.ts';
import type { Engine } from '../../../../src-main/engine/engine.ts';
import { openEngine } from '../../../../src-main/engine/select.ts';
import { tensorCount } from '../../../../src-main/engine/scope.ts';
import { openReward } from '../../../../src-main/rewards/index.ts';
import type { RewardSettings } from '../../../../src-main/rewards/reward.ts';

const at = (...names: string[]): string => join(import.meta.dirname, ...names);
let engine: Engine;
let bare: string;
beforeAll(async () => {
  engine = await openEngine({ prefer: 'wasm', home: '' });
  bare = mkdtempSync(join(tmpdir(), 'drtune-bare-'));
  copyFileSync(at('hpsv21', 'model.safetensors'), join(bare, 'clip.safetensors'));
  copyFileSync(at('imagereward', 'model.safetensors'), join(bare, 'blip.safetensors'));
  writeFileSync(join(bare, 'pointer.safetensors'), 'version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 5\n');
  writeFileSync(join(bare, 'page.pt'), '<!DOCTYPE html><html>Sign in</html>');
});

/** The OpenCLIP model with other settings of its towers; its weights would fit. */
function changed(name: string, { vision = {}, text = {} }: { vision?: object; text?: object }): string {
  const folder = join(bare, name);
  const config = JSON.parse(readFileSync(at('hpsv21', 'open_clip_config.json'), 'utf8')) as { model_cfg: { vision_cfg: object; text_cfg: object } };
  Object.assign(config.model_cfg.vision_cfg, vision);
  Object.assign(config.model_cfg.text_cfg, text);
  mkdirSync(folder, { recursive: true });
  for (const file of ['vocab.json', 'merges.txt', 'tokenizer_config.json']) copyFileSync(at('hpsv21', file), join(folder, file));
  copyFileSync(at('hpsv21', 'model.safetensors'), join(folder, 'open_clip_model.safetensors'));
  writeFileSync(join(folder, 'open_clip_config.json'), JSON.stringify(config));
  return folder;
}
afterAll(() => rmSync(bare, { recursive: true }));

describe('a model that does not fit its reward is refused in one line', () => {
  it.each<[string, () => RewardSettings, RegExp]>([
    ['hpsv2.1', () => ({ model: '/nowhere/HPS.pt' }), /There is no CLIP model \/nowhere\/HPS\.pt/],
    ['hpsv2.1', () => ({ model: at('hpsv21') }), /no CLIP model: .*2 files of weights.*Name one of them: HPS_tiny\.pt, model\.safetensors/],
    ['hpsv2.1', () => ({ model: at('yolos') }), /"model_type": "yolos".*supports "clip"/],
    ['hpsv2.1', () => ({ model: at('yolos', 'model.safetensors') }), /cannot be read as CLIP: it has neither visual\.conv1\.weight \(OpenCLIP\) nor/],
    ['hpsv2.1', () => ({ model: join(bare, 'clip.safetensors') }), /number of heads of its picture tower \(width 18\) is not known.*open_clip_config\.json beside it/],
    ['pickscore', () => ({ model: at('aesthetic') }), /no tokenizer beside it, and its 526 tokens are not the 49408/],
    ['aesthetic', () => ({ model: at('hpsv21', 'model.safetensors'), head: at('aesthetic', 'head.pth') }), /takes embeddings of 14 values, the CLIP .* gives 10.*clip-vit-large-patch14/],
    ['aesthetic', () => ({ model: at('aesthetic'), head: at('pictures.safetensors') }), /has no linear head: there is no layers\.0\.weight/],
    ['aesthetic', () => ({ model: at('aesthetic'), head: at('make_real_keys.py') }), /make_real_keys\.py/],
    ['imagereward', () => ({ model: at('pickscore') }), /no ImageReward: it has no tensor blip\.visual_encoder/],
    ['imagereward', () => ({ model: join(bare, 'blip.safetensors') }), /width of 16.*med_config\.json/],
    ['hpsv2.1', () => ({ model: join(bare, 'pointer.safetensors') }), /pointer\.safetensors is a pointer of Git LFS/],
    ['imagereward', () => ({ model: join(bare, 'page.pt') }), /page\.pt is a web page/],
    ['hpsv2.1', () => ({ model: changed('pool', { text: { pool_type: 'last' } }) }), /its pool_type \("last"\) is not CLIP's/],
    ['hpsv2.1', () => ({ model: changed('norm', { vision: { norm_kwargs: { eps: 1e-6 } } }) }), /its norm_kwargs \(\{"eps":0\.000001\}\) is not CLIP's/],
    ['hpsv2.1', () => ({ model: changed('words', { text: { hf_tokenizer_name: 'xlm-roberta-base' } }) }), /its hf_tokenizer_name/],
    ['hpsv2.1', () => ({ model: changed('deep', { vision: { layers: 1e7 } }) }), /"num_hidden_layers": 10000000.*at most 1000/],
    ['objectness', () => ({ model: join(bare, 'blip.safetensors') }), /There is no file .*config\.json/],
    ['objectness', () => ({ model: at('pickscore') }), /"model_type": "clip".*supports "yolos"/],
    ['objectness', () => ({ model: at('yolos'), object: 'zebr' }), /does not know "zebr".*Did you mean "zebra"/],
    ['objectness', () => ({ model: at('yolos'), object: 'N/A' }), /does not know "N\/A".*knows 3 things: person, teddy bear, zebra/],
  ])('%s %#', async (name, settings, words) => {
    const before = tensorCount();
    const error = await openReward(engine, { name, ...settings() }).then(() => null, (cause: unknown) => cause);
    expect(error).toBeInstanceOf(AppError);
    expect((error as AppError).line).toMatch(words);
    expect((error as AppError).line).not.toContain('\n');
    expect(tensorCount()).toBe(before);
  });
});

describe('a model is found', () => {
  it.each<[string, () => string]>([
    ['hpsv2.1', () => changed('same', { vision: { pool_type: 'tok', patch_dropout: 0, output_tokens: false }, text: { pool_type: 'argmax', hf_tokenizer_name: '' } })],
    ['objectness', () => at('yolos', 'model.safetensors')],
  ])('%s: settings that say what is so anyway, and weights for their folder', async (name, model) => {
    const reward = await openReward(engine, { name, model: model() });
    reward.dispose();
    expect(reward.name).toBe(name);
  });
});
