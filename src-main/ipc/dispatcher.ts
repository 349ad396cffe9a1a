/** One way in for both transports: an unknown name or a wrong input is an error reply, and nothing else is ever thrown. */
import { AppError, errorLine } from '../base/errors.ts';
import { REQUESTS, type ErrorPayload, type Handlers, type Reply, type RequestName } from '../contract/api.ts';
import { describeIssues } from '../contract/run.ts';

/** @param server id of another machine that is asked instead, see app/server-links.ts */
export type Dispatch = (name: unknown, input: unknown, server?: unknown) => Promise<Reply<unknown>>;
type Relay = (server: unknown, name: unknown, input: unknown) => Promise<Reply<unknown>>;

/** @param onDefect told about errors that are nobody's fault but ours @param relay asks another machine */
export function createDispatcher(handlers: Handlers, onDefect: (name: string, error: unknown) => void = () => {}, relay?: Relay): Dispatch {
  return async (name, input, server) => {
    if (server !== undefined) {
      if (!relay) return failure({ code: 'not-found', message: 'No other machine is asked from here.' });
      return relay(server, name, input).catch((error: unknown) => {
        onDefect(`relay of ${String(name).slice(0, 80)}`, error);
        return failure(toPayload(error));
      });
    }
    if (typeof name !== 'string') return failure({ code: 'not-found', message: `A request is named by a text, not by ${typeof name}.` });
    if (!isRequestName(name)) return failure({ code: 'not-found', message: `There is no request "${name.slice(0, 80)}".` });
    const parsed = REQUESTS[name].input.safeParse(input ?? {});
    if (!parsed.success) return failure({ code: 'config', message: describeIssues(parsed.error) });
    try {
      const handler = handlers[name] as (input: unknown) => Promise<unknown>;
      return { ok: true, value: await handler(parsed.data) };
    } catch (error) {
      if (!(error instanceof AppError)) onDefect(name, error);
      return failure(toPayload(error));
    }
  };
}

export function isRequestName(name: string): name is RequestName {
  return Object.hasOwn(REQUESTS, name);
}

/** What a page is told about an error. */
export function toPayload(error: unknown): ErrorPayload {
  if (error instanceof AppError) return { code: error.code, message: error.message, ...(error.hint === undefined ? {} : { hint: error.hint }) };
  const code = (error as { code?: unknown } | null)?.code;
  if (code === 'ENOSPC' || code === 'SQLITE_FULL') return { code: 'disk', message: 'The disk is full.', hint: 'Free some space and try again.' };
  if (code === 'SQLITE_CORRUPT' || code === 'SQLITE_NOTADB') return { code: 'history', message: 'The history is damaged.', hint: 'Close DRTune Studio and start it again: the last good backup is then put in its place.' };
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') return { code: 'disk', message: errorLine(error), hint: 'Check that the folder can be written.' };
  return { code: 'internal', message: errorLine(error) };
}

function failure(error: ErrorPayload): Reply<never> {
  return { ok: false, error };
}
