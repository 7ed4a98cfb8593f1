// Sessions of clients, and what a plugin logs of its calls meanwhile, under nbdkit and asyncnbd.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { NBD_REP_FLAG_ERROR } from "../../src/protocol.js";
import { MIB } from "../support/fixtures.js";
import { CMD, FLAG, INFO, OPT, REP } from "../support/protocol.js";
import { goData, RawClient, type RequestFields } from "../support/raw-client.js";
import {
  asyncnbd,
  eventually,
  nbdkit,
  startServer,
  temporaryDirectory,
} from "../support/server.js";

const { EXPORT_NAME, ABORT, LIST, GO } = OPT;
const { FUA, NO_HOLE, FAST_ZERO } = FLAG;

/** Sends an option and reads its replies to the last one, whose type it returns. */
export async function ask(client: RawClient, option: number, data?: Uint8Array): Promise<number> {
  client.sendOption(option, data);
  for (;;) {
    const { type } = await client.readOptionReply();
    if (type === REP.ACK || type >= NBD_REP_FLAG_ERROR) return type;
  }
}

export type Session = (client: RawClient) => Promise<unknown>;

export const go =
  (name: string, ...infos: number[]): Session =>
  (client) =>
    ask(client, GO, goData(name, infos));

/** One after the other, each awaited: the errors. */
export async function requests(
  client: RawClient,
  list: readonly RequestFields[],
): Promise<number[]> {
  const errors = [];
  for (const fields of list) {
    const error = await client.request(fields);
    if (fields.type === CMD.READ && error === 0) await client.read(fields.length ?? 0);
    errors.push(error);
  }
  return errors;
}

const range = { offset: 4096n, length: 8192 };
export const payload = Buffer.alloc(8192, 3);
export const WITHOUT_FAST_ZERO: readonly RequestFields[] = [
  { type: CMD.READ, ...range },
  { type: CMD.WRITE, ...range, payload },
  { type: CMD.WRITE, ...range, payload, flags: FUA },
  { type: CMD.FLUSH },
  { type: CMD.TRIM, ...range },
  { type: CMD.TRIM, ...range, flags: FUA },
  { type: CMD.CACHE, ...range },
  ...[0, FUA, NO_HOLE, FUA | NO_HOLE].map((flags) => ({ type: CMD.WRITE_ZEROES, ...range, flags })),
  { type: CMD.WRITE_ZEROES, offset: 0n, length: 40 * MIB, flags: FUA },
];
export const EVERY_COMMAND: readonly RequestFields[] = [
  ...WITHOUT_FAST_ZERO,
  ...[0, NO_HOLE, FUA, FUA | NO_HOLE].map((flags) => ({
    type: CMD.WRITE_ZEROES,
    ...range,
    flags: flags | FAST_ZERO,
  })),
];

export const withRequests =
  (session: Session, commands = EVERY_COMMAND): Session =>
  async (client) => {
    await session(client);
    return requests(client, commands);
  };

export const SESSIONS: readonly [string, Session][] = [
  ["says nothing", async () => {}],
  ["aborts", (client) => ask(client, ABORT)],
  ["lists", (client) => ask(client, LIST)],
  ["asks about an export", (client) => ask(client, OPT.INFO, goData("one"))],
  ["asks about the default export", (client) => ask(client, OPT.INFO, goData(""))],
  [
    "asks for all information",
    (client) =>
      ask(client, OPT.INFO, goData("one", [INFO.NAME, INFO.DESCRIPTION, INFO.BLOCK_SIZE])),
  ],
  ["goes", go("one")],
  ["goes to the default export", go("")],
  ["goes with all information", go("", INFO.NAME, INFO.DESCRIPTION, INFO.BLOCK_SIZE)],
  [
    "lists, asks, asks again and goes",
    async (client) => [
      await ask(client, LIST),
      await ask(client, OPT.INFO, goData("one")),
      await ask(client, OPT.INFO, goData("", [INFO.BLOCK_SIZE])),
      await ask(client, GO, goData("two")),
    ],
  ],
  ["sends every command", withRequests(go("one"))],
  [
    "sends every command after NBD_OPT_EXPORT_NAME",
    withRequests(async (client) => {
      client.sendOption(EXPORT_NAME, Buffer.from("one"));
      await client.read(10);
    }),
  ],
];

interface Outcome {
  readonly result: unknown;
  readonly calls: readonly string[];
}

export async function outcomeOf(
  command: readonly string[],
  plugin: readonly string[],
  log: string,
  session: Session,
  options: readonly string[],
): Promise<Outcome> {
  writeFileSync(log, "");
  const server = await startServer([...plugin], {
    command,
    options: ["-t", "1", ...options],
    noProbe: true,
  });
  const client = await RawClient.connect(server.socket);
  await client.greet();
  const result = await session(client);
  client.socket.end(); // nbdkit waits for its clients
  await client.closed();
  const logged = (): string[] => readFileSync(log, "utf8").trimEnd().split("\n");
  const count = (call: string): number =>
    logged().filter((line) => line.split(" ")[0] === call).length;
  // A signal between the end of its connection and close makes nbdkit forget close.
  await eventually("close", () => (count("close") === count("open") ? true : undefined));
  await server.stop();
  return { result, calls: logged() };
}

export async function compare(
  plugin: (log: string) => readonly string[],
  session: Session,
  options: readonly string[] = [],
): Promise<void> {
  const log = join(temporaryDirectory(), "log");
  const theirs = await outcomeOf(nbdkit, plugin(log), log, session, options);
  const ours = await outcomeOf(asyncnbd, plugin(log), log, session, options);
  expect(ours).toEqual(theirs);
  expect(ours.calls.length).toBeGreaterThan(2);
}
