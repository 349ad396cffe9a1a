/** The presets that come with the app, for its pages and the command line. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError, errorLine } from '../base/errors.ts';
import { presetSchema, type Preset } from '../contract/api.ts';
import { describeIssues } from '../contract/run.ts';
import { projectRoot } from './version.ts';

/** resources/presets/*.json, the order by file name. @throws AppError('config') naming the file that is wrong */
export function listPresets(): Preset[] {
  const folder = join(projectRoot(), 'resources', 'presets');
  if (!existsSync(folder)) return [];
  return readdirSync(folder).filter((name) => name.endsWith('.json')).sort().map((name) => {
    let parsed;
    try {
      parsed = presetSchema.safeParse(JSON.parse(readFileSync(join(folder, name), 'utf8')));
    } catch (error) {
      throw new AppError('config', `The preset ${name} cannot be read: ${errorLine(error)}.`);
    }
    if (!parsed.success) throw new AppError('config', `The preset ${name} is wrong: ${describeIssues(parsed.error)}.`);
    return parsed.data;
  });
}
