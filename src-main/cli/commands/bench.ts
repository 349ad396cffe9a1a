/** Named in the interface, not in this version. */
import { AppError } from '../../base/errors.ts';
import type { Command } from '../command.ts';

export const bench: Command = {
  name: 'bench',
  usage: 'bench',
  what: 'Speed and memory of the engine (not in this version).',
  flags: {},
  async run() {
    throw new AppError('config', 'The command bench is not in this version.', { hint: 'The steps of a run show their own milliseconds: drtune train --json.' });
  },
};
