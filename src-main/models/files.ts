/** The parts of a base model on disk, whatever their layout: configs and weights under the names diffusers and transformers give them. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { AppError } from '../base/errors.ts';
import { openWeightFolder, weightFiles, type FolderOptions } from '../weights/folder.ts';
import { loadClipTokenizer } from './clip-tokenizer.ts';
import { ConfigReader, readJson, type JsonRecord } from './config.ts';
import type { Architecture, ModelFiles, PartName } from './model-files.ts';
import { openSingleFile } from './single-file/open.ts';

export type { Architecture, ModelFiles, PartName, TextEncoderName } from './model-files.ts';

/** What each part must be for this version. */
const partClasses = {
  tokenizer: ['CLIPTokenizer', 'CLIPTokenizerFast'],
  tokenizer_2: ['CLIPTokenizer', 'CLIPTokenizerFast'],
  text_encoder: ['CLIPTextModel'],
  text_encoder_2: ['CLIPTextModelWithProjection'],
  unet: ['UNet2DConditionModel'],
  vae: ['AutoencoderKL'],
} as const;

/**
 * Opens a model: reads what tells its layout and architecture, no weights.
 * @throws AppError('weights'): one line naming what it is and what is read
 */
export function openModelFiles(path: string): ModelFiles {
  const absolute = resolve(path);
  if (!existsSync(absolute)) throw new AppError('weights', `There is no model ${absolute}.`, { hint: 'Name a folder in diffusers format, or a .safetensors or .ckpt file.' });
  return statSync(absolute).isDirectory() ? openDiffusersFolder(absolute) : unchanged(openSingleFile(absolute), () => [absolute]);
}

/** Parts leave memory and come back: they are the same then, or refused. @param filesOf files that hold a part's weights */
function unchanged(files: ModelFiles, filesOf: (part: PartName) => readonly string[]): ModelFiles {
  const seen = new Map<string, string>();
  return {
    ...files,
    open(part) {
      for (const file of filesOf(part)) {
        const { size, mtimeMs } = statSync(file);
        const now = `${size} ${mtimeMs}`;
        if ((seen.get(file) ?? now) !== now) throw new AppError('weights', `${file} changed while it was in use.`, { hint: 'Put the file back as it was, or start a new run with it.' });
        seen.set(file, now);
      }
      return files.open(part);
    },
  };
}

function openDiffusersFolder(path: string): ModelFiles {
  if (!existsSync(join(path, 'model_index.json'))) {
    const clip = existsSync(join(path, 'config.json')) ? ' It looks like a single model.' : '';
    const file = readdirSync(path).find((name) => /\.(safetensors|ckpt)$/i.test(name));
    const hint = clip || !file ? 'Name the folder that holds unet, vae and text_encoder.' : `If ${file} is a whole model, name that file.`;
    throw new AppError('weights', `${path} is not a diffusers pipeline: it has no model_index.json.${clip}`, { hint });
  }
  const index = readJson(join(path, 'model_index.json'));
  const config = (part: PartName): ConfigReader => new ConfigReader(join(path, part, 'config.json'));
  const schedulerPath = join(path, 'scheduler', 'scheduler_config.json');
  const weights = (part: PartName): FolderOptions => ({
    what: part === 'unet' ? 'the UNet' : part === 'vae' ? 'the VAE' : part, stem: part.startsWith('text_encoder') ? 'model' : 'diffusion_pytorch_model',
  });
  return unchanged({
    path, index, config,
    architecture: architectureOf(path, index, config),
    scheduler: { config: readJson(schedulerPath), path: schedulerPath },
    open: (part) => openWeightFolder(join(path, part), weights(part)),
    tokenizer: (encoder, positions) => loadClipTokenizer(join(path, encoder.replace('text_encoder', 'tokenizer')), positions),
  }, (part) => weightFiles(join(path, part), weights(part)));
}

function architectureOf(path: string, index: JsonRecord, config: (part: PartName) => ConfigReader): Architecture {
  const pipelineClass = String(index['_class_name']);
  const classOf = (part: string): unknown => (Array.isArray(index[part]) ? (index[part] as unknown[])[1] : undefined);
  const refuse = (why: string): AppError => new AppError('weights', `${path} is ${why}; this version reads Stable Diffusion 1.x, 2.x and SDXL pipelines.`);
  if (classOf('transformer')) throw refuse(`a ${pipelineClass}, whose network is a transformer`);
  if (!/^(StableDiffusion|LatentConsistencyModelPipeline)/.test(pipelineClass)) throw refuse(`a ${pipelineClass}`);
  if (!classOf('text_encoder') && classOf('text_encoder_2')) throw refuse('the SDXL refiner, which has no first text encoder and only finishes pictures');
  const xl = pipelineClass.startsWith('StableDiffusionXL') || Boolean(classOf('text_encoder_2'));
  for (const [part, classes] of Object.entries(partClasses)) {
    if (!xl && part.endsWith('_2')) continue;
    const found = classOf(part);
    if (!(classes as readonly unknown[]).includes(found)) {
      throw new AppError('weights', `${join(path, 'model_index.json')} has ${part}: ${JSON.stringify(index[part] ?? null)}; this version reads ${classes[0]}.`);
    }
  }
  if (xl) return 'sdxl';
  return config('unet').flag('use_linear_projection', false) ? 'sd2' : 'sd1';
}
