/** What SDXL's network is told of the prompts. Source: diffusers 0.42.1 StableDiffusionXLPipeline.encode_prompt, _get_add_time_ids. */
import { readFloatsSync, scope } from '../engine/scope.ts';
import { tf, type Tensor2D, type Tensor3D } from '../engine/tf.ts';
import type { ClipText } from '../models/clip-text.ts';
import type { ClipTokenizer } from '../models/clip-tokenizer.ts';
import type { Conditioning } from './pipeline.ts';

export interface TextEncoder {
  readonly tokenizer: ClipTokenizer;
  readonly model: ClipText;
}

interface PromptEmbedding {
  /** [N, D1 + D2] */
  readonly text: Float32Array;
  /** [P] */
  readonly pooled: Float32Array;
}

/** Prompts kept encoded; at SDXL's size 0.6 MB each. */
const cacheLimit = 128;

/**
 * Returns the function that encodes prompts. It keeps the latest embeddings as plain numbers, so that a prompt met again costs nothing.
 * @param zeroEmpty force_zeros_for_empty_prompt: without a negative prompt, zeros stand for it
 */
export function conditioner(encoders: readonly [TextEncoder, TextEncoder], zeroEmpty: boolean) {
  const cache = new Map<string, PromptEmbedding>();
  const N = encoders[0].tokenizer.limit;
  const D = encoders[0].model.config.width + encoders[1].model.config.width;
  const P = encoders[1].model.config.projection!;

  /** Prompt by prompt: one shape, so one trace serves all. */
  const embed = (prompt: string): PromptEmbedding => {
    let embedding = cache.get(prompt);
    if (embedding) cache.delete(prompt);
    else embedding = scope(() => encode(encoders, prompt));
    cache.set(prompt, embedding); // now the latest
    if (cache.size > cacheLimit) cache.delete(cache.keys().next().value!);
    return embedding;
  };
  const stack = (rows: readonly Float32Array[], shape: number[]) => {
    const all = new Float32Array(rows.length * rows[0]!.length);
    for (const [i, row] of rows.entries()) all.set(row, i * row.length);
    return tf.tensor(all, [rows.length, ...shape], 'float32');
  };

  return (prompts: readonly string[], options: { negativePrompt: string; guidance: number; width: number; height: number }): Conditioning => {
    const { negativePrompt, guidance, width, height } = options;
    const wanted = prompts.map(embed);
    const B = prompts.length;
    const tensors = scope(() => {
      const promptEmbeds = stack(wanted.map((e) => e.text), [N, D]) as Tensor3D;
      const pooledPromptEmbeds = stack(wanted.map((e) => e.pooled), [P]) as Tensor2D;
      const addTimeIds = tf.tensor2d(new Array<number[]>(B).fill([height, width, 0, 0, height, width]));
      if (guidance <= 1) return { promptEmbeds, pooledPromptEmbeds, addTimeIds, negativePromptEmbeds: null, negativePooledPromptEmbeds: null };
      if (negativePrompt === '' && zeroEmpty) {
        return { promptEmbeds, pooledPromptEmbeds, addTimeIds, negativePromptEmbeds: tf.zeros([B, N, D]) as Tensor3D, negativePooledPromptEmbeds: tf.zeros([B, P]) as Tensor2D };
      }
      const avoided = new Array<PromptEmbedding>(B).fill(embed(negativePrompt));
      return {
        promptEmbeds, pooledPromptEmbeds, addTimeIds,
        negativePromptEmbeds: stack(avoided.map((e) => e.text), [N, D]) as Tensor3D,
        negativePooledPromptEmbeds: stack(avoided.map((e) => e.pooled), [P]) as Tensor2D,
      };
    });
    return {
      ...tensors, guidance,
      dispose() {
        for (const tensor of Object.values(tensors)) tensor?.dispose();
      },
    };
  };
}

/** Both encoders' penultimate states side by side, and the pooled embedding of the second. */
function encode(encoders: readonly [TextEncoder, TextEncoder], prompt: string): PromptEmbedding {
  const [first, second] = encoders.map(({ tokenizer, model }) => model.encode([tokenizer.encode(prompt)]));
  return {
    text: readFloatsSync(tf.concat([first!.penultimate, second!.penultimate], 2)).slice(),
    pooled: readFloatsSync(second!.pooled!).slice(),
  };
}
