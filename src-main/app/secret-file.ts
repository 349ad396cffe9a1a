/** A text nobody else may read: encrypted by the operating system where it can be, else in memory until the app closes. */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { writeWhole } from '../base/atomic.ts';

/** What Electron's safeStorage gives. */
export interface SecretBox {
  encrypt(text: string): Uint8Array;
  decrypt(bytes: Uint8Array): string;
}

export class SecretFile {
  private readonly file: string;
  private readonly box: SecretBox | null;
  private session: string | undefined;

  /** @param box null where the system has no safe place */
  constructor(file: string, box: SecretBox | null) {
    this.file = file;
    this.box = box;
  }

  get keeps(): boolean {
    return this.box !== null;
  }

  /** A file that this user or this machine cannot decrypt counts as none. */
  get(): string | undefined {
    if (!this.box) return this.session;
    if (!existsSync(this.file)) return undefined;
    try {
      return this.box.decrypt(readFileSync(this.file));
    } catch {
      return undefined;
    }
  }

  /** An empty text forgets it. */
  set(text: string): void {
    this.session = undefined;
    if (text === '') rmSync(this.file, { force: true });
    else if (this.box) writeWhole(this.file, this.box.encrypt(text), 0o600);
    else this.session = text;
  }
}
