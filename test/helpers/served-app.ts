/** Starts the served app as a process of its own, with the fake trainer unless another script is named, and talks to it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { WebSocket } from 'ws';
import type { Reply, RequestInput, RequestName, RequestOutput } from '../../src-main/contract/api.ts';

export interface ServedApp { process: ChildProcess; url: string; port: number; token: string; stdout: () => string; stderr: () => string; exit: Promise<number | null> }

/** @throws Error with what it printed when it ends before it serves */
export async function startServed(home: string, args: string[] = ['--port', '0'], env: Record<string, string> = {}, script = join(import.meta.dirname, 'serve-fake.ts')): Promise<ServedApp> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', script, '--json', ...args], {
    env: { ...process.env, DRTUNE_HOME: home, DRTUNE_FAKE_STEP_MS: '30', ...env }, stdio: ['ignore', 'pipe', 'pipe'], detached: true,
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  const exit = new Promise<number | null>((resolve) => child.on('close', (code) => resolve(code)));
  for (;;) {
    const line = out.split('\n').find((each) => each.startsWith('{'));
    if (line && out.endsWith('\n')) {
      const { url, port, token } = JSON.parse(line) as { url: string; port: number; token: string };
      return { process: child, url, port, token, stdout: () => out, stderr: () => err, exit };
    }
    const code = await Promise.race([exit, new Promise<'wait'>((resolve) => setTimeout(() => resolve('wait'), 20))]);
    if (code !== 'wait') throw Object.assign(new Error(err || out), { code });
  }
}

export interface Client {
  ask<N extends RequestName>(name: N, input: RequestInput<N>): Promise<RequestOutput<N>>;
  raw(message: unknown): Promise<Reply<unknown>>;
  events: { event: string; payload: unknown }[];
  close(): void;
}

/** Opens the WebSocket; rejects with the HTTP status when refused. */
export function connect(port: number, token: string, headers: Record<string, string> = {}): Promise<Client> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws?token=${token}`, { headers });
    const pending = new Map<number, (reply: Reply<unknown>) => void>();
    const events: Client['events'] = [];
    let last = 0;
    socket.on('unexpected-response', (_, response) => {
      reject(new Error(String(response.statusCode)));
      socket.terminate();
    });
    socket.on('error', reject);
    socket.on('message', (data) => {
      const message = JSON.parse(String(data)) as { id?: number; reply?: Reply<unknown>; event?: string; payload?: unknown };
      if (message.event !== undefined) events.push({ event: message.event, payload: message.payload });
      else pending.get(message.id!)?.(message.reply!);
    });
    const raw = (message: unknown): Promise<Reply<unknown>> => new Promise((done) => {
      const id = ++last;
      pending.set(id, done);
      socket.send(JSON.stringify({ id, ...(message as object) }));
    });
    socket.on('open', () => resolve({
      events, raw, close: () => socket.close(),
      ask: async (name, input) => {
        const reply = await raw({ name, input });
        if (!reply.ok) throw new Error(`${reply.error.code}: ${reply.error.message}`);
        return reply.value as never;
      },
    }));
  });
}
