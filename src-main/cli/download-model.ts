/** `drtune models download`: the plan, the licence, the download with its progress, the model on the list. */
import { createInterface } from 'node:readline/promises';
import { checkConfigs } from '../app/model-check.ts';
import { modelFacts } from '../app/model-facts.ts';
import { AppError } from '../base/errors.ts';
import { catalogEntries } from '../hub/catalog.ts';
import { closeConnections } from '../hub/http.ts';
import { environmentToken, hubEndpoint } from '../hub/hub-address.ts';
import { downloadModel, planModel, type ModelProgress } from '../hub/model-download.ts';
import { checkSpace, modelNameOf, size, type ModelPlan } from '../hub/model-store.ts';
import { addModel } from '../models/known.ts';
import type { CommandContext } from './command.ts';
import { clock, onTerminal, type ProgressLine } from './progress.ts';

/** @param target a repository, one file of it, the address of either, or an id of the catalogue */
export async function downloadCommand(context: CommandContext, target: string): Promise<number> {
  const { args, home, print, note } = context;
  try {
    const hub = { endpoint: hubEndpoint(), token: environmentToken(), onNotice: (line: string) => (args.json ? print(JSON.stringify({ type: 'notice', line })) : note(line)) };
    const entry = catalogEntries().find(({ id }) => id === target);
    const plan = await planModel(home, {
      repo: entry?.repo ?? target, revision: args.text('revision') ?? entry?.revision, file: args.text('file') ?? entry?.file, variant: args.text('variant'),
    }, hub);
    showPlan(context, plan);
    if (args.flag('plan')) return 0;
    if (plan.present !== plan.commit || plan.bytesThere < plan.bytes) {
      checkSpace(plan);
      await acceptLicence(context, plan);
    }
    context.showNotes();
    const path = await onTerminal(context, (_, { signal, line }) => downloadModel(home, plan, { ...hub, signal, onProgress: (progress) => show(context, line, progress), checkConfigs }));
    const model = addModel(home, path, modelNameOf(plan));
    const { problems } = modelFacts(path);
    if (args.json) print(JSON.stringify({ type: 'done', name: model.name, path: model.path, commit: plan.commit, bytes: plan.bytes, usable: problems.length === 0, problems }));
    else print(problems.length === 0 ? `${model.name} is ready (${model.path}).` : `${model.name} is here as the hub has it (${model.path}), and cannot be used: ${problems[0]}.`);
    return problems.length === 0 ? 0 : 1;
  } finally {
    await closeConnections();
  }
}

function showPlan({ args, print }: CommandContext, plan: ModelPlan): void {
  if (args.json) {
    print(JSON.stringify({ type: 'plan', ...plan, files: plan.files.map(({ path, size: bytes }) => ({ path, bytes })) }));
    return;
  }
  const there = plan.bytesThere > 0 ? `, ${size(plan.bytesThere)} of it there already` : '';
  print(`${plan.repo}${plan.file ? `/${plan.file}` : ''} at ${plan.commit.slice(0, 12)} (${plan.variant}): ${plan.files.length} ${plan.files.length === 1 ? 'file' : 'files'}, ${size(plan.bytes)}${there}; ${size(plan.freeBytes)} free.`);
  print(`Licence: ${plan.licence.id}${plan.licence.link ? `, ${plan.licence.link}` : ''}`);
  for (const line of plan.notes) print(line);
}

/** @throws AppError('config') unless the licence is accepted by a flag or on the terminal */
async function acceptLicence({ args }: CommandContext, plan: ModelPlan): Promise<void> {
  if (args.flag('accept-licence') || args.flag('yes')) return;
  if (process.stdin.isTTY && process.stderr.isTTY && !args.json) {
    const lines = createInterface({ input: process.stdin, output: process.stderr });
    const answer = await lines.question(`Download it under this licence? [y/N] `).finally(() => lines.close());
    if (/^y(es)?$/i.test(answer.trim())) return;
    throw new AppError('config', 'Nothing was downloaded.');
  }
  throw new AppError('config', `${plan.repo} is under the licence ${plan.licence.id}, which has not been accepted.`, { hint: `Read it${plan.licence.link ? ` at ${plan.licence.link}` : ''}, then add --accept-licence.` });
}

/** JSON lines, or the one line at the bottom. */
function show({ args, print }: CommandContext, line: ProgressLine, progress: ModelProgress): void {
  if (args.json) return print(JSON.stringify({ type: 'progress', ...progress, etaSeconds: progress.etaSeconds ?? null }));
  const { phase, file, bytes, total, bytesPerSecond, etaSeconds } = progress;
  const percent = total > 0 ? Math.floor((100 * bytes) / total) : 100;
  const eta = etaSeconds === undefined || bytesPerSecond === 0 ? '' : `, ${size(bytesPerSecond)}/s, ${clock(etaSeconds)} left`;
  line.renew(phase === 'download' ? `${size(bytes)} of ${size(total)} (${percent} %${eta})  ${file}` : `Verifying ${file} (${percent} %)`, true);
}
