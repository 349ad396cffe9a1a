/** Chooses and opens the engine of this process; asks every engine whether it would work. */
import { join } from 'node:path';
import { AppError, errorLine } from '../base/errors.ts';
import { askCuda, chooseCuda, cudaEnvironment, cudaWords } from './cuda.ts';
import type { Engine, EngineName } from './engine.ts';
import { findCudaLibraries, findLibraries } from './engine-folder.ts';
import { openTensorFlow } from './engines/tensorflow/index.ts';
import { openWasm, wasmDevice } from './engines/wasm.ts';
import { openWebGpu } from './engines/webgpu.ts';
import { registerComparisonGradients } from './kernels/comparison-gradients.ts';
import { probeRemembered, probeTensorFlow, probeWebGpu } from './probe.ts';
import { requirePackage } from './tf.ts';

export interface EngineReport {
  readonly name: EngineName;
  readonly usable: boolean;
  readonly version: string;
  readonly device: string;
  /** Why it would be taken, or why it cannot be. */
  readonly why: string;
}

let opened: { engine: Engine; prefer: string } | undefined;

/**
 * Opens an engine and makes it this process's own. A second call returns the same engine: tfjs has one backend a process.
 * @param options.prefer 'auto' takes the first of {@link engineOrder} that works: tensorflow needs its pack, webgpu a GPU that is none in software
 * @param options.home the data folder, see base/paths.ts
 * @param options.onNotice told in one line when 'auto' does not take the fastest engine
 * @throws AppError('engine') if the named engine is not usable here
 */
export async function openEngine(options: { prefer?: 'auto' | EngineName; home: string; onNotice?(line: string): void }): Promise<Engine> {
  const prefer = options.prefer ?? 'auto';
  if (opened) {
    if (prefer === 'auto' || prefer === opened.engine.name) return opened.engine;
    throw new AppError('engine', `This process already computes with the ${opened.engine.name} engine and cannot change to ${prefer}.`, {
      hint: 'Start again with the other engine.',
    });
  }
  registerComparisonGradients();
  const engine = await open(prefer, options.home, options.onNotice);
  opened = { engine, prefer };
  return engine;
}

async function open(prefer: 'auto' | EngineName, home: string, onNotice?: (line: string) => void): Promise<Engine> {
  switch (prefer) {
    case 'wasm':
      return openWasm('chosen by name');
    case 'webgpu':
      return openWebGpu('chosen by name');
    case 'tensorflow': {
      const found = await tensorFlowLibraries(home);
      if (found.folder === undefined) {
        throw new AppError('engine', `The TensorFlow engine cannot be used: ${found.why}.`, {
          hint: 'Install its pack (npm run demo does, or the Models page), or choose the wasm engine.',
        });
      }
      Object.assign(process.env, found.environment);
      return openTensorFlow(found.folder, found.gpu ? `chosen by name, on ${found.gpu}` : 'chosen by name', found.gpu);
    }
    case 'auto':
      return openBest(home, onNotice);
    default:
      throw new AppError('config', `Unknown engine "${String(prefer)}".`, { hint: 'Engines are tensorflow, webgpu, wasm and auto.' });
  }
}

/**
 * What 'auto' tries, in this order. A GPU comes before the processor where TensorFlow has no libraries for it: on Windows whatever
 * the GPU is, and Apple's. On Linux TensorFlow on the processor is measured and webgpu on such a GPU is not: it is chosen by name.
 */
export function engineOrder(platform: string): readonly EngineName[] {
  return platform === 'linux' ? ['tensorflow', 'webgpu', 'wasm'] : ['webgpu', 'tensorflow', 'wasm'];
}

/** The first of the order that works here. */
async function openBest(home: string, onNotice?: (line: string) => void): Promise<Engine> {
  const reasons: string[] = [];
  for (const name of engineOrder(process.platform)) {
    if (name === 'wasm') break;
    if (name === 'webgpu') {
      const gpu = await probeWebGpu();
      if (gpu.usable) return openWebGpu(reasons.join(', and ') || 'a GPU offers itself');
      reasons.push(`webgpu has ${gpu.why}`);
      continue;
    }
    const found = await tensorFlowLibraries(home);
    if (found.folder === undefined) {
      reasons.push(found.why);
      continue;
    }
    Object.assign(process.env, found.environment);
    // In a child first: a library that crashes must not take this process with it.
    const probe = await probeRemembered(found.folder, join(home, 'engines', 'probed.json'));
    if (probe.usable) return openTensorFlow(found.folder, found.why, found.gpu);
    reasons.push(`TensorFlow does not work here: ${probe.why}`);
  }
  const why = reasons.join(', and ');
  onNotice?.(`Computing with the wasm engine, which is slower: ${why}.`);
  return openWasm(why);
}

interface TensorFlowLibraries {
  folder: string | undefined;
  why: string;
  /** The NVIDIA GPU they compute on. */
  gpu?: string;
  /** To be set before they are loaded; what the user has set is not in it. */
  environment: Record<string, string>;
}

/** The libraries with CUDA where they are installed and have a GPU, otherwise those for the processor. */
async function tensorFlowLibraries(home: string): Promise<TensorFlowLibraries> {
  const found = findLibraries(home);
  const cuda = process.env['DRTUNE_TF_LIB_DIR'] ? undefined : findCudaLibraries(home);
  if (!cuda) return { ...found, environment: {} };
  const chosen = chooseCuda(await askCuda());
  // Without a GPU they compute on the processor, as the others do.
  if (!chosen.gpu) return { folder: found.folder ?? cuda, why: `the pack with CUDA is installed, but ${chosen.why}`, environment: {} };
  const gpu = cudaWords(chosen.gpu);
  const environment = Object.entries(cudaEnvironment(chosen.gpu, cuda)).filter(([name]) => process.env[name] === undefined);
  return { folder: cuda, why: `the pack with CUDA is installed, for ${gpu}`, gpu, environment: Object.fromEntries(environment) };
}

/** Whether CUDA could be used, in words for `doctor`; nothing where TensorFlow has no libraries with CUDA. */
async function cudaReport(home: string): Promise<string> {
  if (process.platform !== 'linux' || process.arch !== 'x64' || findCudaLibraries(home)) return '';
  const chosen = chooseCuda(await askCuda());
  return chosen.gpu ? `; CUDA: ${cudaWords(chosen.gpu)} could be used, with the pack that \`npm run cuda\` installs` : `; CUDA: ${chosen.why}`;
}

/** What `doctor` shows: each engine in the order of 'auto', whether it works here, and why or why not. Loads nothing into this process. */
export async function probeEngines(home: string): Promise<EngineReport[]> {
  const [tensorflow, webgpu] = await Promise.all([reportTensorFlow(home), probeWebGpu()]);
  const reports: Record<EngineName, EngineReport> = { tensorflow, webgpu: { name: 'webgpu', ...webgpu, why: webgpu.why || 'a GPU offers itself' }, wasm: reportWasm() };
  return engineOrder(process.platform).map((name) => reports[name]);
}

async function reportTensorFlow(home: string): Promise<EngineReport> {
  const [found, cuda] = await Promise.all([tensorFlowLibraries(home), cudaReport(home)]);
  if (found.folder === undefined) return { name: 'tensorflow', usable: false, version: '', device: '', why: found.why + cuda };
  const probe = await probeTensorFlow(found.folder);
  const device = found.gpu && probe.usable ? `GPU, ${found.gpu}` : probe.device;
  return { name: 'tensorflow', ...probe, device, why: (probe.usable ? found.why : probe.why) + cuda };
}

function reportWasm(): EngineReport {
  try {
    const { version } = requirePackage('@tensorflow/tfjs-backend-wasm/package.json') as { version: string };
    return { name: 'wasm', usable: true, version, device: wasmDevice(), why: 'always there' };
  } catch (error) {
    return { name: 'wasm', usable: false, version: '', device: '', why: errorLine(error) };
  }
}
