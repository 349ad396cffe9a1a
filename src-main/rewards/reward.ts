/** What a reward is to the trainer and the pages. A new reward is one file, one line in index.ts and its golden test. */
import { AppError } from '../base/errors.ts';
import type { Tensor1D, Tensor4D } from '../engine/tf.ts';
import type { Engine } from '../engine/engine.ts';

export interface Reward {
  readonly name: string;
  /** Pictures [B,H,W,3] in [0,1] and their B prompts -> B values, higher is better. Differentiable with respect to the pictures. */
  score(images: Tensor4D, prompts: readonly string[]): Tensor1D;
  /** A figure that cannot be differentiated but is what the reward stands for (true JPEG bits per pixel), for reports. */
  exact?(images: Tensor4D): Promise<number[]>;
  dispose(): void;
}

/** What a term may set beside name and weight. */
export interface RewardSettings {
  /** Folder or file of the reward's own model. */
  readonly model?: string | undefined;
  /** The file of a head that stands apart from the model. */
  readonly head?: string | undefined;
  /** The thing a detector looks for, by one of its model's names. */
  readonly object?: string | undefined;
  /** Colours "#rrggbb". */
  readonly palette?: readonly string[] | undefined;
  /** A picture file. */
  readonly reference?: string | undefined;
  /** A program and its arguments. */
  readonly command?: readonly string[] | undefined;
}

export type RewardSetting = Exclude<keyof RewardSettings, 'model'>;

export interface RewardDefinition {
  readonly name: string;
  readonly title: string;
  /** One sentence for the picker. */
  readonly what: string;
  /** What it tends to do wrong when trained alone. */
  readonly habit: string;
  readonly needs: string;
  readonly licence: string;
  /** Words for the range of values, e.g. "0 to 1". */
  readonly range: string;
  /** The reward's one colour across the app, CSS. */
  readonly color: string;
  /** True where the value depends on the prompt. */
  readonly usesPrompt?: boolean;
  /** True where it has no model of its own: `needs` says what to download. */
  readonly needsModel?: boolean;
  /** True where its value has no gradient: only algorithms that do without can train it. */
  readonly gradientFree?: boolean;
  /** The prompt its example pictures are scored with, where the value depends on one and no download is needed. */
  readonly examplePrompt?: string;
  /** Memory its own model takes, in words; next to nothing if left out. */
  readonly memory?: string;
  /** The settings it needs beside `model`; any other is refused. None if left out. */
  readonly takes?: readonly RewardSetting[];
  /** Settings it knows but can do without. */
  readonly mayTake?: readonly RewardSetting[];
  /** @throws AppError('weights') where its model is missing or of the wrong shape; AppError('config') where a setting it takes is missing or wrong. */
  open(engine: Engine, settings: RewardSettings): Promise<Reward>;
}

/** @param images [B,H,W,3] @throws AppError('config') where a side is shorter than what the reward looks at at once */
export function needPixels(name: string, images: Tensor4D, least: number): void {
  const [, H, W] = images.shape;
  if (H < least || W < least) throw new AppError('config', `The reward ${name} needs pictures of at least ${least} x ${least} pixels, this one is ${W} x ${H}.`);
}
