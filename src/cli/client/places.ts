// What a copy reads from and writes to: exports, files, and pipes.

import { type BigIntStats, fstatSync } from "node:fs";
import { type FileHandle, open, readFile, stat } from "node:fs/promises";
import { type Client, connect } from "../../client/index.js";
import { isNbdUri } from "../../client/target.js";
import { AsyncnbdError } from "../../errors.js";
import { print } from "./standard-output.js";

/** A part of a source, of one kind. */
export interface Part {
  readonly offset: number;
  readonly length: number;
  readonly isZero: boolean;
}

/** What both ends of a copy have. */
interface Place {
  readonly name: string;
  /** Of a file or a block device: the same for the same disk, whatever its name. */
  readonly identity: string | undefined;
  /** Offsets and lengths are multiples of it. */
  readonly minimumBytes: number;
}

export interface Source extends Place {
  readonly sizeBytes: number;
  /** All of it, in order. */
  parts(): AsyncIterable<Part>;
  read(offset: number, into: Buffer): Promise<unknown>;
  close(): Promise<void>;
}

/** What comes in order only, and has an end that nobody knows. */
export interface Stream extends Place {
  readonly chunks: AsyncIterable<Buffer>;
}

export interface Destination extends Place {
  /** undefined: as large as it has to be. */
  readonly sizeBytes: number | undefined;
  /** It reads as zeroes where nothing is written. */
  readonly isZero: boolean;
  /** It takes its bytes in order only. */
  readonly isOrdered: boolean;
  /** Before the first byte, where the size is known. */
  prepare(sizeBytes: number): Promise<void>;
  write(offset: number, bytes: Buffer): Promise<unknown>;
  zero(offset: number, length: number, isAllocated: boolean): Promise<unknown>;
  /** Behind the last byte, where nobody knew the size. */
  end(sizeBytes: number): Promise<void>;
  flush(): Promise<unknown>;
  close(): Promise<void>;
}

const ZEROES = Buffer.alloc(2 ** 20);

/** For what has no command for it. */
async function writeZeroes(
  offset: number,
  length: number,
  write: (offset: number, bytes: Buffer) => Promise<unknown>,
): Promise<void> {
  for (let at = 0; at < length; at += ZEROES.length)
    await write(offset + at, ZEROES.subarray(0, Math.min(ZEROES.length, length - at)));
}

async function* exportParts(client: Client): AsyncGenerator<Part, void> {
  const { size } = client;
  if (!client.contexts.includes("base:allocation")) {
    if (size > 0) yield { offset: 0, length: size, isZero: false };
    return;
  }
  for await (const { offset, length, isZero } of client.blockStatus())
    yield { offset, length, isZero };
}

export async function openSource(name: string, connections: number): Promise<Source | Stream> {
  if (name === "-") {
    const identity = identityOf(fstatSync(0, { bigint: true }));
    return { name: "standard input", identity, minimumBytes: 1, chunks: process.stdin };
  }
  if (isNbdUri(name)) {
    const client = await connect(name, { connections });
    return {
      name,
      identity: undefined,
      minimumBytes: client.blockSizes.minimum,
      sizeBytes: client.size,
      parts: () => exportParts(client),
      read: (offset, into) => client.read(offset, into),
      close: () => client.close(),
    };
  }
  const file = await open(name, "r");
  const stats = await file.stat({ bigint: true });
  if (stats.isDirectory()) throw new AsyncnbdError("DISK_IS_DIRECTORY", `${name} is a directory`);
  const sizeBytes = await sizeOf(stats);
  const place = { name, identity: identityOf(stats), minimumBytes: 1 };
  // Pipes and terminals have an end and no size. Nor have files of /proc, which claim to be empty.
  const hasSize = (stats.isFile() || stats.isBlockDevice()) && sizeBytes > 0;
  if (!hasSize) return { ...place, chunks: file.createReadStream() };
  return {
    ...place,
    sizeBytes,
    async *parts() {
      yield { offset: 0, length: sizeBytes, isZero: false };
    },
    read: (offset, into) => readAll(file, name, offset, into),
    close: () => file.close(),
  };
}

/** As makedev(3) has put them together. */
export const deviceNumbers = (rdev: number): { major: number; minor: number } => ({
  major: (rdev >>> 8) & 0xfff,
  minor: (rdev & 0xff) | ((rdev >>> 12) & 0xfff00),
});

function identityOf(stats: BigIntStats): string | undefined {
  if (stats.isFile()) return `file ${stats.dev}:${stats.ino}`;
  return stats.isBlockDevice() ? `device ${stats.rdev}` : undefined;
}

/** Of block devices too, which have no length of their own. */
async function sizeOf(stats: BigIntStats): Promise<number> {
  if (!stats.isBlockDevice()) return Number(stats.size);
  const { major, minor } = deviceNumbers(Number(stats.rdev));
  return 512 * Number(await readFile(`/sys/dev/block/${major}:${minor}/size`, "utf8"));
}

async function readAll(
  file: FileHandle,
  name: string,
  offset: number,
  into: Buffer,
): Promise<void> {
  for (let at = 0; at < into.length; ) {
    const { bytesRead } = await file.read(into, at, into.length - at, offset + at);
    if (bytesRead === 0) throw new AsyncnbdError("SOURCE_CHANGED", `${name} has become shorter`);
    at += bytesRead;
  }
}

export async function openDestination(name: string, connections: number): Promise<Destination> {
  if (name === "-") return standardOutput();
  if (isNbdUri(name)) return exportDestination(name, await connect(name, { connections }));
  const there = await stat(name).catch(() => undefined);
  const isOrdered = there?.isFIFO() || there?.isCharacterDevice();
  if (isOrdered) return orderedDestination(name, await open(name, "w"));
  return fileDestination(
    name,
    await open(name, "a")
      .then((made) => made.close())
      .then(() => open(name, "r+")),
  );
}

function exportDestination(name: string, client: Client): Destination {
  return {
    name,
    identity: undefined,
    minimumBytes: client.blockSizes.minimum,
    sizeBytes: client.size,
    isZero: false,
    isOrdered: false,
    prepare: async () => {},
    write: (offset, bytes) => client.write(offset, bytes),
    zero: (offset, length, noHole) =>
      client.canZero
        ? client.zero(offset, length, { noHole })
        : writeZeroes(offset, length, (at, bytes) => client.write(at, bytes)),
    end: async () => {},
    flush: async () => {
      if (client.canFlush) await client.flush();
    },
    close: () => client.close(),
  };
}

async function fileDestination(name: string, file: FileHandle): Promise<Destination> {
  const stats = await file.stat({ bigint: true });
  const isFile = stats.isFile();
  const write = async (offset: number, bytes: Buffer): Promise<void> => {
    for (let at = 0; at < bytes.length; )
      at += (await file.write(bytes, at, bytes.length - at, offset + at)).bytesWritten;
  };
  return {
    name,
    identity: identityOf(stats),
    minimumBytes: 1,
    sizeBytes: isFile ? undefined : await sizeOf(stats),
    isZero: isFile,
    isOrdered: false,
    prepare: async (sizeBytes) => {
      if (!isFile) return;
      await file.truncate(0);
      await file.truncate(sizeBytes);
    },
    write,
    zero: async (offset, length, isAllocated) => {
      if (!isFile || isAllocated) await writeZeroes(offset, length, write);
    },
    end: async (sizeBytes) => {
      if (isFile) await file.truncate(sizeBytes); // it may end with a hole
    },
    flush: () => file.sync(),
    close: () => file.close(),
  };
}

function standardOutput(): Destination {
  const identity = identityOf(fstatSync(1, { bigint: true }));
  return inOrder("standard output", identity, print, async () => {});
}

/** A named pipe, or a device such as /dev/null. */
function orderedDestination(name: string, file: FileHandle): Destination {
  const write = async (bytes: Buffer): Promise<void> => {
    for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at)).bytesWritten;
  };
  return inOrder(name, undefined, write, () => file.close());
}

function inOrder(
  name: string,
  identity: string | undefined,
  write: (bytes: Buffer) => Promise<void>,
  close: () => Promise<void>,
): Destination {
  return {
    name,
    identity,
    minimumBytes: 1,
    sizeBytes: undefined,
    isZero: false,
    isOrdered: true,
    prepare: async () => {},
    write: (_, bytes) => write(bytes),
    zero: (offset, length) => writeZeroes(offset, length, (_, bytes) => write(bytes)),
    end: async () => {},
    flush: async () => {},
    close,
  };
}
