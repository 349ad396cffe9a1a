/** Other machines whose app the pages can show: the list the user keeps, and how the connection to each is. */
import { z } from 'zod';

export const serverId = z.string().regex(/^[0-9a-f]{12}$/);

export const serverSchema = z.object({
  id: serverId, name: z.string(),
  /** http://HOST:PORT, without the token. */
  address: z.string(),
  /** kept: encrypted in the data folder; session: in memory until the app closes. The token itself never comes back. */
  token: z.enum(['none', 'session', 'kept']),
  /** idle: nobody has chosen it yet; lost: tried again at `retryAt`; refused: not tried again before something is changed. */
  state: z.enum(['idle', 'connecting', 'connected', 'lost', 'refused']),
  /** Why it is lost or refused, one line with what to do. */
  reason: z.string().nullable(),
  /** Milliseconds since 1970. */
  retryAt: z.number().nullable(),
  /** Both versions where that machine runs another one than this. */
  mismatch: z.object({ here: z.string(), there: z.string() }).nullable(),
});
export type ServerInfo = z.infer<typeof serverSchema>;

const name = z.string().trim().min(1).max(60);
/** An address, or the whole line that the other app printed, token and all. */
const address = z.string().trim().min(1).max(500);
const token = z.string().trim().max(512);

export const SERVER_REQUESTS = {
  'servers.list': { input: z.object({}).strict(), output: z.array(serverSchema) },
  'servers.add': { input: z.strictObject({ name, address, token: token.default('') }), output: serverSchema },
  /** What is left out stays; an address with a token in it changes both. */
  'servers.update': { input: z.strictObject({ id: serverId, name: name.optional(), address: address.optional(), token: token.optional() }), output: serverSchema },
  'servers.remove': { input: z.strictObject({ id: serverId }), output: z.object({}).strict() },
  /** Connects, or tries at once what waits for its next attempt; how it goes comes as events. */
  'servers.connect': { input: z.strictObject({ id: serverId }), output: z.object({}).strict() },
} as const;
