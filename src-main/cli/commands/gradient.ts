/** One gradient of the config's algorithm as a file: the proof tool for tests and bug reports. */
import { statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { AppError } from '../../base/errors.ts';
import { checkFolder, makeFolder } from '../../base/folder.ts';
import { readFloatsSync, scope } from '../../engine/scope.ts';
import type { Tensor4D } from '../../engine/tf.ts';
import { toChannelsFirst } from '../../pipeline/images.ts';
import { moduleOf, parameterKey, torchShape } from '../../pipeline/lora/write.ts';
import { planLine } from '../../contract/memory.ts';
import { openSession } from '../../train/session.ts';
import { singleGradient } from '../../train/single-gradient.ts';
import { writeSafetensors, type TensorData } from '../../weights/safetensors.ts';
import { UsageError } from '../arguments.ts';
import { commandEngine, type Command } from '../command.ts';
import { CONFIG_FLAGS, readConfig } from '../config-file.ts';
import { onTerminal } from '../progress.ts';

/** [B,h,w,C] as torch stores it, [B,C,h,w]. */
export function channelsFirst(x: Tensor4D): TensorData {
  return scope(() => {
    const moved = toChannelsFirst(x);
    return { shape: moved.shape, data: readFloatsSync(moved) };
  });
}

/** Asked before the work. @throws AppError('disk') */
function checkPlace(out: string): void {
  checkFolder(dirname(out));
  if (statSync(out, { throwIfNoEntry: false })?.isDirectory()) throw new AppError('disk', `--out ${out} is a folder, expected a file.`, { hint: `For example ${join(out, 'gradient.safetensors')}.` });
}

/** What to do where weights or a sampler came to no number. */
export const NOT_A_NUMBER = '"drtune models verify NAME" finds weights that are no numbers; otherwise lower the guidance, or take another scheduler or more steps.';

export const gradient: Command = {
  name: 'gradient',
  usage: 'gradient --config FILE --out FILE [--lora FILE] [--method replay|full-tape] [--set key=value]... [--engine NAME] [--json]',
  what: 'One gradient of the reward by the config\'s algorithm, keyed by parameter path, with reward and x0.',
  flags: { ...CONFIG_FLAGS, lora: { type: 'string' }, out: { type: 'string' }, method: { type: 'string' }, engine: { type: 'string' } },
  async run(context) {
    const { args, home, print } = context;
    args.allowPositionals(0);
    const out = resolve(args.need('out'));
    const method = args.text('method') ?? 'replay';
    if (method !== 'replay' && method !== 'full-tape') throw new UsageError(`--method is "${method}", expected replay or full-tape.`);
    const read = readConfig(args);
    const lora = args.text('lora');
    checkPlace(out);
    const config = lora === undefined ? read : { ...read, lora: { ...read.lora, initFile: resolve(lora) } };
    const engine = await commandEngine(context, config.engine);
    const session = await onTerminal(context, (work) => openSession(config, { engine, home, work }));
    const { gradients, x0, reward, terms, kl, plan } = singleGradient(session, method);
    const tensors: Record<string, TensorData> = { reward: { shape: [1], data: Float32Array.of(reward) }, x0: channelsFirst(x0) };
    const kernels = new Map((session.pipeline.loraModules().unet ?? []).map(({ path, kernel }) => [path, kernel]));
    for (const [name, tensor] of gradients) {
      tensors[parameterKey(name)] = { shape: torchShape(name, tensor.shape, kernels.get(moduleOf(name))), data: readFloatsSync(tensor) };
    }
    const wrong = Object.keys(tensors).find((name) => !tensors[name]!.data.every(Number.isFinite));
    if (wrong !== undefined) throw new AppError('run', `There is no gradient: ${wrong} came out as values that are no numbers.`, { hint: NOT_A_NUMBER });
    makeFolder(dirname(out));
    const steps = { trainedSteps: JSON.stringify(plan.trained), earlyStopStep: String(plan.stop) };
    writeSafetensors(out, tensors, { metadata: { format: 'pt', method, ...steps, config: JSON.stringify(config) } });
    if (args.json) print(JSON.stringify({ out, method, reward, terms, kl, trainedSteps: plan.trained, earlyStopStep: plan.stop, parameters: gradients.size, plan: session.plan }));
    else print(`reward ${reward}, trained steps ${plan.trained.join(', ')} (counted from the end), ${gradients.size} gradients in ${out}; ${planLine(session.plan)}`);
    session.dispose();
    return 0;
  },
};
