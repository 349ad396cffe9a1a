/**
 * Asks the app's real handlers random things, in a process that may read and write little (Node's permission model): a wish for a
 * file elsewhere that got through would be an "internal" error here. `fuzz-requests.ts HOME CASES SEED`; prints one line of JSON.
 */
import fs, { readFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { z } from 'zod';
import type { AnyAnswer, AnyRequest, HelperPort } from '../../src-main/app/helper.ts';
import { answerLibrary } from '../../src-main/app/library-jobs.ts';
import { openApp } from '../../src-main/app/open-app.ts';
import type { Hear, Wire } from '../../src-main/app/server-links.ts';
import { rewardInfos } from '../../src-main/rewards/index.ts';
import { EVENTS, HERE_ONLY, REQUESTS, type RequestName } from '../../src-main/contract/api.ts';
import { createDispatcher } from '../../src-main/ipc/dispatcher.ts';
import type { FromTrainer, TrainerPort } from '../../src-main/worker/protocol.ts';
import { seededNumbers } from './random.ts';

type Schema = Record<string, unknown> & { type?: string; properties?: Record<string, Schema>; required?: string[]; items?: Schema; prefixItems?: Schema[]; anyOf?: Schema[]; oneOf?: Schema[]; enum?: unknown[]; const?: unknown; additionalProperties?: Schema | boolean };

// The permission model refuses fsync as a whole; what is written here need not survive a power cut.
fs.fsyncSync = () => {};
syncBuiltinESMExports();

const [, , home, cases, seed] = process.argv as [string, string, string, string, string];
const below = seededNumbers(Number(seed));
const random = (): number => below(2 ** 30) / 2 ** 30;
const pick = <T>(list: readonly T[]): T => list[below(list.length)]!;

/** What has broken programs before: paths out, names of prototypes, odd numbers and texts. */
const TEXTS = [
  '', ' ', '.', '..', '../..', '../../etc/passwd', '/etc/passwd', '/etc', '/proc/self/environ', '~/.ssh/id_rsa', '/root/.bashrc', 'C:\\Windows\\win.ini', '\\\\host\\share', 'file:///etc/passwd', `${home}/../secret.txt`, `${home}/hub-token`,
  `${home}/history.sqlite`, `${home}/models`, `${home}/runs`, `${home}/link/secret.txt`, 'a\0b', '\0', '__proto__', 'constructor', 'toString', 'hasOwnProperty', 'set:', 'set:../../package', 'set:animals', 'starter', 'fake', 'symmetry', 'clipscore',
  "'; DROP TABLE runs; --", '%', '_', '"', '*', 'a OR b', 'NEAR(', '\ud800', '\u202e', 'é', '😀', '1e999', 'NaN', 'null', 'undefined', '<script>', '{{x}}', '{a|b', '(((', 'someone/tiny', 'someone--tiny', '..--..', 'a b', 'https://example.org/x',
];
const NUMBERS = [0, -0, 1, -1, 2, 5, 0.5, 1e-9, 1e9, 2 ** 31, 2 ** 53, -(2 ** 53), 1e308, 4294967296, 9007199254740993];
const ids: string[] = ['r', 'nothing-here'];
const servers: string[] = [];

function text(): string {
  const kind = below(10);
  if (kind < 6) return pick(TEXTS);
  if (kind < 8) return pick(ids);
  if (kind < 9) return Array.from({ length: below(30) }, () => String.fromCharCode(below(0x3000))).join('');
  return pick(['x', 'é', '/', '\n']).repeat(below(3000));
}

function anything(depth = 0): unknown {
  switch (below(depth > 3 ? 5 : 8)) {
    case 0: return null;
    case 1: return random() < 0.5;
    case 2: return pick(NUMBERS);
    case 3: case 4: return text();
    case 5: return Array.from({ length: below(5) }, () => anything(depth + 1));
    default: return Object.fromEntries(Array.from({ length: below(5) }, () => [pick([...TEXTS, 'id', 'config', 'path', 'name', 'model', 'prompts']), anything(depth + 1)]));
  }
}

/** Something the schema takes, as a rule; now and then something else in its place. */
function like(schema: Schema, wild: number, depth = 0): unknown {
  if (random() < wild) return anything();
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return pick(schema.enum);
  const either = schema.anyOf ?? schema.oneOf;
  if (either) return like(pick(either), wild, depth);
  switch (schema.type) {
    case 'string': return schema['contentEncoding'] ? pick(['', 'AAAA', 'iVBORw0KGgo=', 'x']) : text();
    case 'boolean': return random() < 0.5;
    case 'null': return null;
    case 'number': case 'integer': {
      const [least, most] = [Number(schema['minimum'] ?? 0), Math.min(Number(schema['maximum'] ?? 1000), 1000)];
      const value = least + random() * (most - least);
      return random() < 0.2 ? pick(NUMBERS) : schema.type === 'integer' ? Math.round(value) : value;
    }
    case 'array': return schema.prefixItems ? schema.prefixItems.map((each) => like(each, wild, depth + 1)) : Array.from({ length: 1 + below(3) }, () => like(schema.items ?? {}, wild, depth + 1));
    case 'object': {
      const own = Object.entries(schema.properties ?? {}).filter(([key]) => (schema.required ?? []).includes(key) || random() < 0.3);
      const built = Object.fromEntries(own.map(([key, each]) => [key, like(each, wild, depth + 1)]));
      if (random() < wild) built[pick(TEXTS)] = anything();
      return built;
    }
    default: return anything(depth);
  }
}

/** The trainer ends at once; what it would do is tested elsewhere. */
function launchTrainer(): TrainerPort {
  const listeners: ((message: FromTrainer) => void)[] = [];
  let gone = (_: { code: number | null; signal: string | null }): void => {};
  return {
    onMessage: (listener) => void listeners.push(listener), onExit: (listener) => void (gone = listener), kill: () => gone({ code: null, signal: 'SIGKILL' }),
    send: () => void setImmediate(() => {
      listeners.forEach((listener) => listener({ type: 'error', code: 'run', message: 'No trainer here.' }));
      listeners.forEach((listener) => listener({ type: 'done' }));
      gone({ code: 0, signal: null });
    }),
  };
}

/** Models' files are read as always, in this process; the hub and the engines are not there. */
function launchHelper(): HelperPort {
  const listeners: ((message: AnyAnswer) => void)[] = [];
  const exits: ((words: string) => void)[] = [];
  const tell = (message: AnyAnswer): void => listeners.forEach((listener) => listener(message));
  const serve = async (request: AnyRequest): Promise<void> => {
    if (request.kind === 'models' || request.kind === 'verify') await answerLibrary(request, async (message) => tell(message));
    else if (request.kind === 'facts') tell({ type: 'facts', engines: [{ name: 'wasm', usable: true, version: '1', device: 'CPU', why: '' }], rewards: rewardInfos(), pack: { installed: false, offered: false, bytes: 0, bytesThere: 0, bytesNeeded: 0, file: '' } });
    else tell({ type: 'error', code: 'network', message: 'There is no network here.' });
    exits.forEach((listener) => listener('exit 0'));
  };
  return { onMessage: (listener) => void listeners.push(listener), onExit: (listener) => void exits.push(listener), kill: () => {}, send: (message) => void (message.kind !== 'tried' && setImmediate(() => void serve(message))) };
}

/** Another machine that answers anything, or nothing, and never what was asked for. */
const wire: Wire = {
  dial: (_, hear: Hear) => {
    setImmediate(() => (random() < 0.8 ? hear.open() : hear.end('no', pick([401, 403, 404, 500]))));
    return {
      close: () => {},
      send: (text) => void setImmediate(() => {
        const { id } = JSON.parse(text) as { id: number };
        for (let more = below(3); more > 0; more--) hear.message(random() < 0.5 ? text : JSON.stringify({ event: pick(['run.event', 'run.summary', 'system', 'go', 'servers', '__proto__']), payload: anything(), ...(random() < 0.3 ? { server: 'x' } : {}) }));
        if (random() < 0.02) hear.end('cut');
        else hear.message(JSON.stringify({ id, reply: pick([{ ok: true, value: anything() }, { ok: true, value: {} }, { ok: true, value: [] }, { ok: false, error: { code: 'config', message: 'That is wrong there.' } }, { ok: false, error: anything() }, anything()]) }));
        setImmediate(() => hear.message(JSON.stringify({ id, reply: { ok: false, error: { code: 'config', message: 'The last word.' } } })));
      }),
    };
  },
  fetch: async () => new Response('x', { status: pick([200, 404]) }),
};

const defects: string[] = [];
const counts: Record<string, number> = {};
let relayed = 0;
const answered: Record<string, number> = {};
const unsent: string[] = [];
process.on('uncaughtException', (error) => defects.push(`uncaught: ${error.stack}`));
process.on('unhandledRejection', (error) => defects.push(`unhandled: ${error instanceof Error ? error.stack : String(error)}`));

const app = openApp({ home, launchTrainer, launchHelper, wire, pickPath: async () => pick([null, `${home}/fake`]) });
let current = '';
const dispatch = createDispatcher(app.handlers, (name, error) => defects.push(`${name} ${current}: ${error instanceof Error ? error.stack : String(error)}`), (server, name, input) => app.servers.ask(server, name, input));
for (const name of ['other', 'third']) servers.push(app.servers.add(name, `http://${name}:1`, 'token').id);
app.servers.on((server, name, payload) => {
  if (!servers.includes(server) || !EVENTS[name].safeParse(payload).success || HERE_ONLY.has(name)) defects.push(`an event "${name}" of ${server} got through: ${JSON.stringify(payload)}`);
});
const names = Object.keys(REQUESTS) as RequestName[];
const schemas = new Map(names.map((name) => [name, z.toJSONSchema(REQUESTS[name].input, { io: 'input', unrepresentable: 'any' }) as Schema]));
const codes = new Set(['disconnected', 'config', 'weights', 'engine', 'network', 'disk', 'history', 'run', 'busy', 'not-found', 'denied']);

for (let index = 0; index < Number(cases); index++) {
  const name = random() < 0.03 ? anything() : pick(names);
  const schema = typeof name === 'string' ? schemas.get(name as RequestName) : undefined;
  const input = random() < 0.15 || !schema ? anything() : like(schema, pick([0, 0, 0.05, 0.3]));
  current = JSON.stringify(input)?.slice(0, 500) ?? '';
  // Both transports carry JSON; what cannot be written as JSON cannot come.
  const server = random() < 0.25 ? (random() < 0.1 ? anything() : pick(servers)) : undefined;
  if (server !== undefined && random() < 0.05) app.servers.connect(servers[0]!);
  const reply = await dispatch(name, input === undefined ? undefined : JSON.parse(JSON.stringify(input)), server);
  if (server !== undefined) relayed++;
  if (reply.ok) {
    answered[String(name)] = (answered[String(name)] ?? 0) + 1;
    const { id } = (reply.value ?? {}) as { id?: unknown };
    if (typeof id === 'string' && ids.length < 40) ids.push(id);
    const parsed = REQUESTS[name as RequestName].output.safeParse(reply.value);
    if (!parsed.success) unsent.push(`${String(name)} ${current}: ${parsed.error.message.slice(0, 300)}`);
  } else {
    counts[reply.error.code] = (counts[reply.error.code] ?? 0) + 1;
    if (!codes.has(reply.error.code) || reply.error.message.length < 5) defects.push(`${String(name)} ${current}: ${JSON.stringify(reply.error)}`);
    if (/secret of the neighbour|root:.*:0:0|hf_sealed/.test(JSON.stringify(reply))) defects.push(`told a secret: ${JSON.stringify(reply)}`);
  }
}
await app.close(0);
const dispatched = Object.values(counts).reduce((sum, each) => sum + each, 0) + Object.values(answered).reduce((sum, each) => sum + each, 0);
process.stdout.write(`${JSON.stringify({ dispatched, relayed, counts, answered, requests: names.length, defects: defects.slice(0, 20), unsent: unsent.slice(0, 5), log: readFileSync(join(home, 'history.sqlite')).length > 0 })}\n`);
process.exit(0);
