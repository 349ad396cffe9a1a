/** The reducers behind the run page: every event, old ones ignored, nothing mutated. */
import { describe, expect, it } from 'vitest';
import type { EventPayload, RunDetail } from '../../../src-main/contract/api.ts';
import type { TrainerEvent } from '../../../src-main/contract/events.ts';
import { applyRunEvent, applySummary, weightedReward } from '../../../src-renderer/stores/apply-run-event.ts';
import * as mock from '../../../src-renderer/dev/mock-data.ts';

const start = (): RunDetail => ({ ...mock.detail('r', 'A run', 'running', { step: 2 }), lastSeq: 10 });
const event = (value: TrainerEvent, seq = 11, imageId: number | null = null): EventPayload<'run.event'> => ({ runId: 'r', seq, event: value, imageId });
const step = (n: number, more: object = {}) => ({ type: 'step' as const, ...mock.stepAt(n, 60), ...more });

describe('applyRunEvent', () => {
  it('ignores what the snapshot already holds and what belongs to another run', () => {
    const before = start();
    expect(applyRunEvent(before, event(step(3), 10))).toBe(before);
    expect(applyRunEvent(before, { ...event(step(3)), runId: 'other' })).toBe(before);
  });

  it('appends a step and moves the summary, without touching the detail it was given', () => {
    const before = start();
    const frozen = JSON.stringify(before);
    const after = applyRunEvent(before, event(step(3)));
    expect(after.steps.map((row) => row.step)).toEqual([1, 2, 3]);
    expect(after.summary.step).toBe(3);
    expect(after.lastSeq).toBe(11);
    expect(JSON.stringify(before)).toBe(frozen);
  });

  it('takes the steps after the checkpoint again when a run is resumed', () => {
    const started: TrainerEvent = {
      type: 'started', engine: { name: 'wasm', version: '4', device: 'CPU', why: 'test' }, model: 'm', iterations: 60, startIteration: 1, trainableParameters: 1, width: 8, height: 8,
    };
    const after = applyRunEvent(start(), event(started));
    expect(after.steps.map((row) => row.step)).toEqual([1]);
    expect(applyRunEvent(after, event(step(2), 12)).steps.map((row) => row.step)).toEqual([1, 2]);
  });

  it('keeps the last finite reward where a step was skipped', () => {
    const before = start();
    const after = applyRunEvent(before, event(step(3, { skipped: true, reward: 99 })));
    expect(after.summary.rewardLast).toBe(before.summary.rewardLast);
    expect(after.steps.at(-1)?.skipped).toBe(true);
    const fresh = { ...before, summary: { ...before.summary, rewardFirst: null, rewardLast: null } };
    expect(applyRunEvent(fresh, event(step(3, { skipped: true, reward: 0 }))).summary).toMatchObject({ rewardFirst: null, rewardLast: null });
  });

  it('adds a picture once, under the id the history gave it', () => {
    const image: TrainerEvent = { type: 'image', role: 'tuned', step: 3, prompt: 'p', promptIndex: 0, heldOut: false, seed: 0, width: 8, height: 8, file: 'x.png', rewards: {}, weights: 'w' };
    const once = applyRunEvent(start(), event(image, 11, 900));
    const twice = applyRunEvent(once, event(image, 12, 900));
    expect(twice.images.filter((row) => row.id === 900)).toHaveLength(1);
    expect(twice.images.find((row) => row.id === 900)).not.toHaveProperty('file');
  });

  it('shows the phase until the first step', () => {
    const phase = applyRunEvent(start(), event({ type: 'phase', phase: 'painting base pictures', done: 2, total: 4 }));
    expect(phase.phase).toBe('painting base pictures 2 of 4');
    expect(applyRunEvent(phase, event({ type: 'phase', phase: 'painting base pictures', done: 2.846, total: 4 }, 13)).phase).toBe('painting base pictures 2 of 4'); // part of a picture is done
    expect(applyRunEvent(phase, event(step(3), 12)).phase).toBeNull();
  });

  it.each([['completed', 'finished'], ['stopped', 'stopped'], ['failed', 'failed']] as const)('ends as %s -> %s', (reason, state) => {
    const after = applyRunEvent(start(), event({ type: 'finished', reason, step: 2, seconds: 9, message: 'It broke.', hint: 'Mend it.' }));
    expect(after.summary.state).toBe(state);
    expect(after.summary.reason).toBe(reason === 'failed' ? 'It broke. Mend it.' : null);
  });

  it('collects samples, checkpoints and alarms by step', () => {
    let detail = start();
    detail = applyRunEvent(detail, event({ type: 'sampled', step: 3, role: 'tuned', heldOut: true, measures: mock.measuresAt(1, 1) }, 11));
    detail = applyRunEvent(detail, event({ type: 'checkpoint', step: 3, file: 'f', sha256: 's', bytes: 1 }, 12));
    detail = applyRunEvent(detail, event({ type: 'checkpoint', step: 3, file: 'g', sha256: 't', bytes: 1 }, 13));
    detail = applyRunEvent(detail, event({ type: 'alarm', step: 3, kind: 'k', message: 'm', remedy: 'r' }, 14));
    expect(detail.samples.at(-1)?.step).toBe(3);
    expect(detail.checkpoints.filter((row) => row.step === 3)).toEqual([{ step: 3, file: 'g', sha256: 't', bytes: 1 }]);
    expect(detail.alarms).toHaveLength(1);
  });
});

describe('applySummary', () => {
  const summary = start().summary;
  it('puts a new run first, replaces a known one, and takes a deleted one out', () => {
    const other = { ...summary, id: 'o' };
    expect(applySummary([other], summary, false).map((run) => run.id)).toEqual(['r', 'o']);
    expect(applySummary([other, summary], { ...summary, name: 'B' }, false)[1]?.name).toBe('B');
    expect(applySummary([other, summary], { ...summary, deletedAt: 1 }, false).map((run) => run.id)).toEqual(['o']);
    expect(applySummary([], { ...summary, deletedAt: 1 }, true)).toHaveLength(1);
  });
});

describe('weightedReward', () => {
  it('is the weighted sum, capped at each target, and unknown where a value is missing', () => {
    const config = { rewards: [{ name: 'a', weight: 2 }, { name: 'b', weight: 1, target: 0.5 }] };
    expect(weightedReward(config, { a: 1, b: 0.9 })).toBeCloseTo(2.5);
    expect(weightedReward(config, { a: 1 })).toBeUndefined();
  });
});
