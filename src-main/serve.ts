/**
 * The app without a window: `npm start -- --serve [--port N] [--host ADDRESS] [--files FOLDER]... [--json]`. Prints the address with its token as
 * the first line and runs until SIGINT or SIGTERM.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { forkHelper } from './app/helper.ts';
import { openApp } from './app/open-app.ts';
import { forkTrainer } from './app/trainer-port.ts';
import { projectRoot } from './app/version.ts';
import { AppError, errorLine } from './base/errors.ts';
import { drtuneHome } from './base/paths.ts';
import { serveApp } from './ipc/http-server.ts';
import { serverWire } from './ipc/server-wire.ts';

const DEFAULT_PORT = 5180;
/** A stopped trainer may take this long to write its checkpoint. */
const GRACE_MS = 30_000;
/** A second signal later than this means "at once". */
const AGAIN_MS = 1000;

interface Options { host: string; port: number; otherPorts: number; json: boolean; files: string[] | undefined }

function readOptions(args: string[]): Options {
  let values;
  try {
    ({ values } = parseArgs({ args, options: { host: { type: 'string' }, port: { type: 'string' }, files: { type: 'string', multiple: true }, json: { type: 'boolean' }, serve: { type: 'boolean' } } }));
  } catch (error) {
    throw new AppError('config', `${errorLine(error).split('. ')[0]}.`, { hint: 'Known: --port N, --host ADDRESS, --files FOLDER, --json.' });
  }
  const port = values.port === undefined ? DEFAULT_PORT : Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65_535 || values.port === '') throw new AppError('config', `--port must be 0 to 65535, not "${values.port}".`);
  for (const folder of values.files ?? []) if (!existsSync(folder)) throw new AppError('config', `--files: there is no folder ${folder}.`);
  return { files: values.files, host: values.host ?? '127.0.0.1', port, otherPorts: values.port === undefined ? 20 : 0, json: values.json ?? false };
}

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2));
  const root = projectRoot();
  const app = openApp({
    home: drtuneHome(),
    launchTrainer: forkTrainer(process.env['DRTUNE_TRAINER'] ?? join(import.meta.dirname, 'worker/trainer-process.ts')),
    launchHelper: forkHelper(process.env['DRTUNE_HELPER'] ?? join(import.meta.dirname, 'app/helper-process.ts')),
    wire: serverWire(),
    folders: options.files,
  });
  let served;
  try {
    served = await serveApp({
      app, ...options, pages: join(root, 'out/renderer'), resources: join(root, 'resources'),
      onDefect: (name, error) => {
        const line = `${name}: ${error instanceof Error ? error.stack : String(error)}`;
        process.stderr.write(`${line}\n`);
        app.log.write('error', 'request', line);
      },
    });
  } catch (error) {
    await app.close(0);
    throw error;
  }
  app.log.write('info', 'main', `served on ${options.host}, port ${served.port}, Node ${process.version}, ${process.platform} ${process.arch}`);
  process.on('uncaughtExceptionMonitor', (error) => app.log.write('error', 'main', error.stack ?? error.message));
  process.stdout.write(`DRTune Studio: ${served.url}\n`);
  if (options.json) process.stdout.write(`${JSON.stringify({ type: 'serving', url: served.url, port: served.port, token: served.token, home: app.home, pid: process.pid })}\n`);
  if (!['127.0.0.1', 'localhost', '::1'].includes(options.host)) {
    process.stderr.write(`Warning: served on ${options.host} without encryption. Whoever reads the address on the way has the app; an SSH tunnel to 127.0.0.1 is safer.\n`);
  }
  let stoppingSince = 0;
  const stop = async (): Promise<void> => {
    if (stoppingSince > 0) {
      // One Ctrl-C may come twice: from the terminal and passed on by the process above.
      if (performance.now() - stoppingSince < AGAIN_MS) return;
      process.stderr.write('Ending at once.\n');
      process.exit(1);
    }
    stoppingSince = performance.now();
    if (app.service.queue().running) process.stderr.write('Stopping the running training with a checkpoint; once more to end at once.\n');
    await served.close();
    await app.close(GRACE_MS);
    process.exit(0);
  };
  process.on('SIGINT', () => void stop());
  process.on('SIGTERM', () => void stop());
  process.on('SIGHUP', () => void stop());
}

main().catch((error: unknown) => {
  process.stderr.write(`${errorLine(error)}\n`);
  process.exit(1);
});
