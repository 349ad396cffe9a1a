/** The effort slider and the prompt text: small pure rules of the "New run" page. */
import type { RunConfig } from '#contract/run.ts';

export const EFFORTS = ['quick', 'good', 'thorough'] as const;
export type Effort = (typeof EFFORTS)[number];
type Part = Pick<RunConfig, 'iterations' | 'batch' | 'trainedSteps' | 'steps'>;

export const EFFORT_SETTINGS: Record<Effort, Part> = {
  quick: { iterations: 20, batch: 2, trainedSteps: 2, steps: 12 },
  good: { iterations: 60, batch: 4, trainedSteps: 3, steps: 20 },
  thorough: { iterations: 200, batch: 4, trainedSteps: 4, steps: 25 },
};

export function effortOf(config: Part): Effort | null {
  return EFFORTS.find((level) => {
    const part = EFFORT_SETTINGS[level];
    return (Object.keys(part) as (keyof Part)[]).every((key) => config[key] === part[key]);
  }) ?? null;
}

export function setEffort<C extends Part & Pick<RunConfig, 'earlyStop'>>(config: C, level: Effort): C {
  const part = EFFORT_SETTINGS[level];
  return { ...config, ...part, earlyStop: Math.min(config.earlyStop, Math.floor(part.steps * 0.4)) };
}

/** One prompt a line; blank lines do not count. */
export function lines(text: string): string[] {
  return text.split('\n').map((line) => line.trim()).filter((line) => line !== '');
}

/** Every n-th prompt moves from the trained ones to the held-out ones, so that both cover the same ground. */
export function setAside(prompts: readonly string[], every = 5): { prompts: string[]; heldOut: string[] } {
  if (prompts.length < 2) return { prompts: [...prompts], heldOut: [] };
  const step = Math.min(every, prompts.length);
  const isHeldOut = (index: number) => index % step === step - 1;
  return { prompts: prompts.filter((_, index) => !isHeldOut(index)), heldOut: prompts.filter((_, index) => isHeldOut(index)) };
}
