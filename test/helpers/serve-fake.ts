/**
 * The served app with a fake trainer and a fake model named "fake", to work on the pages without a network:
 * `DRTUNE_HOME=/tmp/somewhere node test/helpers/serve-fake.ts [--port N] [--json]`.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { drtuneHome } from '../../src-main/base/paths.ts';
import { addModel } from '../../src-main/models/known.ts';
import { makeFakeModel } from './fake-model.ts';

process.env['DRTUNE_TRAINER'] = join(import.meta.dirname, 'fake-trainer.ts');
const folder = join(drtuneHome(), 'fake');
if (!existsSync(folder)) addModel(drtuneHome(), makeFakeModel(folder));
await import('../../src-main/serve.ts');
