/** A CLIP model on disk, whatever its layout: transformers folder, OpenCLIP folder or a single file of weights. */
import { existsSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { AppError } from '../base/errors.ts';
import { openWeightFolder } from '../weights/folder.ts';
import { openTensorFile } from '../weights/file.ts';
import { viewSource, type TensorSource } from '../weights/source.ts';
import { loadClipTokenizer, type ClipTokenizer } from './clip-tokenizer.ts';
import { ConfigReader, readJson, type JsonRecord } from './config.ts';
import { openClipConfig, openClipPrefix, openClipPreprocessing, openClipSource, openClipText, type Refuse } from './open-clip.ts';
import { weightFileOf } from './weight-file.ts';
import { publishedClipTokenizer, publishedVocabulary } from './single-file/tokenizer.ts';

export interface ClipFiles {
  readonly path: string;
  /** Whose names the weights have; open_clip also reads prompts and crops pictures in its own way. */
  readonly layout: 'transformers' | 'open_clip';
  /** Values of transformers' config.json, or those that stand for it. */
  readonly config: ConfigReader;
  /** Values of preprocessor_config.json, empty without one. */
  readonly preprocessor: ConfigReader;
  /** Under transformers' keys; the caller closes it. */
  readonly source: TensorSource;
  /** The model's own, or the vocabulary of all published CLIPs. @param positions of the text tower */
  tokenizer(positions: number): ClipTokenizer;
}

const OPEN_CLIP_CONFIG = 'open_clip_config.json';
const OPEN_CLIP_WEIGHTS = 'open_clip_model.safetensors';
const PREPROCESSOR = 'preprocessor_config.json';

/**
 * @param path a transformers folder (config.json), an OpenCLIP one (open_clip_config.json), or one file of weights, or a folder with
 *   nothing but one; without a config its sizes are read off the shapes
 * @param activation of the MLPs where no config tells ('gelu' in OpenCLIP, 'quick_gelu' in OpenAI's)
 * @throws AppError('weights')
 */
export function openClipFiles(path: string, activation: 'gelu' | 'quick_gelu' | null = null): ClipFiles {
  if (!existsSync(path) || !statSync(path).isDirectory()) return openFile(weightFileOf(path, 'CLIP'), activation);
  if (existsSync(join(path, 'config.json'))) {
    const config = new ConfigReader(join(path, 'config.json'));
    config.only('model_type', ['clip']);
    return {
      path, layout: 'transformers', config, preprocessor: optionalJson(join(path, PREPROCESSOR)), source: openWeightFolder(path, { what: 'CLIP', stem: 'model' }),
      tokenizer: (positions) => tokenizerOf(path, config.path, config.values, positions),
    };
  }
  if (existsSync(join(path, OPEN_CLIP_CONFIG)) && existsSync(join(path, OPEN_CLIP_WEIGHTS))) return openFile(join(path, OPEN_CLIP_WEIGHTS), activation);
  return openFile(weightFileOf(path, 'CLIP', `config.json, no ${OPEN_CLIP_WEIGHTS}`), activation);
}

function openFile(path: string, activation: string | null): ClipFiles {
  const refuse: Refuse = (what, hint) => new AppError('weights', `${path} cannot be read as CLIP: ${what}.`, { hint });
  const file = openTensorFile(path);
  try {
    const folder = dirname(path);
    const prefix = openClipPrefix(file.entries.keys());
    const openClip = prefix !== null;
    const source = openClip ? openClipSource(file, prefix, refuse) : transformersSource(file, refuse);
    const beside = openClip ? optionalJson(join(folder, OPEN_CLIP_CONFIG)) : optionalJson(join(folder, 'config.json'));
    const fits = openClip ? beside.values['model_cfg'] !== undefined : beside.values['model_type'] === 'clip';
    const values = !fits ? clipConfigOfShapes(source, activation, refuse) : openClip ? openClipConfig(beside.values, refuse) : beside.values;
    return {
      path, source, layout: openClip ? 'open_clip' : 'transformers',
      config: new ConfigReader(fits ? beside.path : `what the shapes of ${basename(path)} tell`, values),
      preprocessor: !openClip ? optionalJson(join(folder, PREPROCESSOR)) : new ConfigReader(beside.path, fits ? openClipPreprocessing(beside.values, refuse) : {}),
      tokenizer: (positions) => {
        const tokenizer = tokenizerOf(folder, path, values, positions);
        return openClip ? { ...tokenizer, encode: (prompt) => tokenizer.encode(openClipText(prompt)), encodeAll: (prompt) => tokenizer.encodeAll(openClipText(prompt)) } : tokenizer;
      },
    };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** The tensors of a file with transformers' names, maybe below a prefix ("model.", "clip."). */
function transformersSource(file: TensorSource, refuse: Refuse): TensorSource {
  const first = 'vision_model.embeddings.patch_embedding.weight';
  const prefix = [...file.entries.keys()].find((key) => key.endsWith(first))?.slice(0, -first.length);
  if (prefix === undefined) throw refuse('it has neither visual.conv1.weight (OpenCLIP) nor vision_model.embeddings.patch_embedding.weight (transformers)');
  if (prefix === '') return file;
  const own = [...file.entries.keys()].filter((key) => key.startsWith(prefix));
  return viewSource(file, new Map(own.map((from) => [from.slice(prefix.length), { from }])));
}

/** Width of a head by the width of the picture tower, as in all models of OpenAI and OpenCLIP: the shapes do not show it. */
const headWidths: Readonly<Record<number, number>> = { 768: 64, 1024: 64, 1280: 80, 1408: 88, 1664: 104 };

/** config.json as the shapes under transformers' names tell it. */
export function clipConfigOfShapes({ entries }: TensorSource, activation: string | null, refuse: Refuse): JsonRecord {
  const shape = (name: string): readonly number[] => {
    const found = entries.get(name)?.shape;
    if (!found) throw refuse(`it has no tensor ${name}`, 'Name the weights of a whole CLIP model, both towers.');
    return found;
  };
  const layers = (tower: string): number => {
    let n = 0;
    while (entries.has(`${tower}.encoder.layers.${n}.layer_norm1.weight`)) n++;
    return n;
  };
  const [width, , patch] = shape('vision_model.embeddings.patch_embedding.weight') as [number, number, number];
  const tokens = 'text_model.embeddings.token_embedding.weight';
  const head = headWidths[width];
  if (head === undefined) throw refuse(`the number of heads of its picture tower (width ${width}) is not known`, `Put the model's config.json or ${OPEN_CLIP_CONFIG} beside it.`);
  if (activation === null) throw refuse('its activation is not known', `Put the model's config.json or ${OPEN_CLIP_CONFIG} beside it.`);
  return {
    model_type: 'clip', projection_dim: shape('visual_projection.weight')[0],
    ...(entries.has(tokens) && { text_config: textConfigOfShapes(shape(tokens), shape, layers('text_model'), activation) }),
    vision_config: {
      hidden_size: width, intermediate_size: shape('vision_model.encoder.layers.0.mlp.fc1.weight')[0], num_hidden_layers: layers('vision_model'), num_attention_heads: width / head,
      image_size: patch * Math.round(Math.sqrt(shape('vision_model.embeddings.position_embedding.weight')[0]! - 1)), patch_size: patch, hidden_act: activation,
    },
  };
}

function textConfigOfShapes(tokens: readonly number[], shape: (name: string) => readonly number[], layers: number, activation: string): JsonRecord {
  const [vocabulary, width] = tokens as [number, number];
  return {
    hidden_size: width, intermediate_size: shape('text_model.encoder.layers.0.mlp.fc1.weight')[0], num_hidden_layers: layers, num_attention_heads: width / 64,
    vocab_size: vocabulary, max_position_embeddings: shape('text_model.embeddings.position_embedding.weight')[0], hidden_act: activation, eos_token_id: vocabulary - 1,
  };
}

function tokenizerOf(folder: string, model: string, config: JsonRecord, positions: number): ClipTokenizer {
  if (['tokenizer.json', 'vocab.json'].some((name) => existsSync(join(folder, name)))) return loadClipTokenizer(folder, positions);
  const { vocab_size: size = publishedVocabulary } = (config['text_config'] ?? {}) as JsonRecord;
  if (size === publishedVocabulary) return publishedClipTokenizer(positions, '<|endoftext|>');
  throw new AppError('weights', `${model} has no tokenizer beside it, and its ${String(size)} tokens are not the ${publishedVocabulary} of the published CLIPs.`, { hint: 'Put the tokenizer.json of the same model beside its weights.' });
}

function optionalJson(path: string): ConfigReader {
  return new ConfigReader(path, existsSync(path) ? readJson(path) : {});
}
