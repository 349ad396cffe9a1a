import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { RunRecorder } from '../../../src-main/app/run-recorder.ts';
import { openHistory } from '../../../src-main/history/database.ts';
import { runDetailSchema } from '../../../src-main/contract/api.ts';
import type { TrainerEvent } from '../../../src-main/contract/events.ts';
import { checkpoint, config, image, started, step, tempHome } from '../../helpers/temp-home.ts';

function open(): { recorder: RunRecorder; id: string; clock: { now: number } } {
  const clock = { now: 1_700_000_000_000 };
  const recorder = new RunRecorder(openHistory(tempHome()), () => clock.now);
  const id = recorder.createRun({ name: '', config: config({ rewards: [{ name: 'symmetry', weight: 2 }], heldOutPrompts: ['a wolf'] }) });
  return { recorder, id, clock };
}

const measures = (symmetry: number) => ({ rewards: { symmetry }, edgeDensity: 0, saturation: 0, contrast: 0, colorEntropy: 0 });

describe('a recorded run', () => {
  it('shows what its events said, and fits the contract', () => {
    const { recorder, id, clock } = open();
    const events: TrainerEvent[] = [
      started(), { type: 'phase', phase: 'base pictures', done: 1, total: 4 }, image('base', 0), { type: 'sampled', step: 0, role: 'base', heldOut: true, measures: measures(0.25) },
      step(1), step(2), image('tuned', 2), { type: 'sampled', step: 2, role: 'tuned', heldOut: true, measures: measures(0.5) }, checkpoint(2),
      { type: 'alarm', step: 2, kind: 'gamed', message: 'm', remedy: 'r' },
    ];
    const recorded = events.map((event) => {
      clock.now += 1000;
      return recorder.record(id, event);
    });
    expect(recorded.map((r) => r.seq)).toEqual(events.map((_, i) => i + 1));
    clock.now += 1000;
    recorder.record(id, { type: 'finished', reason: 'completed', step: 2, seconds: 1 });
    const detail = runDetailSchema.parse(recorder.detail(id));
    expect(detail).toMatchObject({ lastSeq: 11, phase: null });
    expect(detail.summary).toMatchObject({
      name: 'symmetry on fake', state: 'finished', step: 2, rewardFirst: 0.1, rewardLast: 0.2, heldOutBase: 0.5, heldOutLast: 1, engine: 'wasm',
      thumbnails: { base: recorded[2]!.imageId, tuned: recorded[6]!.imageId }, sparkline: [0.1, 0.2], seconds: 10,
    });
    expect(detail.steps).toHaveLength(2);
    expect(detail.images.map((row) => row.id)).toEqual([recorded[2]!.imageId, recorded[6]!.imageId]);
    expect(detail.checkpoints).toHaveLength(1);
    expect(detail.alarms).toEqual([{ step: 2, kind: 'gamed', message: 'm', remedy: 'r' }]);
    recorder.close();
  });

  it('is the same whether its events come once or twice', () => {
    fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 12 }), (order) => {
      const [once, twice] = [open(), open()];
      for (const n of order) {
        const events = [step(n), image('tuned', n), checkpoint(n), { type: 'alarm', step: n, kind: 'k', message: 'm', remedy: 'r' } as const];
        for (const event of events) {
          once.recorder.record(once.id, event);
          const first = twice.recorder.record(twice.id, event);
          const second = twice.recorder.record(twice.id, event);
          expect(second.imageId).toBe(first.imageId);
        }
      }
      const strip = ({ recorder, id }: ReturnType<typeof open>) => {
        const { steps, images, checkpoints, alarms } = recorder.detail(id);
        recorder.close();
        return { steps, images: images.map((row) => ({ ...row, id: 0, runId: '' })), checkpoints, alarms };
      };
      expect(strip(twice)).toEqual(strip(once));
    }), { numRuns: 25 });
  });

  it('that is resumed drops what it repeats, keeps its base pictures and adds up its time', () => {
    const { recorder, id, clock } = open();
    recorder.record(id, started());
    recorder.record(id, image('base', 0));
    for (const n of [1, 2, 3]) {
      clock.now += 1000;
      recorder.record(id, step(n));
    }
    recorder.record(id, checkpoint(2));
    recorder.record(id, image('tuned', 3));
    recorder.record(id, { type: 'finished', reason: 'failed', step: 3, message: 'It crashed.', hint: 'Resume.', seconds: 3 });
    expect(recorder.summary(id)).toMatchObject({ state: 'failed', reason: 'It crashed. Resume.', seconds: 3 });
    clock.now += 3_600_000;
    recorder.begin(id, true);
    recorder.record(id, started({ startIteration: 2 }));
    expect(recorder.summary(id)).toMatchObject({ state: 'running', reason: null, step: 2, rewardFirst: 0.1 });
    expect(recorder.detail(id).steps.map((row) => row.step)).toEqual([1, 2]);
    clock.now += 2000;
    recorder.record(id, step(3));
    const detail = recorder.detail(id);
    expect(detail.steps.map((row) => row.step)).toEqual([1, 2, 3]);
    expect(detail.images.map((row) => row.role)).toEqual(['base']);
    expect(detail.summary.seconds).toBe(5);
    recorder.close();
  });

  it('stores a step whose figures are not finite as skipped', () => {
    const { recorder, id } = open();
    recorder.record(id, step(1, { reward: Number.NaN, gradNorm: Infinity, terms: { symmetry: Number.NaN } }));
    expect(recorder.detail(id).steps[0]).toMatchObject({ reward: 0, gradNorm: 0, terms: { symmetry: 0 }, skipped: true });
    recorder.record(id, step(2, { reward: 0, terms: {}, skipped: true }));
    expect(recorder.summary(id)).toMatchObject({ rewardFirst: null, rewardLast: null });
    expect(recorder.summary(id).rewardLast).toBeNull();
    recorder.close();
  });

  it('refuses a picture outside its folder, and then writes nothing', () => {
    const { recorder, id } = open();
    for (const file of ['../../secret.png', '/etc/passwd', 'a/../../b.png']) {
      expect(() => recorder.record(id, image('base', 0, { file }))).toThrow(/outside its run's folder/);
    }
    expect(recorder.detail(id)).toMatchObject({ lastSeq: 0, images: [] });
    recorder.close();
  });

  it('pairs base and tuned by prompt and seed only', () => {
    const { recorder, id } = open();
    recorder.record(id, image('base', 0, { seed: 1 }));
    recorder.record(id, image('tuned', 5, { seed: 2 }));
    expect(recorder.summary(id).thumbnails).toBeNull();
    recorder.record(id, image('tuned', 4, { seed: 1 }));
    expect(recorder.summary(id).thumbnails).not.toBeNull();
    recorder.close();
  });

  it('is worked on by one process: another that begins it too is refused while the first lives', () => {
    const home = tempHome();
    const [one, other] = [RunRecorder.open(home), RunRecorder.open(home)];
    const id = one.createRun({ name: 'mine', config: config() }, 'queued');
    one.begin(id, false);
    one.runs.set(id, { owner: `${process.ppid}:?` }); // both are this very process here
    expect(() => other.begin(id, true)).toThrow('The run "mine" is already running.');
    expect(one.runs.get(id)).toMatchObject({ state: 'running', resume: 0, owner: `${process.ppid}:?` });
    one.runs.set(id, { owner: '4194304:1' });
    other.begin(id, true);
    expect(one.runs.get(id)).toMatchObject({ state: 'running', resume: 1 });
    one.close();
    other.close();
  });

  it('two processes record into one history without losing a number', () => {
    const { recorder, id } = open();
    const other = new RunRecorder(openHistory(recorder.history.home));
    const seqs = [1, 2, 3, 4].map((n) => (n % 2 ? recorder : other).record(id, step(n)).seq);
    expect(seqs).toEqual([1, 2, 3, 4]);
    other.close();
    recorder.close();
  });
});
