/**
 * OpenCLIP folders (open_clip_config.json, open_clip_model.safetensors) as transformers CLIP folders: the same network under
 * other names, with q, k and v in one matrix and both projections the other way round.
 * Source: open_clip 3.3 src/open_clip/{model,transformer}.py; transformers models/clip/convert_clip_original_pytorch_to_hf.py.
 */
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError, errorLine } from '../base/errors.ts';
import { openSafetensors, writeSafetensors, type SafetensorsFile, type TensorData } from '../weights/safetensors.ts';

const CONFIG = 'open_clip_config.json';
const WEIGHTS = 'open_clip_model.safetensors';
/** Files a CLIP tokenizer may be in. */
const TOKENIZER_FILES = /^(tokenizer|tokenizer_config|vocab|special_tokens_map|added_tokens)\.json$|^merges\.txt$/;
/** CLIP's mean and standard deviation of pixels. */
const MEAN = [0.48145466, 0.4578275, 0.40821073];
const STD = [0.26862954, 0.26130258, 0.27577711];

type Settings = Readonly<Record<string, unknown>>;

export function isOpenClip(folder: string): boolean {
  return existsSync(join(folder, CONFIG)) && !existsSync(join(folder, 'config.json'));
}

/** Writes an OpenCLIP folder as a transformers one into `out`. @throws AppError('weights') for what is no plain CLIP */
export function convertOpenClip(folder: string, out: string): void {
  const refuse = (what: string, hint?: string): AppError => new AppError('weights', `${folder} cannot be read as CLIP: ${what}.`, { hint });
  let config: Settings;
  try {
    config = JSON.parse(readFileSync(join(folder, CONFIG), 'utf8')) as Settings;
  } catch (cause) {
    throw refuse(`${CONFIG} is not JSON (${errorLine(cause)})`);
  }
  const tokenizer = readdirSync(folder).filter((name) => TOKENIZER_FILES.test(name));
  if (!tokenizer.includes('tokenizer.json') && !tokenizer.includes('vocab.json')) {
    throw refuse('it has no tokenizer', 'Put the tokenizer.json of the same model beside its weights.');
  }
  const { text, vision, embed, quick } = towers(config, refuse);
  using file = openSafetensors(join(folder, WEIGHTS));
  writeSafetensors(join(out, 'model.safetensors'), renamed(file, refuse), { metadata: { format: 'pt' } });
  const activation = quick ? 'quick_gelu' : 'gelu';
  const eos = Number(text['vocab_size'] ?? 49408) - 1; // OpenCLIP pools at the largest id, which is the end token's
  const json = (name: string, value: object): void => writeFileSync(join(out, name), JSON.stringify(value));
  json('config.json', {
    model_type: 'clip', projection_dim: embed,
    text_config: {
      hidden_size: text['width'], intermediate_size: hidden(text), num_hidden_layers: text['layers'], num_attention_heads: text['heads'], projection_dim: embed,
      vocab_size: eos + 1, max_position_embeddings: text['context_length'] ?? 77, hidden_act: activation, eos_token_id: eos, bos_token_id: eos - 1,
    },
    vision_config: {
      hidden_size: vision['width'], intermediate_size: hidden(vision), num_hidden_layers: vision['layers'], num_attention_heads: Number(vision['width']) / Number(vision['head_width'] ?? 64),
      image_size: imageSize(vision), patch_size: vision['patch_size'], projection_dim: embed, hidden_act: activation,
    },
  });
  json('preprocessor_config.json', preprocessing(config, imageSize(vision), refuse));
  for (const name of tokenizer) copyFileSync(join(folder, name), join(out, name));
}

const hidden = (tower: Settings): number => Math.floor(Number(tower['width']) * Number(tower['mlp_ratio'] ?? 4));
const imageSize = (vision: Settings): number => Number(Array.isArray(vision['image_size']) ? vision['image_size'][0] : (vision['image_size'] ?? 224));

type Refuse = (what: string, hint?: string) => AppError;

function towers(config: Settings, refuse: Refuse): { text: Settings; vision: Settings; embed: number; quick: boolean } {
  const model = (config['model_cfg'] ?? config) as Settings;
  const [text, vision] = [model['text_cfg'], model['vision_cfg']] as [Settings | undefined, Settings | undefined];
  if (!text || !vision) throw refuse(`${CONFIG} has no text_cfg or vision_cfg`);
  const foreign = [
    [text, 'hf_model_name'], [vision, 'timm_model_name'], [vision, 'attentional_pool'], [vision, 'no_ln_pre'], [vision, 'patch_dropout'], [text, 'no_causal_mask'],
  ] as const;
  for (const [tower, key] of foreign) if (tower[key]) throw refuse(`its ${key} (${JSON.stringify(tower[key])}) is not CLIP's`);
  if (typeof vision['layers'] !== 'number') throw refuse('its picture tower is no vision transformer');
  if (vision['pool_type'] !== undefined && vision['pool_type'] !== 'tok') throw refuse(`its pool_type is ${JSON.stringify(vision['pool_type'])}`);
  return { text, vision, embed: Number(model['embed_dim']), quick: model['quick_gelu'] === true };
}

function preprocessing(config: Settings, size: number, refuse: Refuse): object {
  const given = (config['preprocess_cfg'] ?? {}) as Settings;
  const mode = given['resize_mode'] ?? 'shortest';
  const interpolation = given['interpolation'] ?? 'bicubic';
  if (interpolation !== 'bicubic' || (mode !== 'shortest' && mode !== 'squash')) throw refuse(`its pictures are resized by ${String(interpolation)}, ${String(mode)}`);
  const square = { height: size, width: size };
  return {
    do_resize: true, size: mode === 'squash' ? square : { shortest_edge: size }, do_center_crop: true, crop_size: square, resample: 3, do_rescale: true, rescale_factor: 1 / 255,
    do_normalize: true, image_mean: given['mean'] ?? MEAN, image_std: given['std'] ?? STD,
  };
}

/** Names outside the layers. A text tower of its own is below "text.". */
const NAMES: Readonly<Record<string, string>> = {
  'visual.conv1.weight': 'vision_model.embeddings.patch_embedding.weight', 'visual.class_embedding': 'vision_model.embeddings.class_embedding',
  'visual.positional_embedding': 'vision_model.embeddings.position_embedding.weight', 'visual.ln_pre.weight': 'vision_model.pre_layrnorm.weight',
  'visual.ln_pre.bias': 'vision_model.pre_layrnorm.bias', 'visual.ln_post.weight': 'vision_model.post_layernorm.weight', 'visual.ln_post.bias': 'vision_model.post_layernorm.bias',
  'visual.proj': 'visual_projection.weight', positional_embedding: 'text_model.embeddings.position_embedding.weight', 'token_embedding.weight': 'text_model.embeddings.token_embedding.weight',
  'ln_final.weight': 'text_model.final_layer_norm.weight', 'ln_final.bias': 'text_model.final_layer_norm.bias', text_projection: 'text_projection.weight',
  'text_projection.weight': 'text_projection.weight', logit_scale: 'logit_scale',
};
const LAYER_NAMES: Readonly<Record<string, string>> = { ln_1: 'layer_norm1', ln_2: 'layer_norm2', 'mlp.c_fc': 'mlp.fc1', 'mlp.c_proj': 'mlp.fc2', 'attn.out_proj': 'self_attn.out_proj' };
/** Stored [in, out], wanted [out, in]. */
const TURNED = new Set(['visual.proj', 'text_projection']);

function renamed(file: SafetensorsFile, refuse: Refuse): Record<string, TensorData> {
  const tensors: Record<string, TensorData> = {};
  for (const [stored, entry] of file.entries) {
    const key = stored.replace(/^text\./, '');
    if (key === 'attn_mask') continue;
    const tensor: TensorData = { shape: entry.shape, data: file.readFloats(stored) };
    const layer = /^(visual\.)?transformer\.resblocks\.(\d+)\.(.+)$/.exec(key);
    if (layer) Object.assign(tensors, layerTensors(`${layer[1] ? 'vision_model' : 'text_model'}.encoder.layers.${layer[2]}`, layer[3]!, tensor, () => refuse(`it has the unknown tensor ${stored}`)));
    else if (NAMES[key]) tensors[NAMES[key]] = TURNED.has(key) ? turned(tensor) : key === 'logit_scale' ? { shape: [], data: tensor.data } : tensor;
    else throw refuse(`it has the unknown tensor ${stored}`);
  }
  return tensors;
}

function layerTensors(layer: string, name: string, tensor: TensorData, unknown: () => AppError): Record<string, TensorData> {
  const fused = /^attn\.in_proj_(weight|bias)$/.exec(name);
  if (fused) {
    const rows = tensor.shape[0]! / 3;
    const size = tensor.data.length / 3;
    const part = (i: number): TensorData => ({ shape: [rows, ...tensor.shape.slice(1)], data: tensor.data.slice(i * size, (i + 1) * size) });
    return Object.fromEntries(['q', 'k', 'v'].map((each, i) => [`${layer}.self_attn.${each}_proj.${fused[1]}`, part(i)]));
  }
  const plain = /^(.+)\.(weight|bias)$/.exec(name);
  const known = plain ? LAYER_NAMES[plain[1]!] : undefined;
  if (!known) throw unknown();
  return { [`${layer}.${known}.${plain![2]}`]: tensor };
}

function turned({ shape, data }: TensorData): TensorData {
  const [rows, columns] = shape as readonly [number, number];
  const out = new Float32Array(data.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = data[i * columns + j]!;
  return { shape: [columns, rows], data: out };
}
