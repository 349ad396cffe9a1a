/**
 * Two factors of a size, the smaller first: `factor` and the rest where it divides it; otherwise those nearest to each other whose smaller one is
 * at most `factor` (-1: any). Source: peft tuners/lokr/layer.py factorization, after LyCORIS.
 */
export function factorization(size: number, factor: number): [number, number] {
  if (factor > 0 && size % factor === 0) return [factor, size / factor];
  let [m, n] = [1, size];
  for (let next = 2; next <= (factor === -1 ? size : factor) && next <= size / next; next++) if (size % next === 0) [m, n] = [next, size / next];
  return [m, n];
}
