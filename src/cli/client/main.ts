// The asyncnbd-client command: from arguments to an exit status.

import { connect } from "../../client/index.js";
import type { GivenOptions } from "../../config/given-options.js";
import { didYouMean } from "../../config/nearest.js";
import { parseSize } from "../../config/size.js";
import { AsyncnbdError, messageOf, UsageError } from "../../errors.js";
import { version } from "../../version.js";
import { parseLine } from "../getopt.js";
import { type CopyOptions, copy } from "./copy.js";
import { info, list } from "./info.js";
import { map } from "./map.js";
import {
  CLIENT_OPTIONS,
  COMMAND_SPECS,
  type CommandName,
  clientHelpText,
  isCommand,
} from "./options.js";
import { printable } from "./printable.js";
import { OutputError, print } from "./standard-output.js";

const DEFAULT_CONNECTIONS = 4;
const DEFAULT_REQUESTS = 64;
const DEFAULT_REQUEST_BYTES = 256 * 1024;
const MAX_REQUEST_BYTES = 32 * 2 ** 20;

/** At a time, of read. */
const READ_BYTES = 2 ** 20;

/** A copy is under way. */
let isCopying = false;

function sizeOf(text: string, what: string): number {
  const bytes = parseSize(text);
  if (!Number.isSafeInteger(bytes)) throw new UsageError(`${what}: "${text}" is not a size`);
  return bytes;
}

function countOf(options: GivenOptions, name: string, otherwise: number): number {
  const text = options.last(name);
  if (text === undefined) return otherwise;
  if (!/^[1-9]\d{0,4}$/.test(text))
    throw new UsageError(`--${name}: "${text}" is not a number from 1 to 99999`);
  return Number(text);
}

function copyOptions(options: GivenOptions): CopyOptions {
  const size = options.last("request-size");
  const requestBytes = size === undefined ? DEFAULT_REQUEST_BYTES : sizeOf(size, "--request-size");
  if (requestBytes < 512 || requestBytes > MAX_REQUEST_BYTES || requestBytes % 512 !== 0)
    throw new UsageError(`--request-size: use a multiple of 512 up to 32M, not ${size}`);
  const shows = options.has("progress") || process.stderr.isTTY;
  return {
    connections: countOf(options, "connections", DEFAULT_CONNECTIONS),
    requests: countOf(options, "requests", DEFAULT_REQUESTS),
    requestBytes,
    flushes: options.has("flush"),
    destinationIsZero: options.has("destination-is-zero"),
    isAllocated: options.has("allocated"),
    showsProgress: shows && !options.has("quiet"),
  };
}

async function read(uri: string, offset: number, length: number): Promise<void> {
  const client = await connect(uri, { contexts: [] });
  for (let at = 0; at < length; at += READ_BYTES)
    await print(await client.read(offset + at, Math.min(READ_BYTES, length - at)));
  await client.close();
}

type Run = (options: GivenOptions, ...operands: string[]) => Promise<void>;

const COMMANDS: Readonly<Record<CommandName, Run>> = {
  info: async (options, uri) => print(await info(uri as string, options.has("json"))),
  list: async (options, uri) => print(await list(uri as string, options.has("json"))),
  map: async (options, uri) => {
    const context = options.last("context") ?? "base:allocation";
    const how = { context, json: options.has("json"), totals: options.has("totals") };
    for await (const text of map(uri as string, how)) await print(text);
  },
  read: (_, uri, offset, length) =>
    read(uri as string, sizeOf(offset as string, "OFFSET"), sizeOf(length as string, "LENGTH")),
  copy: (options, from, to) => {
    isCopying = true;
    return copy(from as string, to as string, copyOptions(options));
  },
};

async function main(words: readonly string[]): Promise<void> {
  const { options, operands } = parseLine(words, CLIENT_OPTIONS);
  const shell = options.last("completion");
  if (shell !== undefined)
    return print(await (await import("./completion.js")).clientCompletionText(shell, operands));
  if (options.has("help")) return print(clientHelpText());
  if (options.has("version")) return print(`asyncnbd-client ${version}\n`);
  const [name, ...given] = operands;
  if (name === undefined) throw new UsageError("no COMMAND was given");
  if (!isCommand(name))
    throw new UsageError(
      `unknown command "${name}"${didYouMean(name, Object.keys(COMMAND_SPECS))}`,
    );
  const wanted = COMMAND_SPECS[name].operands;
  if (given.length !== wanted.length)
    throw new UsageError(`use asyncnbd-client ${name} ${wanted.join(" ")}`);
  await COMMANDS[name](options, ...given);
}

/** What people can do something about has a code; anything else shows where it happened. */
function wordsOf(error: unknown): string {
  const isExpected =
    error instanceof AsyncnbdError ||
    error instanceof TypeError ||
    error instanceof RangeError ||
    (error instanceof Error && "code" in error);
  const hint = error instanceof UsageError ? '; try "asyncnbd-client --help"' : "";
  if (isExpected) return printable(messageOf(error)) + hint;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

function fail(error: unknown): never {
  // Whoever reads from us may have enough: head, for one. But a copy is whole, or it has failed.
  if (error instanceof OutputError && error.isClosed && !isCopying) process.exit(0);
  process.stderr.write(`asyncnbd-client: error: ${wordsOf(error)}\n`);
  process.exit(1); // connections may still be open
}

process.stdout.on("error", (error) => fail(new OutputError(error)));

main(process.argv.slice(2)).catch(fail);
