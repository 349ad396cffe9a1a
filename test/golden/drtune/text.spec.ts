/** The gradient of LoRA in the text encoders against PyTorch's tape, and the replay against the tape of TensorFlow.js. Fixture: make_text.py. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runConfigSchema } from '../../../src-main/contract/run.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { tensorCount } from '../../../src-main/engine/scope.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { tf, type Tensor4D } from '../../../src-main/engine/tf.ts';
import { parameterKey } from '../../../src-main/pipeline/lora/write.ts';
import { openSession, type Session } from '../../../src-main/train/session.ts';
import { singleGradient, type SingleGradient } from '../../../src-main/train/single-gradient.ts';
import { readFixture, relativeL2 } from '../../helpers/fixture.ts';
import { pipelineFolder } from '../architectures/pipelines.ts';

const here = import.meta.dirname;
const fixture = readFixture(join(here, 'text.safetensors'));
const cases = JSON.parse(fixture.metadata['configs']!) as Record<string, Record<string, unknown>>;
const home = mkdtempSync(join(tmpdir(), 'drtune-text-'));
let engine: Engine;
beforeAll(async () => void (engine = await openEngine({ prefer: 'auto', home: process.env['DRTUNE_HOME'] ?? home })));
afterAll(() => rmSync(home, { recursive: true, force: true }));

function open(name: string): Promise<Session> {
  const raw = cases[name]!;
  const model = name === 'sdxl' ? join(here, 'pipeline') : pipelineFolder('sd1', home);
  return openSession(runConfigSchema.parse({ ...raw, model, lora: { ...(raw['lora'] as object), initFile: join(here, `text-${name}.safetensors`) } }), { engine, home });
}

/** transformers 5 has no "text_model" in the first encoder; files of all versions are read. */
const bare = (key: string): string => key.replace('.text_model.', '.');
const keys = new Map(fixture.names.map((name) => [bare(name), name]));
const free = (result: SingleGradient): void => tf.dispose([result.x0, ...result.gradients.values()]);
const nchw = (x: Tensor4D): Float32Array => tf.tidy(() => tf.transpose(x, [0, 3, 1, 2]).dataSync() as Float32Array);

describe.each(Object.keys(cases))('text encoders of %s', (name) => {
  it('learn by the gradient that PyTorch gives, and that the full tape gives; no tensor is left', async () => {
    const session = await open(name);
    const before = tensorCount();
    const result = singleGradient(session, 'replay');
    expect(result.reward).toBeCloseTo(fixture.values(`${name}/reward`)[0]!, 4);
    expect(relativeL2(nchw(result.x0), fixture.values(`${name}/x0`))).toBeLessThan(1e-4);
    const expected = fixture.names.filter((each) => /lora/.test(each) && each.startsWith(`${name}/`));
    expect([...result.gradients.keys()].map((each) => bare(`${name}/${parameterKey(each)}`)).sort()).toEqual(expected.map(bare).sort());
    const tape = singleGradient(session, 'full-tape');
    for (const [key, gradient] of result.gradients) {
      expect(relativeL2(gradient.dataSync(), fixture.values(keys.get(bare(`${name}/${parameterKey(key)}`))!)), key).toBeLessThan(1e-3);
      expect(relativeL2(gradient.dataSync(), tape.gradients.get(key)!.dataSync()), `${key}, full tape`).toBeLessThan(1e-4);
    }
    free(result);
    free(tape);
    expect(tensorCount()).toBe(before);
    session.dispose();
  });
});
