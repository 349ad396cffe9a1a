/** The base models this machine knows, and those it can have from the hub. */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { verifyModel } from '../../app/model-check.ts';
import { modelFacts } from '../../app/model-facts.ts';
import { deletableFolder } from '../../app/model-library.ts';
import { AppError } from '../../base/errors.ts';
import { nearestKey } from '../../contract/run.ts';
import { catalogEntries } from '../../hub/catalog.ts';
import { size } from '../../hub/model-store.ts';
import { openModelFiles } from '../../models/files.ts';
import { addModel, findModel, isThere, listModels, removeModel } from '../../models/known.ts';
import { UsageError } from '../arguments.ts';
import type { Command, CommandContext } from '../command.ts';
import { onTerminal } from '../progress.ts';

const ACTIONS = ['list', 'add', 'verify', 'remove', 'download', 'catalog'] as const;
type Action = (typeof ACTIONS)[number];

/** Flags that only one action knows. */
const OWN_FLAGS: Readonly<Record<string, Action>> = {
  revision: 'download', file: 'download', variant: 'download', 'accept-licence': 'download', yes: 'download', plan: 'download', 'delete-files': 'remove',
};

export const models: Command = {
  name: 'models',
  usage: 'models [list|catalog|add PATH|verify NAME|remove NAME [--delete-files]|download REPO[/FILE]|ID [--revision R] [--file F] [--variant fp16|plain] [--plan] [--accept-licence]] [--json]',
  what: 'Base models: those on this machine (folders in diffusers format and single files, added in place), and downloads from the hub.',
  flags: {
    revision: { type: 'string' }, file: { type: 'string' }, variant: { type: 'string' }, plan: { type: 'boolean' },
    'accept-licence': { type: 'boolean' }, yes: { type: 'boolean' }, 'delete-files': { type: 'boolean' },
  },
  async run(context) {
    const { args } = context;
    const [action = 'list', target] = args.positionals;
    if (!(ACTIONS as readonly string[]).includes(action)) {
      const near = nearestKey(action, ACTIONS);
      throw new UsageError(`Unknown action "${action}"${near ? `: did you mean "${near}"?` : `. Actions: ${ACTIONS.join(', ')}.`}`);
    }
    for (const [flag, owner] of Object.entries(OWN_FLAGS)) {
      if (owner !== action && (args.flag(flag) || args.text(flag) !== undefined)) throw new UsageError(`--${flag} belongs to models ${owner}.`);
    }
    const alone = action === 'list' || action === 'catalog';
    args.allowPositionals(alone ? 1 : 2);
    if (!alone && target === undefined) throw new UsageError(`models ${action} needs a ${action === 'add' ? 'path' : action === 'download' ? 'repository, OWNER/NAME, or an id of the catalogue' : 'name'}.`);
    switch (action as Action) {
      case 'list': return list(context);
      case 'catalog': return catalog(context);
      case 'add': return add(context, target!);
      case 'verify': return verify(context, target!);
      case 'remove': return remove(context, target!);
      case 'download': return (await import('../download-model.ts')).downloadCommand(context, target!);
    }
  },
};

function list({ args, home, print }: CommandContext): number {
  const known = listModels(home).map((model) => {
    const missing = !isThere(model.path);
    const facts = modelFacts(model.path);
    return { model, facts: missing ? { ...facts, problems: [`it is gone from ${model.path}`] } : facts, missing };
  });
  if (args.json) {
    print(JSON.stringify({ models: known.map(({ model, facts: { problems, ...facts }, missing }) => ({ ...model, ...facts, missing, usable: problems.length === 0, problems })) }));
    return 0;
  }
  for (const { model, facts, missing } of known) {
    const state = missing ? `MISSING: put it back, "models add" it from where it is now, or "models remove ${model.name}"`
      : facts.problems.length === 0 ? `${facts.architecture}, ${facts.width} x ${facts.height}, ${(facts.parameters / 1e6).toFixed(1)} M parameters, ${facts.precision}, ${size(facts.bytes)}, licence ${facts.licence}`
      : `cannot be used: ${facts.problems[0]}`;
    print(`${model.name.padEnd(20)} ${state}  ${model.path}`);
  }
  return 0;
}

function catalog({ args, print }: CommandContext): number {
  const entries = catalogEntries();
  if (args.json) print(JSON.stringify({ catalog: entries }));
  else {
    for (const { id, title, repo, file, approximateBytes, licence, what, note } of entries) {
      print(`${id.padEnd(20)} ${`${repo}${file ? `/${file}` : ''}`.padEnd(62)} about ${size(approximateBytes)}, ${licence.id}`);
      print(`    ${title}. ${what} ${licence.allows}${note ? ` ${note}` : ''}`);
    }
  }
  return 0;
}

function add({ args, home, print }: CommandContext, target: string): number {
  if (existsSync(target)) openModelFiles(target);
  const model = addModel(home, target);
  const { problems } = modelFacts(model.path);
  if (args.json) print(JSON.stringify({ ...model, usable: problems.length === 0, problems }));
  else print(`Added ${model.name} (${model.path})${problems.length > 0 ? `, which cannot be used: ${problems[0]}` : ''}.`);
  return 0;
}

/** Reads every header; compares a download with its checksums; loads any other model whole: what loads can be sampled. */
async function verify(context: CommandContext, name: string): Promise<number> {
  const { args, home, print, note } = context;
  const model = findModel(home, name);
  const { problems, checked } = await onTerminal(context, (work) => verifyModel(model.path, work));
  if (problems.length === 0 && checked === 0) {
    const [{ openEngine }, { openPipeline }] = await Promise.all([import('../../engine/select.ts'), import('../../pipeline/load.ts')]);
    const engine = await openEngine({ prefer: 'auto', home, onNotice: note });
    try {
      (await openPipeline(engine, model.path, { name: model.name })).dispose();
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      problems.push(error.line.replace(/\.$/, ''));
    }
  }
  if (args.json) print(JSON.stringify({ name: model.name, path: model.path, ok: problems.length === 0, filesChecked: checked, problems }));
  else print(problems.length === 0 ? `${model.name} is whole${checked > 0 ? `: ${checked} files have the checksums of their download` : ''}.` : `${model.name} cannot be used: ${problems.join('; ')}.`);
  return problems.length === 0 ? 0 : 1;
}

async function remove({ args, home, print }: CommandContext, name: string): Promise<number> {
  const known = listModels(home).find((each) => each.name === name);
  const folder = args.flag('delete-files') && known && !known.builtIn ? deletableFolder(home, known.path) : null;
  removeModel(home, name);
  if (folder !== null) await rm(folder, { recursive: true, force: true });
  if (args.json) print(JSON.stringify({ removed: name, deleted: folder }));
  else print(`Removed ${name} from the list; ${folder === null ? 'its files stay' : `${folder} is deleted`}.`);
  return 0;
}
