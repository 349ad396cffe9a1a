/** What the network is told of the prompts. Source: diffusers 0.42.1 encode_prompt of StableDiffusionPipeline and StableDiffusionXLPipeline, _get_add_time_ids. */
import { AppError } from '../base/errors.ts';
import { readFloatsSync, scope } from '../engine/scope.ts';
import { tf, type Tensor2D, type Tensor3D } from '../engine/tf.ts';
import type { ClipText, HiddenState } from '../models/clip-text.ts';
import type { ClipTokenizer } from '../models/clip-tokenizer.ts';
import type { LoraSet } from '../nn/lora.ts';
import { plainReading, promptChunks, type PromptReading } from '../models/prompt-chunks.ts';
import { guidanceEmbedding } from '../nn/embeddings.ts';
import type { Conditioning, PromptOptions } from './pipeline.ts';

export interface TextEncoder {
  readonly tokenizer: ClipTokenizer;
  readonly model: ClipText;
}

export interface ConditioningModel {
  /** One, or SDXL's two; their states go side by side. */
  readonly encoders: readonly TextEncoder[];
  /** SDXL: the state before the last layer, the pooled text of the last encoder, the picture's sizes. */
  readonly xl: boolean;
  /** force_zeros_for_empty_prompt: zeros stand for a negative prompt that is not given. */
  readonly zeroEmpty: boolean;
  /** The UNet's timeCondDim. */
  readonly guidanceDim: number | null;
}

interface PromptEmbedding {
  /** [chunks * N, D] */
  readonly text: Float32Array;
  /** [P], empty without pooled text */
  readonly pooled: Float32Array;
}

/** {@link PromptEmbedding} as tensors: [chunks * N, D] and [1, P]. */
interface Encoded {
  readonly text: Tensor2D;
  readonly pooled: Tensor2D | null;
}

/** All that an embedding depends on besides the prompt. */
interface Manner extends PromptReading {
  readonly state: HiddenState;
}

/** Prompts kept encoded, unless more are asked for; at SDXL's size 0.6 MB each. */
const usualLimit = 128;

export interface Conditioner {
  encode(prompts: readonly string[], options: PromptOptions): Conditioning;
  /** The same embeddings as functions of the text encoders' adapters, by the names in Conditioning, a row a token; zeros of no prompt are left out. Nothing is kept. */
  embed(prompts: readonly string[], options: PromptOptions): Record<string, Tensor2D>;
  /** Encodes prompts and keeps them all: none of them needs the encoders again. */
  remember(prompts: readonly string[], options: PromptOptions): void;
}

/**
 * Encodes prompts. It keeps the latest embeddings as plain numbers, so that a prompt met again costs nothing.
 * Prompts of fewer chunks than the longest of a call, the negative one among them, are filled up with chunks of the empty prompt (as compel does).
 */
export function conditioner(model: ConditioningModel): Conditioner {
  const { encoders, xl } = model;
  const cache = new Map<string, PromptEmbedding>();
  let cacheLimit = usualLimit;
  const D = encoders.reduce((sum, encoder) => sum + encoder.model.config.width, 0);
  const P = xl ? encoders.at(-1)!.model.config.projection! : 0;

  /** Chunk by chunk: one shape, so one trace serves all. */
  const embed = (prompt: string, manner: Manner, adapters: LoraSet): PromptEmbedding => {
    const key = JSON.stringify([prompt, manner, adapterKey(adapters)]);
    let embedding = cache.get(key);
    if (embedding) cache.delete(key);
    else embedding = scope(() => valuesOf(encode(encoders, prompt, manner, adapters)));
    cache.set(key, embedding); // now the latest
    if (cache.size > cacheLimit) cache.delete(cache.keys().next().value!);
    return embedding;
  };

  /** What is read of prompts and options. */
  const asked = (prompts: readonly string[], options: PromptOptions) => {
    const { negativePrompt, guidance } = options;
    const { longPrompts = plainReading.longPrompts, promptSyntax = plainReading.promptSyntax } = options;
    const manner: Manner = { longPrompts, promptSyntax, state: hiddenState(model, options.clipSkip ?? 0) };
    const plain: Manner = { ...manner, state: hiddenState(model, 0) }; // diffusers skips layers for what is wanted only
    const told = model.guidanceDim !== null;
    return { manner, plain, told, B: prompts.length, guided: guidance > 1 && !told, zeros: negativePrompt === null && model.zeroEmpty };
  };

  const embedAll = (prompts: readonly string[], options: PromptOptions): Record<string, Tensor2D> => scope(() => {
    const { negativePrompt, adapters = {} } = options;
    const { manner, plain, B, guided, zeros } = asked(prompts, options);
    const made = new Map<string, Encoded>();
    const once = (prompt: string, own: Manner): Encoded => {
      const key = JSON.stringify([prompt, own.state]);
      made.set(key, made.get(key) ?? encode(encoders, prompt, own, adapters));
      return made.get(key)!;
    };
    const wanted = prompts.map((prompt) => once(prompt, manner));
    const avoided = guided && !zeros ? new Array<Encoded>(B).fill(once(negativePrompt ?? '', plain)) : [];
    const length = Math.max(...[...wanted, ...avoided].map((each) => each.text.shape[0]));
    const filled = (rows: readonly Encoded[], own: Manner): Tensor2D => tf.concat(rows.flatMap(({ text }) => {
      const left = length - text.shape[0];
      return left === 0 ? [text] : [text, ...new Array<Tensor2D>(left / once('', own).text.shape[0]).fill(once('', own).text)];
    }), 0) as Tensor2D;
    const pooled = (rows: readonly Encoded[]): Tensor2D => tf.concat(rows.map((each) => each.pooled!), 0) as Tensor2D;
    return {
      promptEmbeds: filled(wanted, manner), ...(xl && { pooledPromptEmbeds: pooled(wanted) }),
      ...(avoided.length > 0 && { negativePromptEmbeds: filled(avoided, plain), ...(xl && { negativePooledPromptEmbeds: pooled(avoided) }) }),
    };
  });

  const encodeAll = (prompts: readonly string[], options: PromptOptions): Conditioning => {
    const { negativePrompt, guidance, adapters = {} } = options;
    const { manner, plain, told, B, guided, zeros } = asked(prompts, options);
    const wanted = prompts.map((prompt) => embed(prompt, manner, adapters));
    const avoided = guided && !zeros ? new Array<PromptEmbedding>(B).fill(embed(negativePrompt ?? '', plain, adapters)) : [];
    const length = Math.max(...[...wanted, ...avoided].map((each) => each.text.length)) / D;
    const tensors = scope(() => {
      const stack = (rows: readonly PromptEmbedding[], same: Manner): [Tensor3D, Tensor2D | null] => [
        tf.tensor3d(joined(rows.map((row) => fill(row.text, length * D, () => embed('', same, adapters).text))), [B, length, D], 'float32'),
        xl ? tf.tensor2d(joined(rows.map((row) => row.pooled)), [B, P], 'float32') : null,
      ];
      const [promptEmbeds, pooledPromptEmbeds] = stack(wanted, manner);
      const [negativePromptEmbeds, negativePooledPromptEmbeds] = !guided ? [null, null]
        : zeros ? [tf.zeros([B, length, D]) as Tensor3D, xl ? tf.zeros([B, P]) as Tensor2D : null] : stack(avoided, plain);
      return {
        promptEmbeds, pooledPromptEmbeds, negativePromptEmbeds, negativePooledPromptEmbeds,
        addTimeIds: xl ? tf.tensor2d(new Array<number[]>(B).fill(sizeIds(options))) : null,
        guidanceEmbeds: told ? tf.tile(guidanceEmbedding(guidance - 1, model.guidanceDim!), [B, 1]) as Tensor2D : null,
      };
    });
    return {
      ...tensors, guidance,
      dispose() {
        for (const tensor of Object.values(tensors)) tensor?.dispose();
      },
    };
  };
  return {
    encode: encodeAll,
    embed: embedAll,
    remember(prompts, options) {
      cacheLimit = Math.max(cacheLimit, cache.size + 2 * new Set(prompts).size + 2); // with the negative and the empty one
      for (const prompt of new Set(prompts)) encodeAll([prompt], options).dispose();
    },
  };
}

/** (original height, width, crop top, left, target height, width) */
function sizeIds({ width, height, originalSize = [width, height], cropTopLeft = [0, 0], targetSize = [width, height] }: PromptOptions): number[] {
  return [originalSize[1], originalSize[0], ...cropTopLeft, targetSize[1], targetSize[0]];
}

/** SDXL takes the state before the last layer as it is, SD 1.x and 2.x the last one through the final norm; clip skip counts from there. */
function hiddenState({ encoders, xl }: ConditioningModel, clipSkip: number): HiddenState {
  const skip = clipSkip + Number(xl);
  const layers = Math.min(...encoders.map((encoder) => encoder.model.config.layers));
  if (!Number.isSafeInteger(clipSkip) || clipSkip < 0 || skip > layers) {
    throw new AppError('config', `Clip skip is ${clipSkip}, expected a whole number from 0 to ${layers - Number(xl)} for this model.`);
  }
  return { skip, normalize: !xl };
}

/** All encoders' states side by side, chunk after chunk, and the pooled text of the last encoder's first chunk (as A1111 has it). */
function encode(encoders: readonly TextEncoder[], prompt: string, { state, ...reading }: Manner, adapters: LoraSet): Encoded {
  const own = [adapters.text_encoder, adapters.text_encoder_2];
  const read = encoders.map(({ tokenizer }) => promptChunks(tokenizer, prompt, reading));
  const chunks = Math.max(...read.map((each) => each.length)); // the tokenizers may cut differently
  let pooled: Tensor2D | null = null;
  const rows = Array.from({ length: chunks }, (_, i) => {
    const states = encoders.map(({ tokenizer, model }, k) => {
      const chunk = read[k]![i] ?? { ids: tokenizer.frame([]), weights: null };
      const encoded = model.encode([chunk.ids], state, own[k] ?? null);
      if (i === 0 && encoded.pooled) pooled = encoded.pooled;
      return chunk.weights ? emphasise(encoded.hidden, chunk.weights) : encoded.hidden;
    });
    return tf.concat(states, 2); // [1, N, D]
  });
  const all = tf.concat(rows, 1);
  return { text: tf.reshape(all, [-1, all.shape[2]!]), pooled };
}

function valuesOf({ text, pooled }: Encoded): PromptEmbedding {
  return { text: readFloatsSync(text).slice(), pooled: pooled ? readFloatsSync(pooled).slice() : new Float32Array(0) };
}

/**
 * z w mean(z) / mean(z w), w one for each token: A1111's "original" emphasis, here for each chunk and encoder by itself.
 * Source: AUTOMATIC1111/stable-diffusion-webui:modules/sd_emphasis.py EmphasisOriginal.
 * @param hidden [1, N, D]
 */
function emphasise(hidden: Tensor3D, weights: readonly number[]): Tensor3D {
  const weighted = tf.mul(hidden, tf.tensor3d([...weights], [1, weights.length, 1], 'float32'));
  return tf.mul(weighted, tf.div(tf.mean(hidden), tf.mean(weighted)));
}

/** `values`, and `more()` as often as it takes to reach `size`. */
function fill(values: Float32Array, size: number, more: () => Float32Array): Float32Array {
  if (values.length === size) return values;
  const all = new Float32Array(size);
  all.set(values);
  const chunk = more();
  for (let at = values.length; at < size; at += chunk.length) all.set(chunk, at);
  return all;
}

/** Rows of equal length, one after another. */
function joined(rows: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(rows.length * rows[0]!.length);
  for (const [i, row] of rows.entries()) all.set(row, i * row.length);
  return all;
}

/** Adapters met so far, by a number each: embeddings are kept for the adapter they were made with. Adapters do not change. */
const adapterNumbers = new WeakMap<object, number>();
let adaptersMet = 0;

function adapterKey({ text_encoder, text_encoder_2 }: LoraSet): number[] {
  return [text_encoder, text_encoder_2].map((adapter) => {
    if (!adapter) return 0;
    if (!adapterNumbers.has(adapter)) adapterNumbers.set(adapter, ++adaptersMet);
    return adapterNumbers.get(adapter)!;
  });
}
