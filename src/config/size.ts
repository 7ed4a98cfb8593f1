// nbdkit's grammar of sizes, both ways.

const SIZE = /^(\d+)([bkmgtpes]?)$/i;

/** Bytes: a number with one of b k m g t p e (powers of 1024) or s (512 bytes); undefined if it is none. */
export function parseExactSize(text: string): bigint | undefined {
  const [, number, letter = ""] = SIZE.exec(text) ?? [];
  if (number === undefined) return undefined;
  const unit = letter.toLowerCase();
  const power = BigInt(Math.max(0, "bkmgtpe".indexOf(unit)));
  return BigInt(number) * (unit === "s" ? 512n : 1024n ** power);
}

/** The same as a number, which is not exact from 2^53 on; NaN if it is none. */
export const parseSize = (text: string): number => Number(parseExactSize(text) ?? Number.NaN);

/** The shortest way to write it: 4194304 is 4M. */
export function formatSize(bytes: number): string {
  let [number, unit] = [bytes, 0];
  while (number >= 1024 && number % 1024 === 0) [number, unit] = [number / 1024, unit + 1];
  return number + " KMGTPE".charAt(unit).trim();
}
