/** German: every file of the folder. */
import type { Messages } from './messages.ts';

const files = import.meta.glob<Messages>('./de/*.json', { eager: true, import: 'default' });

export default Object.fromEntries(Object.entries(files).map(([path, messages]) => [path.slice('./de/'.length, -'.json'.length), messages]));
