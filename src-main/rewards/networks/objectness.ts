/** Objectness: a detector is sure to see a thing. */
import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { AppError } from '../../base/errors.ts';
import { nearestKey } from '../../contract/run.ts';
import { scope } from '../../engine/scope.ts';
import { tf, type Tensor, type Tensor1D, type Tensor4D } from '../../engine/tf.ts';
import { ConfigReader, readJson, type JsonRecord } from '../../models/config.ts';
import { loadYolos } from '../../models/yolos.ts';
import { resizePictures } from '../resize.ts';
import type { RewardDefinition } from '../reward.ts';
import { normalizePixels } from './clip-embeddings.ts';
import { needModel } from './needs.ts';

/** Sides of what a detector sees are multiples of this, whatever its patches. */
const MULTIPLE = 16;
/** The short side at most. The detectors were trained on 480 to 800; 800 pixels have 2.4 times the patches, and six times the attention, of 512. */
const SHORT_SIDE = 512;

interface Sight {
  readonly short: number;
  /** The long side at most. */
  readonly long: number;
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
}

/** The detector's preprocessor_config.json, its own defaults where it has none. */
function readSight(folder: string): Sight {
  const path = join(folder, 'preprocessor_config.json');
  const reader = new ConfigReader(path, existsSync(path) ? readJson(path) : {});
  const given = reader.values['size'] ?? 800;
  const size = new ConfigReader(`${path} (size)`, typeof given === 'number' ? { shortest_edge: given } : (given as JsonRecord));
  const [shortest, longest] = [size.size('shortest_edge', 800), size.size('longest_edge', reader.size('max_size', 1333))];
  const short = Math.min(shortest, SHORT_SIDE);
  const triple = (key: string, standard: readonly [number, number, number]) => (reader.numbersOrNull(key, 3) ?? standard) as [number, number, number];
  return { short, long: Math.round((longest * short) / shortest), mean: triple('image_mean', [0.485, 0.456, 0.406]), std: triple('image_std', [0.229, 0.224, 0.225]) };
}

/**
 * The short side to `short`, unless the long one would pass `long`; both down to multiples of 16.
 * Source: transformers models/yolos/image_processing_yolos.py get_size_with_aspect_ratio_yolos; at least 16, where that gives 0.
 */
export function detectorSize(height: number, width: number, { short, long }: Pick<Sight, 'short' | 'long'>): [number, number] {
  const [least, most] = [Math.min(height, width), Math.max(height, width)];
  const fitted = (most / least) * short > long ? (long * least) / most : short;
  const side = Math.round(fitted);
  const other = Math.trunc((fitted * most) / least);
  const whole = (n: number): number => Math.max(MULTIPLE, n - (n % MULTIPLE));
  if (width < height) return [whole(other), whole(side)];
  return least === side ? [whole(height), whole(width)] : [whole(side), whole(other)];
}

/**
 * The log-odds of what is looked for, for each token: of one class against all others, or of any class against "no object".
 * @param logits [B, n, classes + 1]
 * @returns [B, n]
 */
function logOdds(logits: Tensor, id: number | null): Tensor {
  const last = logits.shape[2]! - 1;
  const at = id ?? last;
  const part = (begin: number, size: number): Tensor => tf.slice(logits, [0, 0, begin], [-1, -1, size]);
  const others = [part(0, at), part(at + 1, last - at)].filter((each) => each.shape[2]! > 0);
  const one = tf.squeeze(part(at, 1), [2]);
  const rest = tf.logSumExp(others.length > 1 ? tf.concat(others, 2) : others[0]!, 2);
  return id === null ? tf.sub(rest, one) : tf.sub(one, rest);
}

/** The id of the name. @throws AppError('config') with the nearest name */
function labelId(labels: readonly string[], name: string, path: string): number {
  const wanted = name.trim().toLowerCase();
  const id = labels.findIndex((label) => label !== 'N/A' && label.toLowerCase() === wanted);
  if (id >= 0) return id;
  const known = [...new Set(labels.filter((label) => label !== 'N/A').map((label) => label.toLowerCase()))];
  const near = nearestKey(wanted, known);
  throw new AppError('config', `The detector ${path} does not know "${name}".`, { hint: near ? `Did you mean "${near}"?` : `It knows ${known.length} things: ${known.slice(0, 8).join(', ')}, ...` });
}

/**
 * Soft maximum over the detector's tokens i of the probability p_i = sigmoid(l_i) that the token sees the object: sum_i softmax(l)_i p_i, with
 * log-odds l_i. Between the mean and the maximum of p; sure tokens count by their odds, so a hundred unsure ones do not add up.
 */
export const objectnessDefinition: RewardDefinition = {
  name: 'objectness', title: 'Objectness', what: 'A detector is sure to see the named thing, or any thing.',
  habit: 'Many copies of the object, or just its texture.', needs: 'the folder of hustvl/yolos-tiny, 26 MB', licence: 'Apache-2.0', range: '0 to 1',
  color: '#64748b', memory: '0.3 GB a picture', needsModel: true, mayTake: ['object'],
  async open(engine, { model, object }) {
    const given = needModel(objectnessDefinition, model);
    const path = statSync(given, { throwIfNoEntry: false })?.isFile() ? dirname(given) : given; // its weights name their folder
    const sight = readSight(path);
    const detector = loadYolos(engine, path);
    try {
      const id = object === undefined ? null : labelId(detector.config.labels, object, path);
      const score = (images: Tensor4D): Tensor1D => scope(() => {
        const [height, width] = detectorSize(images.shape[1], images.shape[2], sight);
        const logits = detector.detect(normalizePixels(resizePictures(images, height, width, 'bilinear'), sight));
        const odds = logOdds(logits, id);
        return tf.sum(tf.mul(tf.softmax(odds), tf.sigmoid(odds)), 1);
      });
      return { name: 'objectness', score, dispose: () => detector.dispose() };
    } catch (error) {
      detector.dispose();
      throw error;
    }
  },
};
