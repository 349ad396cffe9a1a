/** How long a run will still take, from what it has taken. The first step and the base's pictures also start up the engine. Pure. */
import type { RunConfig } from '../contract/run.ts';

/** So many of the newest are remembered: what slows the machine for a minute soon weighs little, what stays is followed. */
const REMEMBERED = 50;

type Plan = Pick<RunConfig, 'iterations' | 'sampleEvery' | 'checkpointEvery'>;

export class TimeLeft {
  private readonly plan: Plan;
  /** Milliseconds. */
  private first: number | null = null;
  private readonly steps: number[] = [];
  private base = 0;
  private readonly samples: number[] = [];
  private readonly checkpoints: number[] = [];

  constructor(plan: Plan) {
    this.plan = plan;
  }

  step(ms: number): void {
    if (this.first === null) this.first = ms;
    else remember(this.steps, ms);
  }

  /** A sample point; `tuned` false is the base's. */
  sampled(ms: number, tuned: boolean): void {
    if (tuned) remember(this.samples, ms);
    else this.base = ms;
  }

  checkpoint(ms: number): void {
    remember(this.checkpoints, ms);
  }

  /** Seconds after `done` iterations, whose own pictures and checkpoint are still to come. */
  seconds(done: number): number {
    const { iterations, sampleEvery, checkpointEvery } = this.plan;
    const step = mean(this.steps) ?? this.first ?? 0;
    const sample = mean(this.samples) ?? this.base;
    return (step * (iterations - done) + sample * remaining(iterations, sampleEvery, done) + (mean(this.checkpoints) ?? 0) * remaining(iterations, checkpointEvery, done)) / 1000;
  }
}

/** How often something still comes that is due every so many iterations and at the end, after `done` of them. */
function remaining(iterations: number, every: number, done: number): number {
  if (every <= 0) return 1;
  const before = Math.ceil(done / every) - 1; // those of earlier iterations
  return Math.ceil(iterations / every) - before;
}

function remember(list: number[], ms: number): void {
  list.push(ms);
  if (list.length > REMEMBERED) list.shift();
}

const mean = (list: readonly number[]): number | null => (list.length === 0 ? null : list.reduce((sum, each) => sum + each, 0) / list.length);
