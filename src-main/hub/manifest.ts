/** The manifest of engine packs, resources/engine-packs.json. */
import { z } from 'zod';
import manifest from '../../resources/engine-packs.json' with { type: 'json' };

const packSchema = z.object({
  platform: z.string(),
  arch: z.string(),
  /** Name of the package registry; its address is composed from it, see package-index.ts. */
  registry: z.string(),
  package: z.string(),
  version: z.string(),
  /** File name in the registry: a wheel, which is a zip. */
  file: z.string(),
  /** Bytes. */
  size: z.number().int().positive(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** What is taken out of the file, sizes in bytes. */
  entries: z.array(z.object({ path: z.string(), size: z.number().int().positive() })).min(1),
});

export type Pack = z.infer<typeof packSchema>;

/** The pack for a platform, or undefined where TensorFlow publishes no usable libraries (Windows, Intel Macs). */
export function packFor(platform: string = process.platform, arch: string = process.arch): Pack | undefined {
  const { packs } = z.object({ packs: z.array(packSchema) }).parse(manifest);
  return packs.find((pack) => pack.platform === platform && pack.arch === arch);
}
