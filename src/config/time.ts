// nbdkit's grammar of times, both ways.

const UNIT_MS: Readonly<Record<string, number>> = { "": 1000, s: 1000, ms: 1, us: 1e-3, ns: 1e-6 };

/** Milliseconds: a number with s, ms, us or ns, seconds by default; NaN if it is none of these. */
export function parseTimeMs(text: string): number {
  const match = /^(\d+(?:\.\d*)?|\.\d+)(s|ms|us|ns|)$/.exec(text);
  return match === null ? Number.NaN : Number(match[1]) * (UNIT_MS[match[2] as string] as number);
}

/** With the largest unit in which it is a whole number: 500 is 500ms, 30000 is 30s. */
export function formatTimeMs(timeMs: number): string {
  for (const unit of ["s", "ms", "us"]) {
    const number = timeMs / (UNIT_MS[unit] as number);
    if (Number.isInteger(number)) return `${number}${unit}`;
  }
  return `${timeMs / (UNIT_MS.ns as number)}ns`;
}
