/** What app://studio/ answers: the built pages, pictures of runs by id, and the few resources pages may show. No Electron here. */
import { readFile, stat } from 'node:fs/promises';
import { AppError } from '../base/errors.ts';
import { fileInside } from '../app/run-folders.ts';
import type { RemoteFile } from '../app/server-links.ts';
import { fileHeaders, isShownResource, mimeOf, securityHeaders } from './content-policy.ts';

export interface AppFiles {
  pages: string;
  resources: string;
  imageFile(id: number): string;
  /** A file of another machine on the list. */
  remote(server: string, path: string): Promise<RemoteFile>;
}

export const APP_ORIGIN = 'app://studio';

/** Answers one request for a file; never throws. */
export async function answerAppUrl(address: string, method: string, files: AppFiles): Promise<Response> {
  try {
    const url = new URL(address);
    if (method !== 'GET' && method !== 'HEAD') return refuse(405);
    if (url.protocol !== 'app:' || url.hostname !== 'studio') return refuse(404);
    const path = decodeURIComponent(url.pathname);
    const other = /^\/server\/([0-9a-f]{12})\/(.+)$/.exec(path);
    if (other) {
      const { body, ...file } = await files.remote(other[1]!, other[2]!);
      return new Response(body, { headers: { ...securityHeaders(), ...fileHeaders(file) } });
    }
    const file = locate(path, files);
    const { size } = await stat(file);
    const headers = { ...securityHeaders(), 'content-type': mimeOf(file), 'content-length': String(size), 'cache-control': 'no-cache' };
    return new Response(method === 'HEAD' ? null : new Uint8Array(await readFile(file)), { headers });
  } catch (error) {
    if (error instanceof AppError) return refuse(error.code === 'denied' ? 400 : 404);
    return refuse(error instanceof URIError || error instanceof TypeError ? 400 : 404);
  }
}

function locate(path: string, files: AppFiles): string {
  const image = /^\/image\/(\d{1,15})$/.exec(path);
  if (image) return files.imageFile(Number(image[1]));
  const resource = /^\/resource\/(.+)$/.exec(path)?.[1];
  if (resource !== undefined) {
    if (!isShownResource(resource)) throw new AppError('not-found', 'not shown');
    return fileInside(files.resources, resource);
  }
  return fileInside(files.pages, /\.\w+$/.test(path) ? path.slice(1) : 'index.html');
}

function refuse(status: number): Response {
  return new Response(null, { status, headers: securityHeaders() });
}
