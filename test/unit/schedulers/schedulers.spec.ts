import { describe, expect, it } from 'vitest';
import { openScheduler } from '../../../src-main/schedulers/index.ts';
import { roundHalfEven } from '../../../src-main/schedulers/noise-schedule.ts';

const open = (name: string, steps: number, config: Record<string, unknown> = {}) => openScheduler(name, steps, config, 'scheduler_config.json');

describe('schedulers', () => {
  it('are named, and unknown names say which there are', () => {
    expect(() => open('dpmpp2m', 5)).toThrow('scheduler "dpmpp2m" is not in this version; use ddim or euler.');
    expect(() => open('constructor', 5)).toThrow('not in this version');
  });

  it.each([0, -1, 1.5, 1001, NaN])('refuse %s steps', (steps) => {
    expect(() => open('ddim', steps)).toThrow('expected a whole number from 1 to 1000');
    expect(() => open('euler', steps)).toThrow('expected a whole number from 1 to 1000');
  });

  it('refuse settings out of reach, by name', () => {
    expect(() => open('ddim', 5, { thresholding: true })).toThrow('"thresholding": true');
    expect(() => open('euler', 5, { use_beta_sigmas: true })).toThrow('"use_beta_sigmas": true');
    expect(() => open('ddim', 5, { beta_schedule: 'sigmoid' })).toThrow('"beta_schedule": "sigmoid"');
    expect(() => open('ddim', 5, { prediction_type: 'flow' })).toThrow('"prediction_type": "flow"');
    expect(() => open('ddim', 1000, { steps_offset: 1 })).toThrow('starts at timestep 1000');
  });

  it('are not linear where clip_sample is on, which it is if the file leaves it open', () => {
    expect(open('ddim', 5).linearStep(0)).toBeNull();
    expect(open('ddim', 5).linearOriginal(0)).toBeNull();
    expect(open('ddim', 5, { clip_sample: false }).linearStep(0)).not.toBeNull();
    expect(open('ddim', 5, { clip_sample: null }).linearStep(0)).not.toBeNull();
  });

  it('end DDIM at x0 where alpha ends at one', () => {
    const scheduler = open('ddim', 4, { clip_sample: false });
    expect(scheduler.linearStep(3)).toEqual(scheduler.linearOriginal(3));
  });

  it('round halves to even, as numpy does', () => {
    expect([0.5, 1.5, 2.5, 2.4, 2.6].map(roundHalfEven)).toEqual([0, 2, 2, 2, 3]);
  });
});
