/**
 * Every sentence of the main process that a page may show, read off its sources: what stands in a template's holes is left open, "{0} is no folder.".
 * What only a terminal shows (the command line, the server's own start) is left out.
 */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { runState } from '../../src-main/contract/api.ts';

const root = join(import.meta.dirname, '../../src-main');

const TERMINAL = /^(cli|setup|preload)\/|^(serve|main)\.ts$|^ipc\/(http-|app-protocol)/;
/** Files whose sentences reach the pages by themselves: alarms, verdicts, forecasts, reasons, notices. */
const SPEAKING = [
  'base/atomic', 'train/alarms', 'train/verdict', 'train/memory-plan', 'app/crash-words', 'app/forecast', 'app/catalog', 'app/model-check', 'app/model-hub', 'app/open-app', 'app/releases', 'app/run-recorder', 'app/run-service', 'app/server-links',
  'app/share-run', 'app/train-session', 'app/helper', 'app/handlers', 'engine/cuda', 'engine/engine-folder', 'engine/probe', 'engine/select', 'engine/engines/wasm', 'hub/download', 'hub/engine-pack', 'hub/hub-address', 'hub/hub-api', 'hub/http', 'hub/model-store',
  'hub/needed-files', 'history/backup', 'history/lock', 'ipc/dispatcher', 'ipc/given-files', 'ipc/server-wire', 'models/files', 'models/known', 'models/single-file/recognise', 'pipeline/load', 'pipeline/lora-file', 'pipeline/lora/export',
  'rewards/index', 'train/trainer', 'contract/run', 'contract/sweep',
].map((each) => `${each}.ts`);
/** Words of theirs that no page shows as they are: the log's, headers, SQL, keys. */
const UNSEEN = /^(clean-up:|runs found by |private, |Basic |Bearer |started on |Error: |text\/|SELECT |relay of |stop asked for|waiting for the run at work|imported; |settings, rows of|exit |the trainer has said nothing|a message of the trainer|\{0\} (on|at) |\{0\} \(\{1\} of \{2\}\)|VACUUM|BEGIN|journal_mode|predictBranches|decode: |CLIP was given|\{0\} prompts for|\{0\} step \{1\}$|sha256$|DRTune Studio$|writing the file$|picture of \{0\} kB|the reward \{0\} (varies|does not vary)|\s*$)|NVIDIA_|=>|\n/;
/** What zod says of a wrong setting. */
const ZOD = [
  ...['number to be ', 'array to have ', 'string to have '].flatMap((what) => [['small', '>'], ['small', '>='], ['big', '<'], ['big', '<=']].map(([size, sign]) => `Too ${size}: expected ${what}${sign}{0}${what.startsWith('array') ? ' items' : what.startsWith('string') ? ' characters' : ''}`)),
  ...['number', 'string', 'array'].map((type) => `Invalid input: expected ${type}, received {0}`), 'Invalid input: expected int, received number', 'Invalid input: expected {0}, received {1}', 'Invalid input', 'Invalid option: expected one of {0}',
];
/** Single words that stand in sentences, and what joins lists. */
const PIECES = [...runState.options, '; ', ', and ', ', ', '{0} ({1})', '{0}: {1}', ...ZOD];

interface Sentence { readonly file: string; readonly text: string }

/** A literal or template as its text with numbered holes, undefined for anything else. */
function textOf(node: ts.Node): string | undefined {
  if (ts.isStringLiteralLike(node)) return node.text;
  return ts.isTemplateExpression(node) ? node.head.text + node.templateSpans.map((span, at) => `{${at}}${span.literal.text}`).join('') : undefined;
}

/** What the constants of a file begin with. */
const constants = (file: ts.SourceFile): Map<string, ts.Expression[]> => new Map(file.statements.filter(ts.isVariableStatement).flatMap(({ declarationList }) => declarationList.declarations.map(({ name, initializer }) => [name.getText(), initializer && !ts.isIdentifier(initializer) ? [initializer] : []])));

/** What an expression can be: its texts, those of its branches, and those that its holes hold. */
function textsOf(node: ts.Node): string[] {
  if (ts.isParenthesizedExpression(node)) return textsOf(node.expression);
  if (ts.isConditionalExpression(node)) return [...textsOf(node.whenTrue), ...textsOf(node.whenFalse)];
  if (ts.isBinaryExpression(node) && [ts.SyntaxKind.QuestionQuestionToken, ts.SyntaxKind.BarBarToken, ts.SyntaxKind.PlusToken].includes(node.operatorToken.kind)) return [...textsOf(node.left), ...textsOf(node.right)];
  if (ts.isIdentifier(node)) return constants(node.getSourceFile()).get(node.text)?.flatMap(textsOf).filter((text) => text.includes(' ')) ?? [];
  const text = textOf(node);
  if (text === undefined) return [];
  return [text, ...(ts.isTemplateExpression(node) ? node.templateSpans.flatMap((span) => textsOf(span.expression)) : [])].filter((each) => /[a-z]{2}/i.test(each.replace(/\{\d\}/g, '')));
}

function sentencesOf(file: string): string[] {
  const found: string[] = [];
  const speaking = SPEAKING.includes(file);
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isLiteralTypeNode(node) || ts.isCaseClause(node.parent ?? node) && ts.isStringLiteral(node)) return;
    if (ts.isNewExpression(node) && node.expression.getText() === 'Error') return;
    if (ts.isCallExpression(node) && ['assert', 'attempt', 'log', 'note', 'at'].includes(node.expression.getText().split('.').at(-1)!) && node.arguments.some(ts.isStringLiteral)) return;
    if (ts.isNewExpression(node) && ['AppError', 'PromptError'].includes(node.expression.getText())) {
      const [first, ...others] = (node.arguments ?? []).slice(node.expression.getText() === 'AppError' ? 1 : 0);
      const hints = others.flatMap((each) => (ts.isObjectLiteralExpression(each) ? each.properties.flatMap((one) => (ts.isPropertyAssignment(one) && one.name.getText() === 'hint' ? [one.initializer] : [])) : [each]));
      found.push(...[first!, ...hints].flatMap(textsOf));
    } else if (speaking) {
      const text = textOf(node);
      if (text !== undefined && /[a-z]{2,}.* |[a-z].* [a-z]{2}/i.test(text)) return void found.push(...textsOf(node));
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, readFileSync(join(root, file), 'utf8'), ts.ScriptTarget.Latest, true));
  return found;
}

/** Each text once, with the file that says it first. */
export function mainSentences(): Sentence[] {
  const files = globSync('**/*.ts', { cwd: root }).map((file) => file.replaceAll('\\', '/')).filter((file) => !TERMINAL.test(file)).sort();
  const all = files.flatMap((file) => sentencesOf(file).filter((text) => !UNSEEN.test(text)).map((text) => ({ file, text: text.replace(/^; /, '') })));
  const pieces = PIECES.map((text) => ({ file: 'contract/api.ts', text }));
  return [...new Map([...all, ...pieces].reverse().map((each) => [each.text, each])).values()].reverse();
}
