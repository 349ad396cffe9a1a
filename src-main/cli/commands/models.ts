/** The base models this machine knows. */
import { modelFacts } from '../../app/model-facts.ts';
import { AppError } from '../../base/errors.ts';
import { nearestKey } from '../../contract/run.ts';
import { addModel, findModel, listModels, removeModel } from '../../models/known.ts';
import { UsageError } from '../arguments.ts';
import type { Command, CommandContext } from '../command.ts';

const ACTIONS = ['list', 'add', 'verify', 'remove', 'download'] as const;

export const models: Command = {
  name: 'models',
  usage: 'models [list|add PATH|verify NAME|remove NAME] [--json]',
  what: 'Known base models; PATH is a diffusers folder.',
  flags: {},
  async run(context) {
    const { args, home, print } = context;
    const [action = 'list', target] = args.positionals;
    args.allowPositionals(action === 'list' ? 1 : 2);
    if (action === 'list') return list(context);
    if (!(ACTIONS as readonly string[]).includes(action)) {
      const near = nearestKey(action, ACTIONS);
      throw new UsageError(`Unknown action "${action}"${near ? `: did you mean "${near}"?` : `. Actions: ${ACTIONS.join(', ')}.`}`);
    }
    if (target === undefined) throw new UsageError(`models ${action} needs a ${action === 'add' ? 'path' : 'name'}.`);
    switch (action) {
      case 'add': {
        const model = addModel(home, target);
        const { problems } = modelFacts(model.path);
        if (args.json) print(JSON.stringify({ ...model, usable: problems.length === 0, problems }));
        else print(`Added ${model.name} (${model.path})${problems.length > 0 ? `, which cannot be used: ${problems[0]}` : '.'}`);
        return 0;
      }
      case 'verify': return verify(context, target);
      case 'remove':
        removeModel(home, target);
        print(args.json ? JSON.stringify({ removed: target }) : `Removed ${target} from the list; its files stay.`);
        return 0;
      default:
        throw new AppError('config', 'models download is not in this version.', { hint: 'Download the diffusers folder yourself and use models add.' });
    }
  },
};

function list({ args, home, print }: CommandContext): number {
  const known = listModels(home).map((model) => ({ model, facts: modelFacts(model.path) }));
  if (args.json) {
    print(JSON.stringify(known.map(({ model, facts: { problems, ...facts } }) => ({ ...model, ...facts, usable: problems.length === 0, problems }))));
    return 0;
  }
  for (const { model, facts } of known) {
    const state = facts.problems.length === 0 ? `${facts.architecture}, ${facts.width} x ${facts.height}, ${(facts.parameters / 1e6).toFixed(1)} M parameters` : `cannot be used: ${facts.problems[0]}`;
    print(`${model.name.padEnd(20)} ${state}  ${model.path}`);
  }
  return 0;
}

/** Reads every header, then loads the model whole: what loads can be sampled. */
async function verify({ args, home, print, note }: CommandContext, name: string): Promise<number> {
  const model = findModel(home, name);
  const { problems } = modelFacts(model.path);
  if (problems.length === 0) {
    const [{ openEngine }, { openPipeline }] = await Promise.all([import('../../engine/select.ts'), import('../../pipeline/load.ts')]);
    const engine = await openEngine({ prefer: 'auto', home, onNotice: note });
    try {
      (await openPipeline(engine, model.path, { name: model.name })).dispose();
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      problems.push(error.line);
    }
  }
  if (args.json) print(JSON.stringify({ name: model.name, path: model.path, ok: problems.length === 0, problems }));
  else print(problems.length === 0 ? `${model.name} is whole.` : `${model.name} cannot be used: ${problems.join('; ')}`);
  return problems.length === 0 ? 0 : 1;
}
