/** A run ended while it paints: it ends within a sampling step, and what goes on from there is what was never interrupted. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { watched } from '../../../src-main/base/work.ts';
import type { TrainerEvent, TrainerEventOf } from '../../../src-main/contract/events.ts';
import type { RunConfig } from '../../../src-main/contract/run.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { tensorCount } from '../../../src-main/engine/scope.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import type { Manifest } from '../../../src-main/train/manifest.ts';
import { train } from '../../../src-main/train/trainer.ts';
import { tinyConfig } from '../../helpers/tiny.ts';

const home = mkdtempSync(join(tmpdir(), 'drtune-interrupted-'));
let engine: Engine;
beforeAll(async () => void (engine = await openEngine({ prefer: 'wasm', home: '' })));
afterAll(() => rmSync(home, { recursive: true, force: true }));

interface Session { events: TrainerEvent[]; places: string[] }
const PAINTING = 'painting samples';

/** @param endAt the place, among those where the work may end from the first sample on, at which it is asked to; 1 is the first */
async function session(config: RunConfig, runDir: string, { resume = false, endAt = Infinity } = {}): Promise<Session> {
  const told: Session = { events: [], places: [] };
  let asked = false;
  let clock = 0;
  const work = watched(({ what }) => {
    if (told.places.length > 0 || what === PAINTING) told.places.push(what);
    asked ||= told.places.length >= endAt;
  }, () => asked, () => (clock += 1000));
  for await (const event of train(config, {
    engine, home, runDir, resume, appVersion: '0', now: () => 0, date: () => '', memoryBytes: () => 0, log: () => {}, stopRequested: () => asked, breathe: async () => {}, work,
  })) told.events.push(event);
  return told;
}
const of = <T extends TrainerEvent['type']>(events: readonly TrainerEvent[], type: T): TrainerEventOf<T>[] => events.filter((each) => each.type === type) as TrainerEventOf<T>[];

/** Weights, states, pictures and manifest; of a checkpoint's notes all but what is told again. */
function left(runDir: string): Record<string, unknown> {
  const files = readdirSync(runDir, { recursive: true, encoding: 'utf8' }).filter((file) => /\.(safetensors|png)$/.test(file)).sort();
  const notes = JSON.parse(readFileSync(join(runDir, 'checkpoints/step-000004/checkpoint.json'), 'utf8')) as Record<string, unknown>;
  const { pictures, best } = JSON.parse(readFileSync(join(runDir, 'manifest.json'), 'utf8')) as Manifest;
  return { ...Object.fromEntries(files.map((file) => [file, readFileSync(join(runDir, file)).toString('base64')])), ...notes, recent: [], pictures, best };
}

describe('a run ended while it paints', () => {
  const config = tinyConfig({ ema: 0.9, batch: 1, lora: { rank: 2, targets: ['to_q'] } });

  it('ends within a step of sampling, wherever it is, with a checkpoint; going on it equals one that was never interrupted, bit for bit', async () => {
    const whole = join(home, 'whole');
    const { places, events } = await session(config, whole);
    expect(places.filter((each) => each === PAINTING)).toHaveLength(2 * 2 * config.steps); // two points of two pictures
    expect(places.at(-1)).not.toBe(PAINTING);
    const before = tensorCount();
    for (const endAt of [1, config.steps, config.steps + 2, 2 * config.steps + 1, 4 * config.steps, places.length]) {
      const runDir = join(home, `ended-${endAt}`);
      const first = await session(config, runDir, { endAt });
      expect(tensorCount(), places[endAt - 1]).toBe(before);
      expect(of(first.events, 'finished'), places[endAt - 1]).toMatchObject([{ reason: 'stopped' }]);
      expect(first.places).toHaveLength(endAt); // no further step of sampling
      const [{ step }] = of(first.events, 'finished') as [TrainerEventOf<'finished'>];
      expect(of(first.events, 'checkpoint').at(-1)!.step).toBe(step);
      const second = await session(config, runDir, { resume: true });
      expect(of(second.events, 'started')[0]!.startIteration).toBe(step);
      expect(of(second.events, 'finished')[0]).toMatchObject({ reason: 'completed', verdict: of(events, 'finished')[0]!.verdict });
      expect(left(runDir), `ended at ${endAt}, ${places[endAt - 1]}`).toEqual(left(whole));
    }
  });

  it('again and again at the same pictures: they are painted once it is let alone, and are told once', async () => {
    const runDir = join(home, 'stubborn');
    await session(config, runDir, { endAt: 3 });
    for (const endAt of [1, 5]) {
      const { events, places } = await session(config, runDir, { resume: true, endAt });
      expect(places).toHaveLength(endAt);
      expect(of(events, 'step')).toEqual([]); // not a step further
    }
    const { events } = await session(config, runDir, { resume: true });
    expect(of(events, 'step').map((each) => each.step)).toEqual([3, 4]);
    expect(of(events, 'image').filter((each) => each.step === 2)).toHaveLength(2);
    expect(left(runDir)).toEqual(left(join(home, 'whole')));
  });
});
