/** Pictures as PNG files, and between channel orders. */
import { crc32 } from 'node:zlib';
import sharp from 'sharp';
import { diskError, writeWhole } from '../base/atomic.ts';
import { scope } from '../engine/scope.ts';
import { tf, type Tensor4D } from '../engine/tf.ts';

/** Decoder output in about [-1, 1] -> [0, 1], clamped. Source: diffusers VaeImageProcessor.denormalize. */
export function toUnitRange(image: Tensor4D): Tensor4D {
  return scope(() => tf.clipByValue(tf.add<Tensor4D>(tf.mul(image, 0.5), 0.5), 0, 1));
}

/** [B, h, w, C] -> [B, C, h, w], as torch has it in files. */
export function toChannelsFirst(x: Tensor4D): Tensor4D {
  return scope(() => tf.transpose(x, [0, 3, 1, 2]));
}

/** [B, C, h, w] -> [B, h, w, C]. */
export function toChannelsLast(x: Tensor4D): Tensor4D {
  return scope(() => tf.transpose(x, [0, 2, 3, 1]));
}

/** Values in [0, 1] -> 0..255, halves to even, as diffusers' numpy_to_pil. */
export function toBytes(values: Float32Array): Uint8Array {
  return Uint8Array.from(values, (value) => {
    const scaled = Math.fround(Math.min(1, Math.max(0, value)) * 255);
    const floor = Math.floor(scaled);
    return scaled - floor === 0.5 ? floor + (floor % 2) : Math.round(scaled);
  });
}

export interface PngOptions {
  /** Which picture of the batch; default 0. */
  readonly index?: number;
  /** Written into the file by name, e.g. prompt, seed, weights. */
  readonly text?: Readonly<Record<string, string>>;
}

/** One picture of [B, H, W, 3] in [0, 1] as a PNG file's bytes. */
export async function encodePng(image: Tensor4D, options: PngOptions = {}): Promise<Buffer> {
  const [, H, W, C] = image.shape;
  const one = scope(() => tf.slice(image, [options.index ?? 0, 0, 0, 0], [1, H, W, C]));
  try {
    const raw = toBytes((await one.data()) as Float32Array);
    const png = await sharp(raw, { raw: { width: W, height: H, channels: C as 3 } }).png().toBuffer();
    return addText(png, options.text ?? {});
  } finally {
    one.dispose();
  }
}

/** Writes one picture of [B, H, W, 3] in [0, 1]. @throws AppError('disk') */
export async function writePng(path: string, image: Tensor4D, options: PngOptions = {}): Promise<void> {
  const png = await encodePng(image, options);
  try {
    writeWhole(path, png);
  } catch (cause) {
    throw diskError(path, cause, { need: png.length });
  }
}

/** Where the first chunk, IHDR, ends: signature 8, length 4, type 4, data 13, checksum 4. */
const headerEnd = 33;

/** Adds international text chunks after the header. Source: PNG specification, 11.3.3.4 iTXt. */
function addText(png: Buffer, text: Readonly<Record<string, string>>): Buffer {
  const chunks = Object.entries(text).map(([keyword, value]) => {
    const body = Buffer.concat([Buffer.from('iTXt'), Buffer.from(keyword.slice(0, 79), 'latin1'), Buffer.from([0, 0, 0, 0, 0]), Buffer.from(value)]);
    const chunk = Buffer.alloc(body.length + 8);
    chunk.writeUInt32BE(body.length - 4, 0);
    body.copy(chunk, 4);
    chunk.writeUInt32BE(crc32(body), body.length + 4);
    return chunk;
  });
  return chunks.length === 0 ? png : Buffer.concat([png.subarray(0, headerEnd), ...chunks, png.subarray(headerEnd)]);
}
