/** One picture's value by one reward. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { AppError, errorLine } from '../../base/errors.ts';
import { scope } from '../../engine/scope.ts';
import { tf, type Tensor4D } from '../../engine/tf.ts';
import { rewardDefinition } from '../../rewards/index.ts';
import { UsageError } from '../arguments.ts';
import { commandEngine, type Command } from '../command.ts';

/** A picture file as [1,H,W,3] in [0,1]; transparency is laid on white. @throws AppError('disk') */
export async function readPicture(file: string): Promise<Tensor4D> {
  if (!existsSync(file)) throw new AppError('disk', `There is no picture ${file}.`);
  try {
    const { default: sharp } = await import('sharp');
    const { data, info } = await sharp(file).flatten({ background: '#ffffff' }).toColourspace('srgb').removeAlpha().raw().toBuffer({ resolveWithObject: true });
    if (info.channels !== 3) throw new Error(`it has ${info.channels} channels`);
    return tf.tensor4d(Float32Array.from(data, (value) => value / 255), [1, info.height, info.width, 3]);
  } catch (cause) {
    throw new AppError('disk', `The picture ${file} cannot be read: ${errorLine(cause)}.`, { hint: 'PNG, JPEG and WebP can be.', cause });
  }
}

export const score: Command = {
  name: 'score',
  usage: 'score --reward R --image FILE [--prompt P] [--model FOLDER] [--engine NAME] [--json]',
  what: 'The value of a reward for one picture; FOLDER is the reward\'s own model.',
  flags: { reward: { type: 'string' }, model: { type: 'string' }, image: { type: 'string' }, prompt: { type: 'string' }, engine: { type: 'string' } },
  async run(context) {
    const { args, print } = context;
    args.allowPositionals(0);
    const definition = rewardDefinition(args.need('reward'));
    const prompt = args.text('prompt');
    if (definition.name === 'clipscore' && prompt === undefined) throw new UsageError('--prompt is missing: clipscore compares the picture with it.');
    const file = args.need('image');
    const engine = await commandEngine(context);
    const model = args.text('model');
    const reward = await definition.open(engine, { model: model === undefined ? undefined : resolve(model) });
    const image = await readPicture(file);
    const value = scope(() => reward.score(image, [prompt ?? '']).dataSync()[0]!);
    const exact = await reward.exact?.(image);
    if (!Number.isFinite(value)) throw new AppError('run', `The reward ${definition.name} of ${file} is not a number.`);
    if (args.json) print(JSON.stringify({ reward: definition.name, value, ...(exact && { exact: exact[0] }) }));
    else print(`${definition.name} ${value}${exact ? ` (exactly ${exact[0]!.toFixed(4)} bits per pixel as a file)` : ''}`);
    return 0;
  },
};
