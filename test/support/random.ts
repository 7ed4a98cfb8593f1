// Random numbers that are the same in each run with the same seed.

/** From 0 to n - 1. */
export type Random = (n: number) => number;

export function randomOf(seed: number): Random {
  let state = seed * 7919;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % n;
  };
}
