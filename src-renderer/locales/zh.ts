/** Chinese, simplified: every file of the folder. */
import type { Messages } from './messages.ts';

const files = import.meta.glob<Messages>('./zh/*.json', { eager: true, import: 'default' });

export default Object.fromEntries(Object.entries(files).map(([path, messages]) => [path.slice('./zh/'.length, -'.json'.length), messages]));
