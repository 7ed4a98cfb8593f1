// Servers that do not start.

import { expect } from "vitest";
import type { CommandOptions } from "./command.js";
import { runAsyncnbd } from "./server.js";

/** What a server says that refuses to start with a plugin and its parameters. */
export async function refusalOf(
  words: readonly string[],
  options?: CommandOptions,
): Promise<string> {
  const { status, stderr } = await runAsyncnbd(["-f", "-U", "-", ...words], options);
  expect(status, stderr).toBe(1);
  return stderr;
}
