/** Opens blind votes: pictures are checked to be of the sides they are shown for, then order and sides are drawn. */
import { randomInt } from 'node:crypto';
import { AppError } from '../base/errors.ts';
import { readSideText, sameLora, type ImageRow, type RequestParsed, type VoteRound } from '../contract/api.ts';
import { drawSides } from '../contract/vote.ts';
import { Votes } from '../history/votes.ts';
import type { RunRecorder } from './run-recorder.ts';

/** @throws AppError('config') for a picture that is not of its side, or a pair of two prompts or seeds */
export function openRound(recorder: RunRecorder, input: RequestParsed<'votes.open'>, now = Date.now()): VoteRound {
  const seed = input.seed ?? randomInt(2 ** 31);
  const pairs = input.pairs.map(({ a, b }) => {
    const [left, right] = [checked(recorder, a, input.sideA), checked(recorder, b, input.sideB)];
    if (left.prompt !== right.prompt || left.seed !== right.seed) {
      throw new AppError('config', `The pictures ${a} and ${b} are not a pair: "${left.prompt}", seed ${left.seed}, and "${right.prompt}", seed ${right.seed}.`);
    }
    return { a, b, prompt: left.prompt, seed: left.seed };
  });
  return new Votes(recorder.history.db).open({
    runA: readSideText(input.sideA)!.run, runB: readSideText(input.sideB)!.run, sideA: input.sideA, sideB: input.sideB, labelA: input.labelA, labelB: input.labelB,
    seed, pairs: drawSides(pairs, seed), createdAt: now,
  });
}

function checked(recorder: RunRecorder, id: number, text: string): ImageRow {
  const image = recorder.images.get(id);
  const side = readSideText(text)!;
  const fits = image.runId === side.run && (side.step === 'base' ? image.role === 'base' : image.role === 'tuned' && image.step === side.step && sameLora(image, side));
  if (!fits) throw new AppError('config', `The picture ${id} is not of ${text}: it is ${image.role} at step ${image.step} of ${image.runId}.`);
  return image;
}
