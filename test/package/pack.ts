// Packs the tarball once for all tests of it, with the binaries for this machine. One that is there
// already, such as scripts/release makes, is tested as it is: ASYNCNBD_TARBALL names it.

import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { TestProject } from "vitest/node";
import { runOk } from "../support/command.js";

declare module "vitest" {
  interface ProvidedContext {
    readonly tarball: string;
  }
}

const root = fileURLToPath(new URL("../../", import.meta.url));
/** What has changed since the last build is compiled. */
const DEADLINE_MS = 300_000;

export default async function pack({ provide }: TestProject): Promise<() => void> {
  const ready = process.env.ASYNCNBD_TARBALL;
  if (ready) {
    if (!statSync(ready).isFile()) throw new Error(`ASYNCNBD_TARBALL=${ready} is no file`);
    provide("tarball", resolve(ready));
    return () => {};
  }
  const directory = mkdtempSync(join(tmpdir(), "asyncnbd-tarball-"));
  await runOk([join(root, "scripts", "prebuild")], { deadlineMs: DEADLINE_MS });
  await runOk([join(root, "scripts", "pack"), directory]);
  provide("tarball", join(directory, readdirSync(directory)[0] as string));
  return () => rmSync(directory, { recursive: true, force: true });
}
