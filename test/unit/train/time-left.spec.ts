/** The time that is left, held against runs of the real trainer that were recorded. */
import { describe, expect, it } from 'vitest';
import { TimeLeft } from '../../../src-main/train/time-left.ts';

interface Recording {
  readonly what: string;
  readonly plan: { iterations: number; sampleEvery: number; checkpointEvery: number };
  /** Milliseconds: the base's pictures, each step, each tuned sample point and checkpoint by its step, and what came after the last. */
  readonly base: number;
  readonly steps: readonly number[];
  readonly samples: Readonly<Record<number, number>>;
  readonly checkpoints: Readonly<Record<number, number>>;
  readonly end: number;
}

/** Processor time of the whole process, so that what else ran on the machine does not show. */
const recordings: Recording[] = [
  {
    what: 'starter on TensorFlow, 12 iterations, pictures every 4', plan: { iterations: 12, sampleEvery: 4, checkpointEvery: 6 }, base: 2175,
    steps: [4338, 2269, 2270, 2340, 2350, 2245, 2317, 2218, 2241, 2134, 2473, 2553], samples: { 4: 1339, 8: 1217, 12: 1327 }, checkpoints: { 6: 33, 12: 33 }, end: 122,
  },
  {
    what: 'starter on wasm, 8 iterations of 2 pictures', plan: { iterations: 8, sampleEvery: 0, checkpointEvery: 4 }, base: 2720,
    steps: [1878, 1804, 1825, 1827, 1763, 1845, 1743, 1700], samples: { 8: 2478 }, checkpoints: { 4: 40, 8: 36 }, end: 102,
  },
  {
    what: 'demo on TensorFlow, 90 iterations, by the wall clock', plan: { iterations: 90, sampleEvery: 0, checkpointEvery: 60 }, base: 2600,
    steps: [
      4401, 2777, 2722, 2701, 2753, 2608, 2610, 2520, 2499, 2519, 2569, 2591, 2586, 2599, 2600, 2601, 2586, 2610, 2674, 2598, 2579, 2622, 2624, 2915,
      3369, 3506, 3615, 3476, 3618, 3614, 3527, 3457, 3575, 3455, 3083, 2779, 2626, 2605, 2873, 2614, 2669, 2600, 2661, 2624, 2648, 2668, 2576, 2637,
      2722, 2739, 2771, 2651, 2896, 3114, 2612, 2803, 2578, 2666, 2908, 2623, 2577, 2655, 2645, 2723, 2632, 2594, 2536, 2608, 2542, 2811, 2901, 2677,
      2642, 2682, 2576, 2661, 2607, 2654, 2619, 2667, 2617, 2615, 2607, 2611, 2511, 2593, 2564, 3153, 2697, 2872,
    ],
    samples: { 90: 2000 }, checkpoints: { 60: 40, 90: 40 }, end: 150,
  },
];

/** What the trainer says after each step, and what was really left. */
function replay({ plan, base, steps, samples, checkpoints, end }: Recording): { said: number; left: number }[] {
  const time = new TimeLeft(plan);
  time.sampled(base, false);
  const after = (done: number): number => {
    const later = (list: Readonly<Record<number, number>>): number => Object.entries(list).reduce((sum, [at, ms]) => sum + (Number(at) >= done ? ms : 0), 0);
    return (steps.slice(done).reduce((a, b) => a + b, 0) + later(samples) + later(checkpoints) + end) / 1000;
  };
  return steps.map((ms, i) => {
    time.step(ms);
    const told = { said: time.seconds(i + 1), left: after(i + 1) };
    if (samples[i + 1]) time.sampled(samples[i + 1]!, true);
    if (checkpoints[i + 1]) time.checkpoint(checkpoints[i + 1]!);
    return told;
  });
}

describe.each(recordings)('$what', (recording) => {
  it('is told within 15 % from the third step on', () => {
    const told = replay(recording);
    // Towards the end the parts that are left are single ones, no longer means: there a tenth of the run's length counts.
    const whole = told[0]!.left;
    const wrong = told.flatMap(({ said, left }, i) => (i >= 2 && Math.abs(said - left) > 0.15 * Math.max(left, 0.1 * whole) ? [{ step: i + 1, said, left }] : []));
    expect(wrong).toEqual([]);
  });
  it('the first step, which starts the engine up, would say too much', () => {
    const [first] = replay(recording);
    expect(first!.said).toBeGreaterThan(first!.left);
  });
});

describe('what is still to come', () => {
  const time = (plan: Recording['plan']): TimeLeft => {
    const made = new TimeLeft(plan);
    made.sampled(5000, false);
    for (const ms of [9000, 1000, 1000]) made.step(ms);
    return made;
  };
  it.each([
    [{ iterations: 10, sampleEvery: 0, checkpointEvery: 0 }, 3, 7 + 5], [{ iterations: 10, sampleEvery: 5, checkpointEvery: 0 }, 3, 7 + 10],
    [{ iterations: 10, sampleEvery: 5, checkpointEvery: 0 }, 5, 5 + 10], [{ iterations: 10, sampleEvery: 4, checkpointEvery: 0 }, 9, 1 + 5], [{ iterations: 10, sampleEvery: 5, checkpointEvery: 0 }, 10, 5],
  ])('%o after %i steps', (plan, done, seconds) => expect(time(plan).seconds(done)).toBe(seconds));
  it('counts checkpoints once one was written', () => {
    const made = time({ iterations: 8, sampleEvery: 0, checkpointEvery: 2 });
    made.checkpoint(500);
    expect(made.seconds(4)).toBe(4 + 5 + 3 * 0.5);
  });
  it('follows a machine that grows slower', () => {
    const made = time({ iterations: 100, sampleEvery: 0, checkpointEvery: 0 });
    for (let i = 0; i < 50; i++) made.step(3000);
    expect(made.seconds(50)).toBe(50 * 3 + 5);
  });
});
