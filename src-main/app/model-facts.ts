/** What a diffusers folder holds, from its config files and the headers of its weights; no tensor is read. */
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { errorLine } from '../base/errors.ts';

export interface ModelFacts {
  architecture: string;
  /** Why it cannot be used, one line each. */
  problems: string[];
  width: number; height: number; bytes: number; parameters: number; precision: string; licence: string;
}

interface Header { file: string; parameters: number; dtypes: Set<string>; problem: string | null }

const COMPONENTS = ['unet', 'vae', 'text_encoder', 'scheduler', 'tokenizer'];

/** Never throws: what is wrong is in `problems`. */
export function modelFacts(folder: string): ModelFacts {
  const problems: string[] = [];
  const json = (path: string): Record<string, unknown> => {
    try {
      return JSON.parse(readFileSync(join(folder, path), 'utf8')) as Record<string, unknown>;
    } catch (error) {
      problems.push(existsSync(join(folder, path)) ? `${path} cannot be read: ${errorLine(error)}` : `${path} is missing`);
      return {};
    }
  };
  const index = json('model_index.json');
  const pipeline = typeof index['_class_name'] === 'string' ? index['_class_name'] : 'unknown';
  for (const part of COMPONENTS) if (!existsSync(join(folder, part))) problems.push(`${part}/ is missing`);
  const isXl = pipeline.includes('XL') || 'text_encoder_2' in index;
  if (!isXl) problems.push(`${pipeline} is not supported in this version, which tunes SDXL models`);
  const unet = json('unet/config.json');
  const vae = json('vae/config.json');
  const headers = weightFiles(folder).map((file) => readHeader(folder, file));
  if (headers.length === 0) problems.push('it has no .safetensors weights');
  for (const header of headers) if (header.problem) problems.push(`${header.file}: ${header.problem}`);
  const channels = Array.isArray(vae['block_out_channels']) ? vae['block_out_channels'].length : 4;
  const sample = unet['sample_size'] ?? 128;
  const [height, width] = (Array.isArray(sample) ? sample : [sample, sample]).map((cells) => Number(cells) * 2 ** (channels - 1));
  const dtypes = new Set(headers.flatMap((header) => [...header.dtypes]));
  return {
    architecture: isXl ? 'sdxl' : pipeline.replace(/Pipeline$/, ''), problems, width: width ?? 0, height: height ?? 0,
    bytes: headers.reduce((sum, header) => sum + statSync(join(folder, header.file)).size, 0),
    parameters: headers.reduce((sum, header) => sum + header.parameters, 0),
    precision: [...dtypes].map((dtype) => ({ F32: 'fp32', F16: 'fp16', BF16: 'bf16', F64: 'fp64' })[dtype]).filter(Boolean).sort().join(' + ') || 'unknown',
    licence: licenceOf(folder),
  };
}

/** Weights as diffusers would load them: where there are several precisions, the plain file counts. */
function weightFiles(folder: string): string[] {
  const files: string[] = [];
  for (const part of ['unet', 'vae', 'text_encoder', 'text_encoder_2']) {
    const place = join(folder, part);
    if (!existsSync(place)) continue;
    const names = readdirSync(place).filter((name) => name.endsWith('.safetensors'));
    const plain = names.filter((name) => !/\.(fp16|bf16|non_ema)\./.test(name));
    files.push(...(plain.length > 0 ? plain : names).map((name) => relative(folder, join(place, name))));
  }
  return files;
}

/** A safetensors header: 8 bytes of length, JSON, then exactly the bytes it names. */
function readHeader(folder: string, file: string): Header {
  const header: Header = { file, parameters: 0, dtypes: new Set(), problem: null };
  const path = join(folder, file);
  const fd = openSync(path, 'r');
  try {
    const size = statSync(path).size;
    const lengthBytes = Buffer.alloc(8);
    if (readSync(fd, lengthBytes, 0, 8, 0) < 8) throw new Error('it is empty');
    const length = Number(lengthBytes.readBigUInt64LE());
    if (length > size - 8 || length > 100e6) throw new Error('its header is damaged or the file is cut off');
    const text = Buffer.alloc(length);
    readSync(fd, text, 0, length, 8);
    let end = 0;
    for (const [name, entry] of Object.entries(JSON.parse(text.toString()) as Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>)) {
      if (name === '__metadata__') continue;
      header.parameters += entry.shape.reduce((product, n) => product * n, 1);
      header.dtypes.add(entry.dtype);
      end = Math.max(end, entry.data_offsets[1]);
    }
    if (8 + length + end !== size) throw new Error(`it has ${size} bytes and should have ${8 + length + end}: download it again`);
  } catch (error) {
    header.problem = errorLine(error);
  } finally {
    closeSync(fd);
  }
  return header;
}

/** From the model card, or for the starter from the file beside its pipeline. */
function licenceOf(folder: string): string {
  const read = (file: string): string => (existsSync(file) ? readFileSync(file, 'utf8') : '');
  const card = /^license(?:_name)?:\s*(\S.*)$/m.exec(read(join(folder, 'README.md')))?.[1]?.trim();
  const beside = /"licence":\s*"([^"]+)"/.exec(read(join(folder, '..', 'starter.json')))?.[1];
  return card ?? beside ?? 'not stated';
}
