import { describe, expect, it } from 'vitest';
import { SCHEDULERS } from '../../../src-main/contract/run.ts';
import { openScheduler, schedulerNames } from '../../../src-main/schedulers/index.ts';
import { roundHalfEven } from '../../../src-main/base/round.ts';

const open = (name: string, steps: number, config: Record<string, unknown> = {}) => openScheduler(name, steps, config, 'scheduler_config.json');

describe('schedulers', () => {
  it('are named, and unknown names say which there are', () => {
    expect(() => open('heun', 5)).toThrow('There is no scheduler "heun"; use ddim, euler, euler-a, dpmpp2m, dpmpp2m-karras, lcm or tcd.');
    expect(() => open('constructor', 5)).toThrow('There is no scheduler');
    expect(schedulerNames).toEqual(SCHEDULERS);
  });

  it.each([0, -1, 1.5, 1001, NaN])('refuse %s steps', (steps) => {
    expect(() => open('ddim', steps)).toThrow('expected a whole number from 1 to 1000');
    expect(() => open('euler', steps)).toThrow('expected a whole number from 1 to 1000');
  });

  it('refuse settings out of reach, by name', () => {
    expect(() => open('dpmpp2m', 5, { use_flow_sigmas: true })).toThrow('"use_flow_sigmas": true');
    expect(() => open('dpmpp2m', 5, { variance_type: 'learned' })).toThrow('"variance_type": "learned"');
    expect(() => open('dpmpp2m', 5, { solver_order: 4 })).toThrow('"solver_order": 4');
    expect(() => open('dpmpp2m', 5, { algorithm_type: 'dpmsolver' })).toThrow('"algorithm_type": "dpmsolver"');
    expect(() => open('dpmpp2m-karras', 5, { use_beta_sigmas: true })).toThrow('one of use_karras_sigmas and use_beta_sigmas');
    expect(() => open('euler-a', 5, { prediction_type: 'sample' })).toThrow('"prediction_type": "sample"');
    expect(() => open('lcm', 51)).toThrow('this sampler has 50 at most');
    expect(() => open('tcd', 4, { original_inference_steps: 2000 })).toThrow('"original_inference_steps": 2000');
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
    expect(scheduler.linearStep(3)).toEqual({ ...scheduler.linearOriginal(3), memory: [], noise: 0 });
  });

  it('round halves to even, as numpy does', () => {
    expect([0.5, 1.5, 2.5, 2.4, 2.6].map(roundHalfEven)).toEqual([0, 2, 2, 2, 3]);
  });
});
