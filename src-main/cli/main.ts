/** The command line: `node src-main/cli/main.ts COMMAND [OPTIONS]`. */
import { exitProcess } from '../engine/exit.ts';
import { runCommand } from './commands.ts';

await exitProcess(await runCommand(process.argv.slice(2), process));
