/** CLIP with both towers, as rewards use it. Source: transformers 5 models/clip/modeling_clip.py CLIPVisionModel, CLIPModel. */
import { AppError, assert } from '../base/errors.ts';
import { traceInLanes } from '../engine/lanes.ts';
import { conv2d, layerNorm, linear } from '../engine/ops.ts';
import { scope } from '../engine/scope.ts';
import { tf, type Tensor, type Tensor2D, type Tensor4D } from '../engine/tf.ts';
import type { Engine } from '../engine/engine.ts';
import { transformersActivations } from '../nn/activations.ts';
import { clipEncoderLayer, clipEncoderParameters, towerMemory, type ClipEncoderConfig } from '../nn/clip-encoder.ts';
import { ParameterList, type Weights } from '../nn/parameters.ts';
import { disposeWeights, loadWeights } from '../weights/load.ts';
import { clipTextConfig, clipTextParameters } from './clip-text-config.ts';
import { encodeText } from './clip-text.ts';
import { openClipFiles, type ClipFiles } from './clip-files.ts';
import { ConfigReader, type JsonRecord } from './config.ts';
import { SMALL_NETWORK_BYTES } from './part-memory.ts';

export interface ClipVisionConfig extends ClipEncoderConfig {
  /** Pixels on each side. */
  readonly imageSize: number;
  readonly patchSize: number;
  readonly channels: number;
}

/** What preprocessor_config.json asks for. */
export interface ClipPreprocessor {
  /** The short side is resized to this, or both sides to a fixed size. */
  readonly resize: { readonly shortestEdge: number } | { readonly height: number; readonly width: number } | null;
  /** Centre crop [height, width], null without. */
  readonly crop: { readonly height: number; readonly width: number } | null;
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
  /** 3 is bicubic, 2 bilinear. */
  readonly resample: number;
  /** Where half a pixel at the edge goes: transformers crops it down, open_clip (by torchvision) to an even number. Down if left out. */
  readonly halfPixel?: 'down' | 'even';
}

export interface Clip {
  /** The folder or file. */
  readonly path: string;
  readonly vision: ClipVisionConfig;
  readonly projection: number;
  readonly preprocessor: ClipPreprocessor;
  /** exp(logit_scale). */
  readonly logitScale: number;
  readonly parameters: number;
  readonly bytes: number;
  /** Normalised pixels [B, S, S, 3] -> [B, P], not yet of unit length. Differentiable. */
  encodeImage(pixelValues: Tensor4D): Tensor2D;
  /** [B, P], not yet of unit length. */
  encodeText(prompts: readonly string[]): Tensor2D;
  dispose(): void;
}

function visionConfig(reader: ConfigReader): ClipVisionConfig {
  const config = {
    width: reader.size('hidden_size', 768), hidden: reader.size('intermediate_size', 3072), layers: reader.layers('num_hidden_layers', 12),
    heads: reader.size('num_attention_heads', 12), eps: reader.number('layer_norm_eps', 1e-5),
    activation: reader.oneOf('hidden_act', Object.keys(transformersActivations), 'quick_gelu'),
    imageSize: reader.size('image_size', 224), patchSize: reader.size('patch_size', 32), channels: reader.size('num_channels', 3),
  };
  if (config.width % config.heads !== 0) throw reader.refuse('num_attention_heads', `a divisor of hidden_size ${config.width}`);
  return config;
}

function visionParameters(config: ClipVisionConfig, list: ParameterList): void {
  const patches = Math.floor(config.imageSize / config.patchSize) ** 2;
  list.add('vision_model.embeddings.class_embedding', [config.width]);
  list.add('vision_model.embeddings.patch_embedding.weight', [config.width, config.channels, config.patchSize, config.patchSize]);
  list.add('vision_model.embeddings.position_embedding.weight', [patches + 1, config.width]);
  list.norm('vision_model.pre_layrnorm', config.width); // so spelt in every checkpoint
  clipEncoderParameters(list, 'vision_model.encoder', config);
  list.norm('vision_model.post_layernorm', config.width);
}

export interface ClipOptions {
  /** Of the MLPs, where the model is a file without a config. */
  readonly activation?: 'gelu' | 'quick_gelu';
  /** Whether prompts will be encoded too; false leaves the text tower on disk. Default true. */
  readonly text?: boolean;
}

/** Loads a CLIP of any layout that {@link openClipFiles} knows. @throws AppError('weights') */
export function loadClip(engine: Engine, path: string, options: ClipOptions = {}): Clip {
  const files = openClipFiles(path, options.activation ?? null);
  using _source = files.source;
  return loadClipFiles(engine, files, options);
}

/** The same from files already open, which stay open. @throws AppError('weights') */
export function loadClipFiles(engine: Engine, files: ClipFiles, options: ClipOptions = {}): Clip {
  const { config: root, path } = files;
  const part = (key: string): ConfigReader => {
    const values = { ...((root.values[`${key}`] ?? {}) as JsonRecord), ...((root.values[`${key}_dict`] ?? {}) as JsonRecord) };
    return new ConfigReader(`${root.path} (${key})`, values);
  };
  const vision = visionConfig(part('vision_config'));
  const projection = root.size('projection_dim', 512);
  const text = options.text === false ? null : { ...clipTextConfig(part('text_config'), true), projection };
  const list = text ? clipTextParameters(text) : new ParameterList();
  visionParameters(vision, list);
  list.linear('visual_projection', vision.width, projection, false);
  if (text) list.add('logit_scale', []);
  const tokenizer = text ? files.tokenizer(text.positions) : null;
  const preprocessor = { ...readPreprocessor(files.preprocessor, vision.imageSize), halfPixel: files.layout === 'open_clip' ? 'even' as const : 'down' as const };
  const ignored = text ? /embeddings\.position_ids$/ : /embeddings\.position_ids$|^text_|^logit_scale$/;
  const { weights, parameters, bytes } = loadWeights(files.source, list.shapes, {
    what: 'CLIP', engine, precision: 'stored', rename: (key) => (ignored.test(key) ? null : key),
  });
  const { logit_scale: logit, ...rest } = weights;
  const logitScale = logit ? Math.exp(logit.dataSync()[0]!) : 1;
  return {
    path, vision, projection, preprocessor, logitScale, parameters, bytes,
    encodeImage: (pixelValues) => encodeImage(engine, vision, rest, pixelValues, bytes < SMALL_NETWORK_BYTES),
    encodeText: (prompts) => {
      assert(text !== null && tokenizer !== null, () => `the text tower of ${path} was not loaded`);
      return scope(() => encodeText(engine, text!, rest, prompts.map((prompt) => tokenizer!.encode(prompt)), { skip: 0, normalize: false }).pooled!);
    },
    dispose: () => disposeWeights(weights),
  };
}

function encodeImage(engine: Engine, config: ClipVisionConfig, weights: Weights, pixels: Tensor4D, whole: boolean): Tensor2D {
  const [, H, W, C] = pixels.shape;
  if (H !== config.imageSize || W !== config.imageSize || C !== config.channels) {
    throw new AppError('internal', `CLIP was given pixels [${pixels.shape}], expected [B,${config.imageSize},${config.imageSize},${config.channels}]`);
  }
  const own = Object.fromEntries(Object.entries(weights).filter(([key]) => key.startsWith('vision_model.') || key.startsWith('visual_projection')));
  return scope(() => {
    const body = (w: Weights, _adapter: Weights, input: Tensor): Tensor => visionForward(engine, config, w, input);
    return (whole ? traceInLanes(engine, `clip vision ${JSON.stringify(config)}`, body)(own, {}, pixels) : body(own, {}, pixels)) as Tensor2D;
  });
}

/** @param pixels [B, S, S, 3] @returns [B, P] */
function visionForward(engine: Engine, config: ClipVisionConfig, w: Weights, pixels: Tensor): Tensor {
  const patches = conv2d(pixels, w['vision_model.embeddings.patch_embedding.weight']!, undefined, config.patchSize);
  const [B, h, wide] = patches.shape as [number, number, number, number];
  const first = tf.tile(tf.reshape(w['vision_model.embeddings.class_embedding']!, [1, 1, config.width]), [B, 1, 1]);
  const tokens = tf.concat([first, tf.reshape(patches, [B, h * wide, config.width])], 1); // [B, 1 + patches, D]
  const norm = (name: string, t: Tensor): Tensor => layerNorm(t, w[`vision_model.${name}.weight`]!, w[`vision_model.${name}.bias`]!, config.eps);
  let x = norm('pre_layrnorm', tf.add(tokens, w['vision_model.embeddings.position_embedding.weight']!));
  for (let i = 0; i < config.layers; i++) x = clipEncoderLayer(engine, config, w, 'vision_model.encoder', i, x, false, null, towerMemory(config));
  const pooled = tf.reshape(tf.slice(x, [0, 0, 0], [-1, 1, -1]), [B, config.width]);
  return linear(norm('post_layernorm', pooled), w['visual_projection.weight']!);
}

/** preprocessor_config.json's values, CLIP's own where they are left out. */
function readPreprocessor(reader: ConfigReader, imageSize: number): ClipPreprocessor {
  const box = (key: string): { height: number; width: number } | { shortestEdge: number } => {
    const value = reader.values[key] ?? imageSize;
    if (typeof value === 'number') return { shortestEdge: value };
    const { shortest_edge: edge, height, width } = value as JsonRecord;
    if (typeof edge === 'number') return { shortestEdge: edge };
    if (typeof height === 'number' && typeof width === 'number') return { height, width };
    throw reader.refuse(key, 'a number, {"shortest_edge"} or {"height", "width"}');
  };
  const crop = box('crop_size');
  const triple = (key: string, standard: readonly [number, number, number]) => (reader.numbersOrNull(key, 3) ?? standard) as [number, number, number];
  return {
    resize: reader.flag('do_resize', true) ? box('size') : null,
    crop: !reader.flag('do_center_crop', true) ? null : 'height' in crop ? crop : { height: crop.shortestEdge, width: crop.shortestEdge },
    mean: triple('image_mean', [0.48145466, 0.4578275, 0.40821073]), std: triple('image_std', [0.26862954, 0.26130258, 0.27577711]),
    resample: reader.number('resample', 3),
  };
}
