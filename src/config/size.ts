// nbdkit's grammar of sizes, both ways.

const SIZE = /^(\d+)([bkmgtpes]?)$/i;

/** Bytes: a number with one of b k m g t p e (powers of 1024) or s (512 bytes); NaN if it is none. */
export function parseSize(text: string): number {
  const match = SIZE.exec(text);
  const unit = (match?.[2] ?? "").toLowerCase();
  return Number(match?.[1]) * (unit === "s" ? 512 : 1024 ** Math.max(0, "bkmgtpe".indexOf(unit)));
}

/** The shortest way to write it: 4194304 is 4M. */
export function formatSize(bytes: number): string {
  let [number, unit] = [bytes, 0];
  while (number >= 1024 && number % 1024 === 0) [number, unit] = [number / 1024, unit + 1];
  return number + " KMGTPE".charAt(unit).trim();
}
