/** CLIP's text model, with or without projection. Source: transformers 5 models/clip/modeling_clip.py CLIPTextModel. */
import { assert } from '../base/errors.ts';
import { layerNorm } from '../engine/ops.ts';
import { scope } from '../engine/scope.ts';
import { tf, type Tensor, type Tensor2D, type Tensor3D } from '../engine/tf.ts';
import type { Engine } from '../engine/engine.ts';
import { clipEncoderLayer } from '../nn/clip-encoder.ts';
import { adaptableModules, blockAdapter, loraLinear, type Adapter, type LoraTarget } from '../nn/lora.ts';
import type { Weights } from '../nn/parameters.ts';
import type { Precision } from '../weights/load.ts';
import { residentWeights } from '../weights/resident.ts';
import { clipTextConfig, clipTextParameters, type ClipTextConfig } from './clip-text-config.ts';
import type { ModelFiles, TextEncoderName } from './files.ts';

export interface ClipText {
  readonly config: ClipTextConfig;
  readonly weights: Weights;
  readonly parameters: number;
  readonly bytes: number;
  encode(ids: readonly (readonly number[])[], options: HiddenState, adapter?: Adapter | null): EncodedText;
  /** The linear layers that LoRA may adapt. */
  loraTargets(): LoraTarget[];
  /** Loads the weights now instead of at first use; yields the bytes loaded so far. */
  loading(): Generator<number, void>;
  /** Frees the weights; they are loaded again when used. */
  release(): void;
}

/** Which hidden state stands for the prompt. */
export interface HiddenState {
  /** Layers left out at the end: 0 is the last layer's output. */
  readonly skip: number;
  /** Whether the final layer norm follows. */
  readonly normalize: boolean;
}

export interface EncodedText {
  /** [B, N, D] */
  readonly hidden: Tensor3D;
  /** The projected pooled text [B, P] of all layers, null without a projection. */
  readonly pooled: Tensor2D | null;
}

/** @throws AppError('weights') */
export function loadClipText(engine: Engine, files: ModelFiles, part: TextEncoderName, precision: Precision = 'float32'): ClipText {
  const projected = part === 'text_encoder_2';
  const config = clipTextConfig(files.config(part), projected);
  const resident = residentWeights(() => files.open(part), clipTextParameters(config).shapes, {
    what: part, engine, precision, rename: (key, keys) => renameText(key, keys, projected),
  });
  return {
    config, parameters: resident.parameters, bytes: resident.bytes, loading: () => resident.loading(), release: () => resident.release(),
    get weights() {
      return resident.get();
    },
    encode: (ids, options, adapter = null) => encodeText(engine, config, resident.get(), ids, options, adapter),
    loraTargets: () => adaptableModules(clipTextParameters(config)),
  };
}

/** Old files hold the positions 0, 1, 2, ... as well; some lack the prefix; a projection is ignored where the class has none. */
function renameText(key: string, keys: ReadonlySet<string>, projected: boolean): string | null {
  if (/embeddings\.position_ids$/.test(key)) return null;
  if (key === 'text_projection.weight') return projected ? key : null;
  const prefixed = keys.has('text_model.embeddings.token_embedding.weight');
  return prefixed || key.startsWith('text_model.') ? key : `text_model.${key}`;
}

/**
 * Token ids through the text model; layers that nothing asks for do not run.
 * @param ids B lists of N ids, of equal length
 */
export function encodeText(engine: Engine, config: ClipTextConfig, weights: Weights, ids: readonly (readonly number[])[], options: HiddenState, adapter: Adapter | null = null): EncodedText {
  const { width, eps, layers, projection } = config;
  assert(options.skip >= 0 && options.skip <= layers, () => `encodeText: ${options.skip} of ${layers} layers are to be skipped`);
  return scope(() => {
    const [B, N] = [ids.length, ids[0]!.length];
    const tokens = tf.tensor1d(Int32Array.from(ids.flat()), 'int32');
    const norm = (t: Tensor): Tensor => layerNorm(t, weights['text_model.final_layer_norm.weight']!, weights['text_model.final_layer_norm.bias']!, eps);
    let x: Tensor = tf.reshape(tf.gather(weights['text_model.embeddings.token_embedding.weight']!, tokens), [B, N, width]);
    x = tf.add(x, tf.slice(weights['text_model.embeddings.position_embedding.weight']!, [0, 0], [N, width]));
    const wanted = layers - options.skip;
    for (let i = 0; i < wanted; i++) x = clipEncoderLayer(engine, config, weights, 'text_model.encoder', i, x, true, adapter);
    const hidden = (options.normalize ? norm(x) : x) as Tensor3D;
    if (projection === null) return { hidden, pooled: null };
    for (let i = wanted; i < layers; i++) x = clipEncoderLayer(engine, config, weights, 'text_model.encoder', i, x, true, adapter);
    const rows = Int32Array.from(ids, (row, i) => i * N + endPosition(row, config.eosId));
    const ends = tf.gather(tf.reshape(x, [B * N, width]), tf.tensor1d(rows, 'int32')); // [B, D]
    return { hidden, pooled: loraLinear(weights, blockAdapter(adapter, '', ['text_projection']), adapter?.scale ?? 0, 'text_projection', norm(ends)) as Tensor2D };
  });
}

/** Where the prompt ends: the first end token, or by the old rule (eos_token_id 2) the first of the highest ids. */
export function endPosition(ids: readonly number[], eosId: number): number {
  const wanted = eosId === 2 ? ids.reduce((most, id) => Math.max(most, id), -1) : eosId;
  return Math.max(0, ids.indexOf(wanted));
}
