/** Downloads one file of known size and digest: resumes after an interruption, notices stalls, tries again. */
import { createReadStream } from 'node:fs';
import { mkdir, open, readFile, rm, writeFile, type FileHandle } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { sizeOf } from '../base/disk.ts';
import { AppError, errorLine } from '../base/errors.ts';
import { startHash, type Digest } from './digest.ts';
import { ask, RefusedError } from './http.ts';

export interface DownloadOptions {
  /** Asked anew for each attempt, as an index may hand out addresses that expire. */
  address(): Promise<string>;
  /** The finished file; until then its bytes are in `<file>.part`. */
  file: string;
  /** Bytes. */
  size: number;
  digest: Digest;
  /** Sent with each request; Authorization does not follow a redirect to another origin. */
  headers?: Readonly<Record<string, string>>;
  /** The environment variable that names a mirror, for hints. */
  mirror: string;
  signal?: AbortSignal;
  onProgress(phase: 'download' | 'verify', bytes: number): void;
  onNotice(line: string): void;
  /** Without a byte for so long the connection is given up. Default 30 s. */
  stallMs?: number;
  /** Attempts in a row that bring nothing. Default 6. */
  attemptsMax?: number;
  /** Wait before the second attempt; it doubles each time. Default 1 s. */
  backoffMs?: number;
}

/**
 * Downloads into `<file>.part` and returns its path once all bytes are there and verified. The caller deletes it.
 * @throws AppError('network') when attempts run out or the bytes are wrong (the part is then deleted), AppError('disk')
 */
export async function download(options: DownloadOptions): Promise<string> {
  const part = `${options.file}.part`;
  await mkdir(dirname(part), { recursive: true });
  if (options.size === 0) await writeFile(part, '');
  const attemptsMax = options.attemptsMax ?? 6;
  for (let failures = 0; ; ) {
    const before = await sizeOf(part);
    if (before === options.size) break;
    if (before > options.size) await rm(part, { force: true });
    try {
      await fetchRest(options, part);
    } catch (error) {
      if (options.signal?.aborted) throw new AppError('cancelled', 'The download was stopped.', { hint: 'Start it again to go on where it stopped.', cause: error });
      if (error instanceof RefusedError || (error instanceof AppError && error.code === 'disk')) throw error;
      failures = (await sizeOf(part)) > before ? 1 : failures + 1;
      if (failures >= attemptsMax) throw error;
      const waitMs = (options.backoffMs ?? 1000) * 2 ** (failures - 1);
      options.onNotice(`${errorLine(error)} Trying again in ${Math.ceil(waitMs / 1000)} s.`);
      await pause(waitMs, options.signal);
    }
  }
  await verify(options, part);
  return part;
}

/** One attempt: asks for what is missing and appends it. */
async function fetchRest(options: DownloadOptions, part: string): Promise<void> {
  const tagFile = `${part}.etag`;
  let offset = await sizeOf(part);
  const tag = offset > 0 ? await readFile(tagFile, 'utf8').catch(() => '') : '';
  const stall = new Stall(options.stallMs ?? 30_000);
  const signal = options.signal ? AbortSignal.any([options.signal, stall.signal]) : stall.signal;
  try {
    const headers: Record<string, string> = { ...options.headers, 'accept-encoding': 'identity' };
    if (offset > 0) headers['range'] = `bytes=${offset}-`;
    if (tag) headers['if-range'] = tag;
    const response = await ask(await options.address(), { headers, signal, mirror: options.mirror });
    const start = startOf(response.status, response.headers.get('content-range'));
    if (start !== offset) {
      // The server sends from elsewhere: the file changed, or it knows no ranges. Only the whole file is of use then.
      if (start !== 0) throw new AppError('network', `The server sent bytes from ${start} instead of ${offset}.`);
      offset = 0;
    }
    const isEncoded = (response.headers.get('content-encoding') ?? 'identity') !== 'identity';
    const length = isEncoded ? NaN : Number(response.headers.get('content-length') ?? NaN);
    if (length >= 0 && start + length !== options.size) {
      await response.body?.cancel();
      throw new AppError('network', `The server offers ${start + length} bytes of ${basename(options.file)}, expected ${options.size}.`);
    }
    const etag = response.headers.get('etag');
    if (etag && !etag.startsWith('W/')) await writeFile(tagFile, etag);
    else await rm(tagFile, { force: true });
    await append(options, part, offset, response.body as AsyncIterable<Uint8Array> | null, stall);
  } catch (error) {
    if (error instanceof RefusedError && error.status === 416 && offset > 0) {
      // The server's file ends before what is here: the two are not of one file.
      await rm(part, { force: true });
      throw new AppError('network', `The server has fewer than ${offset} bytes of ${basename(options.file)}, expected ${options.size}.`, { cause: error });
    }
    if (stall.signal.aborted) throw new AppError('network', `No data for ${(options.stallMs ?? 30_000) / 1000} s.`, { cause: error });
    throw error;
  } finally {
    stall.end();
  }
}

async function append(options: DownloadOptions, part: string, offset: number, body: AsyncIterable<Uint8Array> | null, stall: Stall): Promise<void> {
  const file = await openAt(part, offset);
  let bytes = offset;
  try {
    for await (const chunk of body ?? []) {
      stall.touch();
      if (bytes + chunk.length > options.size) {
        throw new AppError('network', `The server sends more than the ${options.size} bytes expected.`);
      }
      await file.write(chunk, 0, chunk.length, bytes);
      bytes += chunk.length;
      options.onProgress('download', bytes);
    }
    await file.sync();
  } catch (error) {
    throw asDiskError(error, part) ?? (error instanceof AppError ? error : new AppError('network', `The connection broke: ${errorLine(error)}.`, { cause: error }));
  } finally {
    await file.close();
  }
  if (bytes < options.size) throw new AppError('network', `The connection ended after ${bytes} of ${options.size} bytes.`);
}

/** Compares the file's digest. */
async function verify(options: DownloadOptions, part: string): Promise<void> {
  const { digest } = options;
  const hash = startHash(digest, options.size);
  let bytes = 0;
  for await (const chunk of createReadStream(part, { highWaterMark: 1 << 20 })) {
    if (options.signal?.aborted) throw new AppError('cancelled', 'The download was stopped.', { hint: 'Start it again to go on where it stopped.' });
    hash.update(chunk as Buffer);
    bytes += (chunk as Buffer).length;
    options.onProgress('verify', bytes);
  }
  await rm(`${part}.etag`, { force: true });
  const found = hash.digest('hex');
  if (found === digest.hex) return;
  await rm(part, { force: true });
  throw new AppError('network', `The download of ${basename(options.file)} is damaged: ${digest.kind === 'sha256' ? 'sha256' : 'git blob'} ${found}, expected ${digest.hex}. It was deleted.`, {
    hint: 'Try again; if it happens twice, the mirror holds another file.',
  });
}

/** Where a response's bytes belong in the file. */
function startOf(status: number, contentRange: string | null): number {
  if (status === 200) return 0;
  const start = /^bytes (\d+)-/.exec(contentRange ?? '')?.[1];
  if (start === undefined) throw new AppError('network', `The server sent a part of the file without saying which (Content-Range ${contentRange ?? 'missing'}).`);
  return Number(start);
}

async function openAt(part: string, offset: number): Promise<FileHandle> {
  try {
    const file = await open(part, offset === 0 ? 'w' : 'r+');
    await file.truncate(offset);
    return file;
  } catch (error) {
    throw asDiskError(error, part) ?? error;
  }
}

function asDiskError(error: unknown, path: string): AppError | undefined {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  if (code === 'ENOSPC') return new AppError('disk', `The disk is full while writing ${path}.`, { hint: 'Free some space and start again; what is there is kept.', cause: error });
  if (code === 'EACCES' || code === 'EROFS' || code === 'EPERM') return new AppError('disk', `Cannot write ${path}: ${code}.`, { hint: 'Set DRTUNE_HOME to a folder you may write.', cause: error });
  return undefined;
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await new Promise<void>((done) => {
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', () => (clearTimeout(timer), done()), { once: true });
  });
}

/** Aborts its signal when nothing touched it for a while. */
class Stall {
  private readonly controller = new AbortController();
  private readonly timer: NodeJS.Timeout;

  constructor(ms: number) {
    this.timer = setTimeout(() => this.controller.abort(), ms);
  }
  get signal(): AbortSignal {
    return this.controller.signal;
  }
  touch(): void {
    this.timer.refresh();
  }
  end(): void {
    clearTimeout(this.timer);
  }
}
