/** An app for tests that is killed while it trains: a run service of its own process. Arguments: data folder, trainer's entry, config as JSON. */
import { RunRecorder } from '../../src-main/app/run-recorder.ts';
import { RunService } from '../../src-main/app/run-service.ts';
import { forkTrainer } from '../../src-main/app/trainer-port.ts';
import { runConfigSchema } from '../../src-main/contract/run.ts';
import { openHistory } from '../../src-main/history/database.ts';

const [home, entry, config] = process.argv.slice(2) as [string, string, string];
const recorder = new RunRecorder(openHistory(home));
const service = new RunService({
  recorder, launch: forkTrainer(entry), ...(process.env['DRTUNE_QUIET_MS'] && { quietMs: { first: Number(process.env['DRTUNE_QUIET_MS']), least: Number(process.env['DRTUNE_QUIET_MS']) } }),
  publish: (name, payload) => {
    if (name !== 'run.event') return;
    const { event } = payload as { event: { type: string; step?: number } };
    process.stdout.write(`${event.type} ${event.step ?? ''}\n`);
  },
});
process.stdout.write(`run ${service.start('killed app', runConfigSchema.parse(JSON.parse(config))).id}\n`);
setInterval(() => {}, 1000);
