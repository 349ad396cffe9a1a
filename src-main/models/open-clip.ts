/**
 * OpenCLIP models under transformers' names: the same network, with q, k and v in one matrix and both projections the other way round.
 * Source: open_clip 3.3 src/open_clip/{model,transformer}.py; transformers models/clip/convert_clip_original_pytorch_to_hf.py.
 */
import type { AppError } from '../base/errors.ts';
import { viewSource, type TensorSource, type TensorView } from '../weights/source.ts';
import type { JsonRecord } from './config.ts';

/** Makes the error for a model that is no plain CLIP. */
export type Refuse = (what: string, hint?: string) => AppError;

/** Names outside the layers. A text tower of its own is below "text.". */
const names: Readonly<Record<string, string>> = {
  'visual.conv1.weight': 'vision_model.embeddings.patch_embedding.weight', 'visual.class_embedding': 'vision_model.embeddings.class_embedding',
  'visual.positional_embedding': 'vision_model.embeddings.position_embedding.weight', 'visual.ln_pre.weight': 'vision_model.pre_layrnorm.weight',
  'visual.ln_pre.bias': 'vision_model.pre_layrnorm.bias', 'visual.ln_post.weight': 'vision_model.post_layernorm.weight', 'visual.ln_post.bias': 'vision_model.post_layernorm.bias',
  'visual.proj': 'visual_projection.weight', positional_embedding: 'text_model.embeddings.position_embedding.weight', 'token_embedding.weight': 'text_model.embeddings.token_embedding.weight',
  'ln_final.weight': 'text_model.final_layer_norm.weight', 'ln_final.bias': 'text_model.final_layer_norm.bias', text_projection: 'text_projection.weight',
  'text_projection.weight': 'text_projection.weight', logit_scale: 'logit_scale',
};
const layerNames: Readonly<Record<string, string>> = { ln_1: 'layer_norm1', ln_2: 'layer_norm2', 'mlp.c_fc': 'mlp.fc1', 'mlp.c_proj': 'mlp.fc2', 'attn.out_proj': 'self_attn.out_proj' };
/** Stored [in, out], wanted [out, in]. */
const turned = new Set(['visual.proj', 'text_projection']);

/** What the keys of the file begin with where they are OpenCLIP's ("" as a rule, "model." in imscore's files), null where they are not. */
export function openClipPrefix(keys: Iterable<string>): string | null {
  for (const key of keys) if (key.endsWith('visual.conv1.weight')) return key.slice(0, -'visual.conv1.weight'.length);
  return null;
}

/**
 * The tensors of an OpenCLIP file under transformers' names. Closing it closes the file.
 * @param prefix of {@link openClipPrefix}
 * @throws `refuse` naming a tensor that a plain CLIP does not have
 */
export function openClipSource(source: TensorSource, prefix: string, refuse: Refuse): TensorSource {
  const views = new Map<string, TensorView>();
  for (const [from, { shape }] of source.entries) {
    const unknown = (): AppError => refuse(`it has the unknown tensor ${from}`);
    if (!from.startsWith(prefix)) throw unknown();
    const key = from.slice(prefix.length).replace(/^text\./, '');
    if (key === 'attn_mask') continue;
    const layer = /^(visual\.)?transformer\.resblocks\.(\d+)\.(.+)$/.exec(key);
    if (!layer) {
      if (!names[key]) throw unknown();
      views.set(names[key], key === 'logit_scale' ? { from, shape: [] } : { from, transposed: turned.has(key) });
      continue;
    }
    const at = `${layer[1] ? 'vision_model' : 'text_model'}.encoder.layers.${layer[2]}`;
    const fused = /^attn\.in_proj_(weight|bias)$/.exec(layer[3]!);
    if (fused) {
      const n = shape[0]! / 3;
      if (!Number.isInteger(n)) throw refuse(`${from} is [${shape}], which is no q, k and v below each other`);
      for (const [i, each] of ['q', 'k', 'v'].entries()) views.set(`${at}.self_attn.${each}_proj.${fused[1]}`, { from, rows: [i * n, (i + 1) * n] });
      continue;
    }
    const plain = /^(.+)\.(weight|bias)$/.exec(layer[3]!);
    const known = plain ? layerNames[plain[1]!] : undefined;
    if (!known) throw unknown();
    views.set(`${at}.${known}.${plain![2]}`, { from });
  }
  return viewSource(source, views);
}

/** open_clip_config.json as transformers' config.json has it. @throws `refuse` for what is no plain CLIP */
export function openClipConfig(config: JsonRecord, refuse: Refuse): JsonRecord {
  const { text, vision, embed, quick } = towers(config, refuse);
  const activation = quick ? 'quick_gelu' : 'gelu';
  const end = Number(text['vocab_size'] ?? 49408) - 1; // OpenCLIP pools at the largest id, which is the end token's
  return {
    model_type: 'clip', projection_dim: embed,
    text_config: {
      hidden_size: text['width'], intermediate_size: hidden(text), num_hidden_layers: text['layers'], num_attention_heads: text['heads'],
      vocab_size: end + 1, max_position_embeddings: text['context_length'] ?? 77, hidden_act: activation, eos_token_id: end,
    },
    vision_config: {
      hidden_size: vision['width'], intermediate_size: hidden(vision), num_hidden_layers: vision['layers'], num_attention_heads: Number(vision['width']) / Number(vision['head_width'] ?? 64),
      image_size: imageSize(vision), patch_size: vision['patch_size'], hidden_act: activation,
    },
  };
}

/** Its preprocessing as transformers' preprocessor_config.json has it. */
export function openClipPreprocessing(config: JsonRecord, refuse: Refuse): JsonRecord {
  const size = imageSize(towers(config, refuse).vision);
  const given = (config['preprocess_cfg'] ?? {}) as JsonRecord;
  const mode = given['resize_mode'] ?? 'shortest';
  const interpolation = given['interpolation'] ?? 'bicubic';
  if (interpolation !== 'bicubic' || (mode !== 'shortest' && mode !== 'squash')) throw refuse(`its pictures are resized by ${String(interpolation)}, ${String(mode)}`);
  const square = { height: size, width: size };
  return { size: mode === 'squash' ? square : { shortest_edge: size }, crop_size: square, resample: 3, image_mean: given['mean'], image_std: given['std'] };
}

const entities: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: '\u00a0' };

function withoutEntities(text: string): string {
  return text.replace(/&(?:#(\d{1,7})|#x([\da-f]{1,6})|(\w+));/gi, (whole, decimal?: string, hex?: string, name?: string) => {
    if (name !== undefined) return Object.hasOwn(entities, name) ? entities[name]! : whole;
    const point = decimal === undefined ? Number.parseInt(hex!, 16) : Number(decimal);
    return point > 0 && point <= 0x10ffff ? String.fromCodePoint(point) : whole;
  });
}

/**
 * A prompt as open_clip reads it before its tokens: straight quotation marks, single letters for ligatures and full-width ones, no entities of
 * HTML (the named ones but for six are left as they are), lower case. Text in a wrong encoding, which it repairs, is left as it is.
 * Source: open_clip 3.3 src/open_clip/tokenizer.py `_clean_lower`; ftfy 6.3 fixes.py, chardata.py.
 */
export function openClipText(prompt: string): string {
  const plain = prompt.replace(/^\uFEFF/, '').replace(/[\u02bc\u2018-\u201b]/g, "'").replace(/[\u201c-\u201f]/g, '"')
    .replace(/[\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3\ufb00-\ufb06\u3000\uff01-\uffef]/g, (letter) => letter.normalize('NFKC'));
  return withoutEntities(withoutEntities(plain)).trim().toLowerCase();
}

const hidden = (tower: JsonRecord): number => Math.floor(Number(tower['width']) * Number(tower['mlp_ratio'] ?? 4));
const imageSize = (vision: JsonRecord): number => Number(Array.isArray(vision['image_size']) ? vision['image_size'][0] : (vision['image_size'] ?? 224));

/** What a plain CLIP's towers may say; anything else that is set makes another network of the same weights. */
const sizes = new Set(['width', 'layers', 'heads', 'head_width', 'mlp_ratio', 'patch_size', 'image_size', 'context_length', 'vocab_size']);
const usual: Readonly<Record<string, readonly unknown[]>> = { pool_type: ['tok', 'argmax'], proj_type: ['linear'], pos_embed_type: ['learnable'] };

function towers(config: JsonRecord, refuse: Refuse): { text: JsonRecord; vision: JsonRecord; embed: number; quick: boolean } {
  const model = (config['model_cfg'] ?? config) as JsonRecord;
  const [text, vision] = [model['text_cfg'], model['vision_cfg']] as [JsonRecord | undefined, JsonRecord | undefined];
  if (!text || !vision) throw refuse('its open_clip_config.json has no text_cfg or vision_cfg');
  for (const [key, value] of [...Object.entries(vision), ...Object.entries(text)]) {
    if (!value || sizes.has(key) || usual[key]?.includes(value)) continue;
    throw refuse(`its ${key} (${JSON.stringify(value)}) is not CLIP's`);
  }
  if (typeof vision['layers'] !== 'number') throw refuse('its picture tower is no vision transformer');
  return { text, vision, embed: Number(model['embed_dim']), quick: model['quick_gelu'] === true };
}
