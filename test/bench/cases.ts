/** What the benchmark measures. Trained steps are listed, so that both sides train the same. */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';

export interface BenchCase {
  readonly name: string;
  readonly what: string;
  /** What is timed. */
  readonly command: 'run' | 'sample';
  readonly config: Readonly<Record<string, unknown>> & { readonly model: string; readonly lora: Readonly<Record<string, unknown>> & { readonly initFile: string } };
  readonly threads: number;
  /** What all sides take together; where there is less, they run one after the other. */
  readonly gigabytes: number;
  /** Of the peer: everything on one tape, or trained steps computed again. */
  readonly mode?: 'tape' | 'checkpoint';
}

/** K trained steps evenly over T, counted from the end, the first in the middle of its stretch. */
export function spread(T: number, K: number): number[] {
  const stride = Math.floor(T / K);
  return Array.from({ length: K }, (_, i) => Math.ceil(stride / 2) + i * stride);
}

const starterPrompts = ['a flat icon of a panda', 'a 3D render of a rocket', 'a flat icon of a cat on a blue background', 'a flat icon of a red apple'];
const targets = ['to_q', 'to_k', 'to_v', 'to_out.0'];

interface Setting { T: number; K: number; batch: number; guidance: number; size: number; steps?: number[] }

/** @param folder for LoRA files and random models */
export function benchCases(root: string, folder: string): BenchCase[] {
  const make = (name: string, what: string, model: string, { T, K, batch, guidance, size, steps = spread(T, K) }: Setting, command: BenchCase['command'] = 'run'): BenchCase => ({
    name, what, command, threads: availableParallelism(), gigabytes: { sd15: 26, sdxl: 60 }[name] ?? 3,
    config: {
      model, prompts: starterPrompts, width: size, height: size, scheduler: 'ddim', steps: T, guidance, trainedStepList: steps, earlyStopStep: 0, rewards: [{ name: 'symmetry' }],
      lora: { rank: 8, alpha: 8, targets, initFile: join(folder, `${name.split('-')[0]}.safetensors`) }, batch, seed: 0,
    },
  });
  const starter = join(root, 'resources/starter/pipeline');
  const growth = [[25, 1], [25, 3], [25, 6], [25, 12], [10, 3], [50, 3]] as const;
  return [
    make('starter', 'starter, T=25 K=3, batch 4, guidance 5', starter, { T: 25, K: 3, batch: 4, guidance: 5, size: 64 }),
    make('starter-sample', 'sampling alone: starter, 25 steps, batch 4, guidance 5', starter, { T: 25, K: 3, batch: 4, guidance: 5, size: 64 }, 'sample'),
    make('sd15', 'SD 1.5 size, random weights, 256x256, T=10 K=3, guidance 7.5', join(folder, 'sd15'), { T: 10, K: 3, batch: 1, guidance: 7.5, size: 256 }),
    make('sdxl', 'SDXL size, random weights, 512x512, T=4 K=1, guidance 5', join(folder, 'sdxl'), { T: 4, K: 1, batch: 1, guidance: 5, size: 512 }),
    ...growth.map(([T, K]) => make(`starter-growth-T${T}-K${K}`, `growth on the starter: T=${T} K=${K}, batch 4`, starter, { T, K, batch: 4, guidance: 5, size: 64 })),
  ];
}
