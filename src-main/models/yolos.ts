/** YOLOS: a vision transformer that detects objects with tokens of its own. Source: transformers 5 models/yolos/modeling_yolos.py YolosForObjectDetection. */
import { join } from 'node:path';
import { conv2d, layerNorm, linear } from '../engine/ops.ts';
import { scope } from '../engine/scope.ts';
import { tf, type Tensor, type Tensor2D, type Tensor3D, type Tensor4D } from '../engine/tf.ts';
import type { Engine } from '../engine/engine.ts';
import { transformersActivations } from '../nn/activations.ts';
import { clipEncoderLayer, clipEncoderParameters, type ClipEncoderConfig } from '../nn/clip-encoder.ts';
import { ParameterList, type Weights } from '../nn/parameters.ts';
import { openWeightFolder } from '../weights/folder.ts';
import { disposeWeights, loadWeights } from '../weights/load.ts';
import { ConfigReader, type JsonRecord } from './config.ts';

export interface YolosConfig extends ClipEncoderConfig {
  /** Height and width in pixels that the stored position embeddings are for. */
  readonly imageSize: readonly [number, number];
  readonly patchSize: number;
  readonly channels: number;
  readonly detectionTokens: number;
  /** Whether position embeddings are added between the layers as well. */
  readonly midPositions: boolean;
  /** Names of the classes by id; the one after the last is "no object". */
  readonly labels: readonly string[];
}

export interface Yolos {
  readonly path: string;
  readonly config: YolosConfig;
  readonly parameters: number;
  readonly bytes: number;
  /** Normalised pixels [B, H, W, 3], at least one patch high and wide -> class logits [B, tokens, classes + 1], the last "no object". Differentiable. */
  detect(pixels: Tensor4D): Tensor3D;
  dispose(): void;
}

export function yolosConfig(reader: ConfigReader): YolosConfig {
  reader.only('model_type', ['yolos']);
  reader.only('qkv_bias', [true]);
  const size = reader.values['image_size'] ?? [512, 864];
  const [height, width] = (Array.isArray(size) ? size : [size, size]) as [unknown, unknown];
  if (!Number.isSafeInteger(height) || !Number.isSafeInteger(width)) throw reader.refuse('image_size', 'a height and a width');
  const names = Object.entries((reader.values['id2label'] ?? { 0: 'LABEL_0', 1: 'LABEL_1' }) as JsonRecord);
  const labels: string[] = [];
  for (const [id, name] of names) labels[Number(id)] = String(name);
  if (names.length === 0 || labels.length !== names.length || labels.includes(undefined as never)) throw reader.refuse('id2label', 'names for the ids 0, 1, 2, ...');
  const config = {
    width: reader.size('hidden_size', 768), hidden: reader.size('intermediate_size', 3072), layers: reader.layers('num_hidden_layers', 12),
    heads: reader.size('num_attention_heads', 12), eps: reader.number('layer_norm_eps', 1e-12),
    activation: reader.oneOf('hidden_act', Object.keys(transformersActivations), 'gelu'),
    imageSize: [height as number, width as number] as const, patchSize: reader.size('patch_size', 16), channels: reader.size('num_channels', 3),
    detectionTokens: reader.size('num_detection_tokens', 100), midPositions: reader.flag('use_mid_position_embeddings', true), labels,
  };
  if (config.width % config.heads !== 0) throw reader.refuse('num_attention_heads', `a divisor of hidden_size ${config.width}`);
  return config;
}

/** Rows and columns of patches in the stored position embeddings. */
const grid = ({ imageSize, patchSize }: YolosConfig): [number, number] => [Math.floor(imageSize[0] / patchSize), Math.floor(imageSize[1] / patchSize)];

/** The layers are named as in {@link clipEncoderParameters}; see {@link renameYolos}. The boxes' head is not used. */
export function yolosParameters(config: YolosConfig): ParameterList {
  const { width, channels, patchSize, detectionTokens, layers, imageSize } = config;
  const [h, w] = grid(config);
  const list = new ParameterList();
  list.add('vit.embeddings.cls_token', [1, 1, width]);
  list.add('vit.embeddings.detection_tokens', [1, detectionTokens, width]);
  list.add('vit.embeddings.position_embeddings', [1, 1 + h * w + detectionTokens, width]);
  list.conv('vit.embeddings.patch_embeddings.projection', channels, width, patchSize);
  if (config.midPositions) {
    const tokens = 1 + Math.floor((imageSize[0] * imageSize[1]) / patchSize ** 2) + detectionTokens;
    list.add('vit.encoder.mid_position_embeddings', [layers - 1, 1, tokens, width]);
  }
  clipEncoderParameters(list, 'vit.encoder', config);
  list.norm('vit.layernorm', width);
  for (const [i, out] of [width, width, config.labels.length + 1].entries()) list.linear(`class_labels_classifier.layers.${i}`, width, out);
  return list;
}

const layerNames: Readonly<Record<string, string>> = {
  'attention.attention.query': 'self_attn.q_proj', 'attention.attention.key': 'self_attn.k_proj', 'attention.attention.value': 'self_attn.v_proj',
  'attention.output.dense': 'self_attn.out_proj', 'intermediate.dense': 'mlp.fc1', 'output.dense': 'mlp.fc2',
  layernorm_before: 'layer_norm1', layernorm_after: 'layer_norm2',
};

/** A key of the file as this model names it; null for what classes do not need. */
export function renameYolos(key: string): string | null {
  if (/^(bbox_predictor|vit\.pooler)\./.test(key)) return null;
  if (key === 'vit.encoder.interpolation.mid_position_embeddings') return 'vit.encoder.mid_position_embeddings';
  const layer = /^vit\.encoder\.layer\.(\d+)\.(.+)\.(weight|bias)$/.exec(key);
  const name = layer ? layerNames[layer[2]!] : undefined;
  return name ? `vit.encoder.layers.${layer![1]}.${name}.${layer![3]}` : key;
}

/** Loads a transformers YolosForObjectDetection folder. @throws AppError('weights') */
export function loadYolos(engine: Engine, folder: string): Yolos {
  const config = yolosConfig(new ConfigReader(join(folder, 'config.json')));
  using source = openWeightFolder(folder, { what: 'YOLOS', stem: 'model' });
  const { weights, parameters, bytes } = loadWeights(source, yolosParameters(config).shapes, { what: 'YOLOS', engine, precision: 'stored', rename: renameYolos });
  return {
    path: folder, config, parameters, bytes,
    detect: (pixels) => scope(() => yolosForward(engine, config, weights, pixels)),
    dispose: () => disposeWeights(weights),
  };
}

function yolosForward(engine: Engine, config: YolosConfig, w: Weights, pixels: Tensor4D): Tensor3D {
  const { width, detectionTokens: n, layers, eps } = config;
  const projection = 'vit.embeddings.patch_embeddings.projection';
  const patches = conv2d(pixels, w[`${projection}.weight`]!, w[`${projection}.bias`], config.patchSize);
  const [B, rows, columns] = patches.shape as [number, number, number, number];
  const spread = (name: string): Tensor => tf.tile(w[`vit.embeddings.${name}`]! as Tensor3D, [B, 1, 1]);
  let x: Tensor = tf.concat([spread('cls_token'), tf.reshape(patches, [B, rows * columns, width]), spread('detection_tokens')], 1); // [B, 1 + patches + n, D]
  x = tf.add(x, positionsFor(config, w['vit.embeddings.position_embeddings']!, rows, columns));
  const mid = w['vit.encoder.mid_position_embeddings']; // [1 + patches + n, D, 1, layers - 1]: of rank 4, so laid out like a filter
  for (let i = 0; i < layers; i++) {
    x = clipEncoderLayer(engine, config, w, 'vit.encoder', i, x, false, null, 'recompute'); // 60 MB a layer at 512 x 768 otherwise
    if (mid && i < layers - 1) x = tf.add(x, positionsFor(config, tf.reshape(tf.slice(mid, [0, 0, 0, i], [-1, -1, 1, 1]), [1, -1, width]), rows, columns));
  }
  let seen = tf.slice(x, [0, x.shape[1]! - n, 0], [-1, n, -1]);
  seen = layerNorm(seen, w['vit.layernorm.weight']!, w['vit.layernorm.bias']!, eps);
  for (let i = 0; i < 3; i++) {
    const name = `class_labels_classifier.layers.${i}`;
    seen = linear(seen, w[`${name}.weight`]!, w[`${name}.bias`]);
    if (i < 2) seen = tf.relu(seen);
  }
  return seen as Tensor3D;
}

/** Stored position embeddings [1, 1 + h*w + n, D] for another grid of patches: bicubic between them, the class's and the detection tokens' as they are. */
function positionsFor(config: YolosConfig, stored: Tensor, rows: number, columns: number): Tensor {
  const { width, detectionTokens: n } = config;
  const [h, w] = grid(config);
  if (h === rows && w === columns) return stored;
  const part = (begin: number, size: number): Tensor => tf.slice(stored, [0, begin, 0], [1, size, width]);
  const down = tf.matMul(tf.tensor2d(interpolationWeights(h, rows), [rows, h]), tf.reshape(part(1, h * w), [h, w * width]) as Tensor2D); // [rows, w * D]
  const turned = tf.reshape(tf.transpose(tf.reshape(down, [rows, w, width]), [1, 0, 2]), [w, rows * width]) as Tensor2D;
  const across = tf.matMul(tf.tensor2d(interpolationWeights(w, columns), [columns, w]), turned); // [columns, rows * D]
  const patches = tf.reshape(tf.transpose(tf.reshape(across, [columns, rows, width]), [1, 0, 2]), [1, rows * columns, width]);
  return tf.concat([part(0, 1), patches, part(stored.shape[1]! - n, n)], 1);
}

/**
 * Weights [outSize, inSize] of one axis of torch's bicubic interpolate with align_corners false and without antialiasing.
 * Source: pytorch aten/src/ATen/native/UpSample.h get_cubic_upsample_coefficients (A = -0.75), edges repeated.
 */
function interpolationWeights(inSize: number, outSize: number): Float32Array {
  const a = -0.75;
  const near = (t: number): number => ((a + 2) * t - (a + 3)) * t * t + 1;
  const far = (t: number): number => ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
  const weights = new Float32Array(outSize * inSize);
  for (let i = 0; i < outSize; i++) {
    const at = ((i + 0.5) * inSize) / outSize - 0.5;
    const first = Math.floor(at);
    const t = at - first;
    for (const [k, weight] of [far(t + 1), near(t), near(1 - t), far(2 - t)].entries()) {
      weights[i * inSize + Math.min(inSize - 1, Math.max(0, first - 1 + k))]! += weight;
    }
  }
  return weights;
}
