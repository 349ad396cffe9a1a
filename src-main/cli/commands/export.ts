/** A run's LoRA for other programs, opened again and its picture compared before it is called done. */
import { resolve } from 'node:path';
import { RunRecorder } from '../../app/run-recorder.ts';
import { nearestKey } from '../../contract/run.ts';
import { configOf } from '../../history/runs.ts';
import { EXPORT_FORMATS, exportRunLora, type ExportFormat } from '../../pipeline/lora/export.ts';
import { exportRequest } from '../../train/export.ts';
import { UsageError } from '../arguments.ts';
import { commandEngine, type Command } from '../command.ts';
import { onTerminal } from '../progress.ts';
import { checkpointFile } from './compare.ts';
import { findRun } from './history.ts';

export const exportCommand: Command = {
  name: 'export',
  usage: 'export --run RUN --format diffusers|kohya|peft|merged --out PATH [--step N] [--engine NAME] [--json]',
  what: 'The LoRA of a run for other programs: diffusers\' file, kohya\'s file (A1111, ComfyUI), PEFT\'s folder, or merged into the whole model, as one file where PATH ends in .safetensors, otherwise as a diffusers folder. Checked by opening it and comparing its picture.',
  flags: { run: { type: 'string' }, format: { type: 'string' }, out: { type: 'string' }, step: { type: 'string' }, engine: { type: 'string' } },
  async run(context) {
    const { args, home, print } = context;
    args.allowPositionals(0);
    const [text, format, out] = [args.need('run'), checkFormat(args.need('format')), resolve(args.need('out'))];
    const recorder = RunRecorder.open(home);
    try {
      const run = findRun(recorder, text);
      const checkpoint = checkpointFile(recorder, run.id, args.number('step', { min: 0, whole: true }));
      const config = configOf(recorder.runs.get(run.id));
      const request = exportRequest(config, { home, run: run.id, step: checkpoint.step, checkpoint: checkpoint.file, format, out });
      const engine = await commandEngine(context, config.engine);
      const report = await onTerminal(context, (work) => exportRunLora(engine, request, work));
      print(args.json ? JSON.stringify({ run: run.id, step: checkpoint.step, ...report }) : `${report.modules} modules of step ${checkpoint.step} in ${report.path}; ${report.checked}`);
      return 0;
    } finally {
      recorder.close();
    }
  },
};

function checkFormat(format: string): ExportFormat {
  const known = EXPORT_FORMATS.find((each) => each === format);
  if (known) return known;
  const near = nearestKey(format, EXPORT_FORMATS);
  throw new UsageError(`There is no format "${format}"${near ? `: did you mean "${near}"?` : `. There are: ${EXPORT_FORMATS.join(', ')}.`}`);
}
