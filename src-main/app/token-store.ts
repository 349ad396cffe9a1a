/** The hub's token. Pages only learn whether there is one. */
import { join } from 'node:path';
import type { TokenState } from '../contract/api.ts';
import { checkToken, environmentToken, hubEndpoint } from '../hub/hub-address.ts';
import { SecretFile, type SecretBox } from './secret-file.ts';

export class TokenStore {
  private readonly secret: SecretFile;

  /** @param box null where the system has no safe place */
  constructor(home: string, box: SecretBox | null) {
    this.secret = new SecretFile(join(home, 'hub-token'), box);
  }

  /** The user's own token, else the environment's. */
  get(): string | undefined {
    return this.own() ?? environmentToken();
  }

  state(): TokenState {
    const own = this.own();
    const source = own === undefined ? (environmentToken() === undefined ? 'none' : 'environment') : this.secret.keeps ? 'kept' : 'session';
    return { source, keeps: this.secret.keeps, endpoint: hubEndpoint() };
  }

  /** An empty text forgets it. @throws AppError('config') for what is no token */
  set(text: string): void {
    const token = text.trim();
    if (token !== '') checkToken(token);
    this.secret.set(token);
  }

  /** What is no token counts as none. */
  private own(): string | undefined {
    const token = this.secret.get();
    try {
      return token === undefined ? undefined : checkToken(token);
    } catch {
      return undefined;
    }
  }
}
