// Runs the same shell text with nbdkit and with asyncnbd, each in a folder of its own with the
// same files, to compare what users see: the exit status, the output, the messages.

import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect } from "vitest";
import { run } from "../support/command.js";
import { asyncnbd, nbdkit, serverEnvironment } from "../support/server.js";

/** By path: the text or bytes of a file, or what is to be copied there. */
export type Files = Readonly<Record<string, string | Uint8Array | { readonly copy: string }>>;

function makeFiles(directory: string, files: Files): void {
  for (const [name, content] of Object.entries(files)) {
    const path = join(directory, name);
    mkdirSync(dirname(path), { recursive: true });
    if (typeof content === "string" || content instanceof Uint8Array)
      writeFileSync(path, content, { mode: 0o755 });
    else cpSync(content.copy, path, { recursive: true });
  }
}

/**
 * asyncnbd's about requests and clients, nbdkit's and the shell's about a process that crashed; and
 * a plugin's close, which nbdkit forgets where a signal comes just before.
 */
const OURS_OR_THEIRS =
  /; client was sent E[A-Z]+$|warning: client .*|killed by signal|^environment: line|^close/;

/**
 * What both must say alike: without the program's name and the folders' names. Several processes write it, so the order says nothing.
 */
export const messages = (stderr: string, directory = ""): string[] =>
  stderr
    .split("\n")
    .filter((line) => line !== "" && !OURS_OR_THEIRS.test(line))
    .map((line) => line.replace(/^(nbdkit|asyncnbd): /, ""))
    .map((line) => line.replace(/^([a-z0-9]+)(\.|\[)\d+\]?: /, "$1: ")) // thread or client
    .map((line) => (directory === "" ? line : line.replaceAll(directory, "")))
    .map((line) => line.replace(/\/tmp\/(nbdkit|asyncnbd)[^/ ?]*/g, "/tmp/X"))
    .sort();

export interface Seen {
  readonly status: number;
  readonly stdout: string;
  readonly messages: readonly string[];
}

const QUOTED = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

/**
 * The text has the function `server`, and for other programs the variable SERVER with its words
 * between bars; it starts in a folder with these files.
 */
async function see(command: readonly string[], text: string, files: Files): Promise<Seen> {
  // Its own: the end of the test is not known to tests that run at the same time as others.
  const directory = mkdtempSync(join(tmpdir(), "asyncnbd-test-"));
  makeFiles(directory, files);
  const shell = `server() { ${command.map(QUOTED).join(" ")} "$@"; }\n${text}`;
  const env = {
    ...(command === nbdkit ? process.env : serverEnvironment()),
    LC_ALL: "C",
    SERVER: command.join("|"),
  };
  // Where its input is a socket, bash reads the user's ~/.bashrc, which may have words of its own.
  const { status, stdout, stderr } = await run(["bash", "--norc", "-c", shell], {
    cwd: directory,
    env,
  });
  rmSync(directory, { recursive: true, force: true });
  return {
    status,
    stdout: stdout.replaceAll(directory, ""),
    messages: messages(stderr, directory),
  };
}

/** Expects the same of both, and returns it. */
export async function expectSame(text: string, files: Files = {}): Promise<Seen> {
  const [theirs, ours] = await Promise.all([see(nbdkit, text, files), see(asyncnbd, text, files)]);
  expect(ours).toEqual(theirs);
  return ours;
}

/** As expectSame, for words that each server says in its own way, or that others say on stderr. */
export async function expectSameOutput(text: string, files: Files = {}): Promise<Seen> {
  const [theirs, ours] = await Promise.all([see(nbdkit, text, files), see(asyncnbd, text, files)]);
  expect({ ...ours, messages: [] }).toEqual({ ...theirs, messages: [] });
  return ours;
}

/** A server whose `--run` command is `look`: it finds the server's URI in $uri. */
export const looking = (words: string, look: string): string =>
  `server -U - ${words} --run '${look.replaceAll("'", `'\\''`)}'`;
