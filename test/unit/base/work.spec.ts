import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { hashing, sha256Of } from '../../../src-main/base/atomic.ts';
import { cancelled, Pace, stepping, watched, type Progress } from '../../../src-main/base/work.ts';

describe('work', () => {
  it('tells every new thing, the end of each, and the same thing ten times a second', async () => {
    const told: Progress[] = [];
    const clock = { ms: 0 };
    const work = watched((progress) => told.push(progress), () => false, () => clock.ms);
    for (let done = 1; done <= 100; done++) {
      clock.ms += 5;
      await work.at('painting', done, 100);
    }
    await work.at('writing');
    expect(told.map((each) => each.done)).toEqual([1, 21, 41, 61, 81, 100, 0]);
    expect(told.at(-1)).toEqual({ what: 'writing', done: 0, total: 0 });
  });

  it('hears of its end while it computes, and cleans up', async () => {
    let asked = false;
    let cleaned = false;
    const work = watched(() => {}, () => asked, () => 0);
    setImmediate(() => (asked = true));
    const steps = (function* () {
      try {
        for (let i = 0; i < 1000; i++) yield i;
        return 'whole';
      } finally {
        cleaned = true;
      }
    })();
    await expect(stepping(work, 'counting', 1000, steps, (i) => i)).rejects.toMatchObject({ code: 'cancelled' });
    expect(cleaned).toBe(true);
    expect(cancelled().line).toBe('Cancelled.');
  });

  it('hashes a file piece by piece', () => {
    const file = join(mkdtempSync(join(tmpdir(), 'work-')), 'f');
    writeFileSync(file, Buffer.alloc(9_000_000, 'abc'));
    expect([...hashing(file)]).toEqual([4194304, 8388608, 9_000_000, 9_000_000]);
    expect(sha256Of(file)).toMatch(/^[0-9a-f]{64}$/);
  });
});

describe('the time that is left', () => {
  it('is at the pace of the phase so far, and unknown where there is none', () => {
    const pace = new Pace();
    expect(pace.left({ what: 'loading', done: 0, total: 10 }, 0)).toBeNull();
    expect(pace.left({ what: 'loading', done: 4, total: 10 }, 2000)).toBe(3);
    expect(pace.left({ what: 'painting', done: 1, total: 3 }, 9000)).toBeNull(); // one picture is there already: no pace yet
    expect(pace.left({ what: 'painting', done: 2, total: 3 }, 13_000)).toBe(4);
    expect(pace.left({ what: 'writing', done: 5, total: 0 }, 14_000)).toBeNull();
    expect(pace.left({ what: 'writing', done: 0, total: 0 }, 15_000)).toBeNull();
  });
});
