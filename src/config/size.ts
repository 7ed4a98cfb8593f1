// nbdkit's grammar of sizes.

const SIZE = /^(\d+)([bkmgtpes]?)$/i;

/** Bytes: a number with one of b k m g t p e (powers of 1024) or s (512 bytes); NaN if it is none. */
export function parseSize(text: string): number {
  const match = SIZE.exec(text);
  const unit = (match?.[2] ?? "").toLowerCase();
  return Number(match?.[1]) * (unit === "s" ? 512 : 1024 ** Math.max(0, "bkmgtpe".indexOf(unit)));
}
