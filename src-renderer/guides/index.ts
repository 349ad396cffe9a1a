/** The guides: documents of one screen, a file a language. Words between backticks are names to type. */
import type guides from './en.json';

export const GUIDE_NAMES = ['what', 'rewards', 'gamed', 'model', 'elsewhere'] as const satisfies (keyof typeof guides)[];
export type GuideName = (typeof GUIDE_NAMES)[number];
/** One of: sentence, numbered steps, points, a table, code; below a heading. */
export interface GuideBlock { heading?: string; text?: string; steps?: string[]; points?: string[]; head?: string[]; rows?: string[][]; code?: string }
export interface Guide { lead: string; figure?: string; blocks: GuideBlock[]; source?: string }
export type Guides = Record<GuideName, Guide>;

const files = import.meta.glob<Guides>('./*.json', { import: 'default' });

/** The guides in a language, in English where there are none. */
export const loadGuides = (language: string): Promise<Guides> => (files[`./${language}.json`] ?? files['./en.json']!)();

/** A text as pieces, those at odd places between backticks. */
export const pieces = (text: string): string[] => text.split('`');

/** Not for translation: what is typed into other programs. */
export const CODE: Record<string, string> = {
  diffusers: `pipe = DiffusionPipeline.from_pretrained("the base model")
pipe.load_lora_weights("the folder", weight_name="NAME-diffusers.safetensors")
pipe.fuse_lora(lora_scale=1.0)   # or pass cross_attention_kwargs={"scale": 0.8}`,
};
