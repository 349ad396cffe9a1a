import { describe, expect, it } from 'vitest';
import { ProgressMeter, type PackProgress } from '../../../src-main/hub/progress.ts';

describe('ProgressMeter', () => {
  it('tells speed over the last seconds and the time left, at most ten times a second, and always the end', () => {
    const told: PackProgress[] = [];
    const meter = new ProgressMeter((progress) => told.push(progress));
    meter.report('download', 0, 1000, 0);
    meter.report('download', 10, 1000, 50); // too soon
    meter.report('download', 100, 1000, 1000);
    meter.report('download', 1000, 1000, 1010); // the end
    meter.report('verify', 0, 1000, 1020); // another phase starts anew
    expect(told.map(({ phase, bytes }) => `${phase} ${bytes}`)).toEqual(['download 0', 'download 100', 'download 1000', 'verify 0']);
    expect(told[0]).toMatchObject({ bytesPerSecond: 0, etaSeconds: undefined });
    expect(told[1]).toMatchObject({ bytesPerSecond: 100, etaSeconds: 9 });
    expect(told[2]?.etaSeconds).toBe(0);
  });

  it('forgets a fast start', () => {
    const told: PackProgress[] = [];
    const meter = new ProgressMeter((progress) => told.push(progress));
    for (let s = 0; s <= 20; s++) meter.report('download', s < 2 ? s * 1000 : 2000 + s, 1e6, s * 1000);
    expect(told.at(-1)?.bytesPerSecond).toBeCloseTo(1);
  });
});
