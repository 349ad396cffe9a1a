/** Values of rewards for pictures. */
import { readdirSync, statSync } from 'node:fs';
import { basename, extname, join, resolve } from 'node:path';
import { AppError } from '../../base/errors.ts';
import type { RewardTerm } from '../../contract/run.ts';
import { readPicture } from '../../pipeline/read-picture.ts';
import { checkTerm, openReward, rewardDefinition } from '../../rewards/index.ts';
import type { Reward, RewardSettings } from '../../rewards/reward.ts';
import { scorePicture, type PictureScore } from '../../rewards/score-pictures.ts';
import { UsageError } from '../arguments.ts';
import { commandEngine, type Command } from '../command.ts';
import { onTerminal } from '../progress.ts';

const PICTURES = /^\.(png|jpe?g|webp)$/i;

/** Pictures named one by one, and those of folders in order of their names. @throws AppError('disk') for an empty folder */
function pictureFiles(given: readonly string[]): string[] {
  return given.flatMap((path) => {
    if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) return [path];
    const found = readdirSync(path).filter((name) => PICTURES.test(extname(name))).sort().map((name) => join(path, name));
    if (found.length === 0) throw new AppError('disk', `The folder ${path} holds no picture.`, { hint: 'PNG, JPEG and WebP files are looked for.' });
    return found;
  });
}

interface Row extends PictureScore { readonly image: string }

export const score: Command = {
  name: 'score',
  usage: 'score --reward R ... --image FILE|FOLDER ... [--prompt P] [--model PATH] [--head FILE] [--object NAME] [--palette "#rrggbb,..."] [--reference FILE] [--engine NAME] [--json]',
  what: 'Values of rewards for pictures; PATH of --model is the folder or file of the reward\'s own model.',
  flags: {
    reward: { type: 'string', multiple: true }, model: { type: 'string' }, image: { type: 'string', multiple: true }, prompt: { type: 'string' },
    palette: { type: 'string' }, reference: { type: 'string' }, head: { type: 'string' }, object: { type: 'string' }, engine: { type: 'string' },
  },
  async run(context) {
    const { args, print } = context;
    args.allowPositionals(0);
    const [names, images] = [[...new Set(args.texts('reward'))], args.texts('image')];
    if (names.length === 0) args.need('reward');
    if (images.length === 0) args.need('image');
    const path = (flag: string): string | undefined => (args.text(flag) === undefined ? undefined : resolve(args.text(flag)!));
    const settings = { model: path('model'), reference: path('reference'), head: path('head'), object: args.text('object'), palette: args.text('palette')?.split(',').map((each) => each.trim()) };
    const terms = names.map((name) => termOf(name, settings));
    const prompt = args.text('prompt');
    const asking = terms.find((term) => checkTerm(term).usesPrompt);
    if (asking && prompt === undefined) throw new UsageError(`--prompt is missing: ${asking.name} compares the picture with it.`);
    const files = pictureFiles(images);
    const engine = await commandEngine(context);
    const rewards: Reward[] = [];
    try {
      await onTerminal(context, async (work, { line }) => {
        for (const [i, term] of terms.entries()) {
          await work.at('loading the rewards', i, terms.length);
          rewards.push(await openReward(engine, term));
        }
        for (const [i, file] of files.entries()) {
          await work.at('scoring pictures', i, files.length);
          const picture = await readPicture(file);
          try {
            for (const reward of rewards) {
              const row: Row = { image: file, ...(await scorePicture(reward, picture, prompt ?? '', file)) };
              line.end();
              print(args.json ? jsonLine(row, files.length > 1) : textLine(row, files.length > 1));
            }
          } finally {
            picture.dispose();
          }
        }
      });
    } finally {
      for (const reward of rewards) reward.dispose();
    }
    return 0;
  },
};

/** A term with those of the flags that its reward takes: with several rewards each takes its own. */
function termOf(name: string, given: RewardSettings): RewardTerm {
  const { takes = [], mayTake = [] } = rewardDefinition(name);
  const own = ['model', ...takes, ...mayTake];
  const term = { name, weight: 1, ...Object.fromEntries(Object.entries(given).filter(([key, value]) => value !== undefined && own.includes(key))) };
  checkTerm(term);
  return term;
}

/** One picture and one reward: `{"reward","value"}`; with several pictures each line names its own. */
function jsonLine({ image, reward, value, exact }: Row, several: boolean): string {
  return JSON.stringify({ ...(several && { image }), reward, value, ...(exact !== undefined && { exact }) });
}

function textLine({ image, reward, value, exact }: Row, several: boolean): string {
  return `${several ? `${basename(image)} ` : ''}${reward} ${value}${exact === undefined ? '' : ` (exactly ${exact.toFixed(4)} bits per pixel as a file)`}`;
}
