// Reads the first bytes of a file, to find out its type.

import { closeSync, openSync, readSync } from "node:fs";

/** "" for what cannot be read; each byte is a character. */
export function firstBytes(path: string, count: number): string {
  try {
    const fd = openSync(path, "r");
    try {
      const bytes = Buffer.alloc(count);
      return bytes.toString("latin1", 0, readSync(fd, bytes));
    } finally {
      closeSync(fd);
    }
  } catch {
    return "";
  }
}
