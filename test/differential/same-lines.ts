// Runs the same command line with nbdkit and with asyncnbd.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import { run } from "../support/command.js";
import { asyncnbd, clean, debianPlugin, nbdkit, serverEnvironment } from "../support/server.js";

export interface Result {
  readonly status: number;
  readonly stdout: string;
}

interface Results {
  readonly nbdkit: Result;
  readonly asyncnbd: Result;
}

/** Of this file's tests: each server has a folder of its own there, with the same files. */
export let directory: string;

const SCRIPT = `case "$1" in
  config) [ "$2" = key ] && exit 0; echo "EINVAL no $2" >&2; exit 1 ;;
  get_size) echo 512 ;;
  pread) exit 0 ;;
  *) exit 2 ;;
esac`;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "asyncnbd-test-"));
  for (const name of ["nbdkit", "asyncnbd"]) {
    const folder = join(directory, name);
    mkdirSync(join(folder, "dir"), { recursive: true });
    writeFileSync(join(folder, "disk.sh"), SCRIPT, { mode: 0o755 });
    writeFileSync(join(folder, "no-script"), SCRIPT);
    writeFileSync(join(folder, "disk.img"), "x".repeat(1234));
    writeFileSync(join(folder, "a=b.img"), "x".repeat(100));
  }
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

export async function both(args: readonly string[], environment: NodeJS.ProcessEnv = {}) {
  const runIn = async (name: string, command: readonly string[], env: NodeJS.ProcessEnv) => {
    const options = { cwd: join(directory, name), env: { ...env, ...environment } };
    const { status, stdout } = await run([...command, ...args], options);
    return { status, stdout };
  };
  const [theirs, ours] = await Promise.all([
    runIn("nbdkit", nbdkit, process.env),
    runIn("asyncnbd", asyncnbd, serverEnvironment()),
  ]);
  return { nbdkit: theirs, asyncnbd: ours } as Results;
}

/**
 * The same status and, of success, the same output: nbdkit prints its usage with some errors.
 * Returns the status.
 */
export async function expectSame(
  args: readonly string[],
  environment: NodeJS.ProcessEnv = {},
): Promise<number> {
  const { nbdkit: theirs, asyncnbd: ours } = await both(args, environment);
  expect([args, ours.status]).toEqual([args, theirs.status]);
  if (theirs.status === 0) expect(ours.stdout).toBe(theirs.stdout);
  return ours.status;
}

export const MEMORY = debianPlugin("memory");
export const NULL = debianPlugin("null");
const SIZE = clean('nbdinfo --size "$uri"');
export const SIZE_AND_MODE = clean('nbdinfo --size "$uri"; nbdinfo --is read-only "$uri"; echo $?');

/** With a command that prints the export's size. */
export const sized = (...words: string[]): string[] => ["-U", "-", ...words, "--run", SIZE];

/** The same for words of which none is an option. */
export const sizedLast = (...words: string[]): string[] => [
  "-U",
  "-",
  "--run",
  SIZE,
  "--",
  ...words,
];
