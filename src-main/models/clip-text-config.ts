/** CLIPTextModel's config.json as flat values, and the parameters it describes. Source: transformers 5 models/clip/configuration_clip.py. */
import { transformersActivations } from '../nn/activations.ts';
import { clipEncoderParameters, type ClipEncoderConfig } from '../nn/clip-encoder.ts';
import { ParameterList } from '../nn/parameters.ts';
import type { ConfigReader } from './config.ts';

export interface ClipTextConfig extends ClipEncoderConfig {
  readonly vocabulary: number;
  /** Longest sequence. */
  readonly positions: number;
  /** 2 marks configs from before transformers 4.31, where the end is the highest id. */
  readonly eosId: number;
  /** Width of the projection, null without one. */
  readonly projection: number | null;
}

/** @param projected whether the model ends in a projection, as its class tells */
export function clipTextConfig(reader: ConfigReader, projected: boolean): ClipTextConfig {
  const eos = reader.values['eos_token_id'];
  reader.only('use_attention_mask', [false, null]);
  const config = {
    width: reader.size('hidden_size', 512), hidden: reader.size('intermediate_size', 2048), layers: reader.layers('num_hidden_layers', 12),
    heads: reader.size('num_attention_heads', 8), eps: reader.number('layer_norm_eps', 1e-5),
    activation: reader.oneOf('hidden_act', Object.keys(transformersActivations), 'quick_gelu'),
    vocabulary: reader.size('vocab_size', 49408), positions: reader.size('max_position_embeddings', 77),
    eosId: reader.number('eos_token_id', Array.isArray(eos) ? undefined : 49407),
    projection: projected ? reader.size('projection_dim', 512) : null,
  };
  if (config.width % config.heads !== 0) throw reader.refuse('num_attention_heads', `a divisor of hidden_size ${config.width}`);
  return config;
}

export function clipTextParameters(config: ClipTextConfig, list: ParameterList = new ParameterList(), prefix = 'text_model'): ParameterList {
  list.add(`${prefix}.embeddings.token_embedding.weight`, [config.vocabulary, config.width]);
  list.add(`${prefix}.embeddings.position_embedding.weight`, [config.positions, config.width]);
  clipEncoderParameters(list, `${prefix}.encoder`, config);
  list.norm(`${prefix}.final_layer_norm`, config.width);
  if (config.projection !== null) list.linear('text_projection', config.width, config.projection, false);
  return list;
}
