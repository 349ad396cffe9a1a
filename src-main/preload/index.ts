/** The bridge into the sandboxed page: requests and events of the contract by name, nothing else. */
import { contextBridge, ipcRenderer, webUtils } from 'electron';
import { EVENTS, REQUESTS, type Reply, type Transport } from '../contract/api.ts';

const requests = new Set(Object.keys(REQUESTS));
const events = new Set(Object.keys(EVENTS));
const listeners = new Set<Parameters<Transport['on']>[0]>();

ipcRenderer.on('drtune:event', (_, name: string, payload: unknown, server?: string) => {
  if (events.has(name)) for (const listener of listeners) listener(name, payload, server);
});

const transport: Transport = {
  kind: 'electron',
  request: async (name, input, server) => {
    if (!requests.has(name)) return { ok: false, error: { code: 'not-found', message: `There is no request "${name}".` } };
    return (await ipcRenderer.invoke('drtune:request', name, input, server)) as Reply<unknown>;
  },
  on: (listener) => {
    listeners.add(listener);
    return () => void listeners.delete(listener);
  },
  // Only a file that the user really dropped or chose has a path; what a page makes up has none.
  pathOf: (file) => {
    const path = webUtils.getPathForFile(file as Parameters<typeof webUtils.getPathForFile>[0]);
    if (path !== '') ipcRenderer.send('drtune:dropped', path);
    return path;
  },
  fileUrl: (path) => `app://studio/${path.split('/').map(encodeURIComponent).join('/')}`,
};

contextBridge.exposeInMainWorld('drtune', transport);
