/** Japanese: every file of the folder. */
import type { Messages } from './messages.ts';

const files = import.meta.glob<Messages>('./ja/*.json', { eager: true, import: 'default' });

export default Object.fromEntries(Object.entries(files).map(([path, messages]) => [path.slice('./ja/'.length, -'.json'.length), messages]));
