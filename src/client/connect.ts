// connect(), and what can be asked of a server without entering an export.

import { BASE_ALLOCATION } from "../protocol.js";
import { Channel } from "./channel.js";
import { Client } from "./client.js";
import { Connection, type Owner } from "./connection.js";
import { ChangedError, Dispatcher, type ReconnectPolicy } from "./dispatcher.js";
import { ConnectionError } from "./errors.js";
import type { ExportFacts } from "./facts.js";
import {
  abort,
  listExports as askForList,
  askForTls,
  enterExport,
  type Greeting,
  greet,
  inquire,
  type ListedExport,
  listContexts,
  settleStyle,
  type Wishes,
} from "./negotiate.js";
import { OptionStream } from "./option-stream.js";
import { type Place, placeOf, type Target } from "./target.js";
import { type ClientTls, tlsOptions } from "./tls.js";

/** How to reach a server. */
export interface ServerOptions {
  /** Encrypts, or the connection fails. A URI nbds: does so by itself; options add to it. */
  readonly tls?: ClientTls;
  /** Gives up connecting when it fires. Requests have signals of their own. */
  readonly signal?: AbortSignal;
  /** For each connection and its handshake. By default 30 s. */
  readonly connectTimeoutMs?: number;
}

export interface ConnectOptions extends ServerOptions {
  /** By default the URI's, else "": the server's default export. */
  readonly exportName?: string;
  /** Meta contexts to select, by name. By default "base:allocation"; [] for none. */
  readonly contexts?: readonly string[];
  /**
   * How many connections, if the server has canMultiConn; otherwise there is one. By default 1.
   * Requests go to the one that has the fewest in flight.
   */
  readonly connections?: number;
  /**
   * By default a client whose connection is lost is over, as one with a descriptor always is. True:
   * the policy's defaults.
   */
  readonly reconnect?: ReconnectPolicy | boolean;
  /** Requests sent and not answered; others wait for them. By default 128. */
  readonly maxInFlight?: number;
  /** Of the data of requests in flight, in bytes. By default 64 MiB. */
  readonly maxInFlightBytes?: number;
  /** Whether to ask for them. By default true. */
  readonly structuredReplies?: boolean;
  /** Whether to ask for 64-bit requests. By default true. */
  readonly extendedHeaders?: boolean;
}

/** An export, as the server describes it to those who ask. */
export interface ExportInfo extends Omit<ExportFacts, "contexts"> {
  /** Names of its meta contexts. */
  readonly contexts: readonly string[];
}

const DEFAULT_CONNECT_TIMEOUT_MS = 30_000;
const DEFAULT_MAX_IN_FLIGHT = 128;
const DEFAULT_MAX_IN_FLIGHT_BYTES = 64 * 2 ** 20;

interface Opened {
  readonly stream: OptionStream;
  readonly greeting: Greeting;
}

/** Runs a handshake; whatever goes wrong, the connection is closed and the place is named. */
async function withStream<T>(
  place: Place,
  options: ServerOptions,
  signal: AbortSignal | undefined,
  use: (opened: Opened) => Promise<T>,
): Promise<T> {
  const timeout = AbortSignal.timeout(options.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS);
  const either = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
  let stream: OptionStream | undefined;
  const give_up = (): void => stream?.channel.destroy(either.reason);
  try {
    const channel = await Channel.open(place.where, tlsFor(place, options) === undefined, either);
    stream = new OptionStream(channel);
    either.addEventListener("abort", give_up, { once: true });
    return await use({ stream, greeting: await begin(stream, place, options, either) });
  } catch (error) {
    stream?.channel.destroy();
    throw explained(error, place, signal);
  } finally {
    either.removeEventListener("abort", give_up);
  }
}

/** Node's errors become ours, with the place. */
function explained(error: unknown, place: Place, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted) return signal.reason;
  const { name, code, message } = error as { name: string; code?: string; message: string };
  if (name === "TimeoutError")
    return new ConnectionError("ETIMEDOUT", `${place.name}: the server does not answer`);
  const isOurs = ["ProtocolError", "NbdError", "TypeError", "RangeError"].includes(name);
  if (isOurs) return error;
  return new ConnectionError(code ?? "EIO", `${place.name}: ${message}`, { cause: error });
}

function tlsFor(place: Place, { tls }: ServerOptions): ClientTls | undefined {
  return place.tls === undefined && tls === undefined ? undefined : { ...place.tls, ...tls };
}

async function begin(
  stream: OptionStream,
  place: Place,
  options: ServerOptions,
  signal: AbortSignal,
): Promise<Greeting> {
  const tls = tlsFor(place, options);
  const greeting = await greet(stream);
  if (tls === undefined) return greeting;
  if (!greeting.isFixed)
    throw new ConnectionError("EPROTONOSUPPORT", "the server is too old for TLS");
  await askForTls(stream);
  const { where } = place;
  await stream.encrypt(tlsOptions(tls, "host" in where ? where.host : undefined), signal);
  return greeting;
}

function wishesOf(place: Place, options: ConnectOptions): Wishes {
  return {
    exportName: options.exportName ?? place.exportName ?? "",
    structuredReplies: options.structuredReplies ?? true,
    extendedHeaders: options.extendedHeaders ?? true,
    contexts: options.contexts ?? [BASE_ALLOCATION],
  };
}

/** Through the handshake. */
function open(
  place: Place,
  options: ConnectOptions,
  owner: Owner,
  signal: AbortSignal | undefined,
): Promise<Connection> {
  return withStream(place, options, signal, async ({ stream, greeting }) => {
    const facts = await enterExport(stream, greeting, wishesOf(place, options));
    const connection = new Connection(stream.channel, facts, owner);
    connection.start(stream.takeUnread());
    return connection;
  });
}

/** Throws unless both connections see the same disk. */
function checkSame(first: ExportFacts, next: ExportFacts): void {
  const differs = (key: "sizeBytes" | "flags" | "style"): void => {
    if (first[key] !== next[key])
      throw new ChangedError(`${key} was ${first[key]} and is ${next[key]}`);
  };
  differs("sizeBytes");
  differs("flags");
  differs("style");
  const described = ({ blockSizes, contexts }: ExportFacts): string =>
    JSON.stringify([blockSizes, [...contexts]]);
  if (described(first) !== described(next))
    throw new ChangedError("its block sizes or meta contexts have changed");
}

function checkCount(name: string, value: number | undefined): void {
  if (value !== undefined && !(value >= 1))
    throw new RangeError(`${name} must be at least 1, not ${value}`);
}

/**
 * Opens an export. Rejects with a ConnectionError if there is no server, with an NbdError if the
 * server refuses (code "NBD_REP_ERR_UNKNOWN": no such export), with a ProtocolError if it breaks
 * the specification, with the signal's reason if that fires.
 *
 * @example
 * await using disk = await connect("nbd://localhost/disk");
 * const first = await disk.read(0, 512);
 */
export async function connect(target: Target, options: ConnectOptions = {}): Promise<Client> {
  const place = placeOf(target);
  const { connections = 1, reconnect, maxInFlight, maxInFlightBytes } = options;
  checkCount("connections", connections);
  checkCount("maxInFlight", maxInFlight);
  checkCount("maxInFlightBytes", maxInFlightBytes);
  let facts: ExportFacts | undefined;
  const openOne = async (owner: Owner, signal?: AbortSignal): Promise<Connection> => {
    const connection = await open(place, options, owner, signal);
    try {
      if (facts !== undefined) checkSame(facts, connection.facts);
    } catch (error) {
      connection.destroy(error as Error);
      throw error;
    }
    return connection;
  };
  const limits = {
    maxInFlight: maxInFlight ?? DEFAULT_MAX_IN_FLIGHT,
    maxInFlightBytes: maxInFlightBytes ?? DEFAULT_MAX_IN_FLIGHT_BYTES,
  };
  const policy =
    "fd" in place.where || !reconnect ? undefined : reconnect === true ? {} : reconnect;
  const dispatcher = new Dispatcher(limits, policy, openOne);
  const first = await openOne(dispatcher, options.signal);
  facts = first.facts;
  dispatcher.add(first);
  const more = facts.canMultiConn && !("fd" in place.where) ? connections - 1 : 0;
  await addMore(dispatcher, more, () => openOne(dispatcher, options.signal));
  // One was lost while others were being opened, and there is no policy for that.
  if (dispatcher.error !== undefined) throw dispatcher.error;
  return new Client(dispatcher, facts);
}

async function addMore(
  dispatcher: Dispatcher,
  count: number,
  openOne: () => Promise<Connection>,
): Promise<void> {
  const opened = await Promise.allSettled(Array.from({ length: count }, openOne));
  for (const result of opened) if (result.status === "fulfilled") dispatcher.add(result.value);
  const failed = opened.find((result) => result.status === "rejected");
  if (failed === undefined) return;
  dispatcher.destroy(failed.reason);
  throw failed.reason;
}

/** The exports that a server tells of. Rejects as connect() does. */
export async function listExports(
  target: Target,
  options: ServerOptions = {},
): Promise<readonly ListedExport[]> {
  const place = placeOf(target);
  return withStream(place, options, options.signal, async ({ stream, greeting }) => {
    if (!greeting.isFixed)
      throw new ConnectionError("EPROTONOSUPPORT", "the server is too old to list its exports");
    const exports = await askForList(stream);
    abort(stream);
    return exports;
  });
}

/** An export's facts and its meta contexts, without opening it. Rejects as connect() does. */
export async function exportInfo(
  target: Target,
  options: Omit<ConnectOptions, "connections" | "reconnect" | "contexts"> = {},
): Promise<ExportInfo> {
  const place = placeOf(target);
  return withStream(place, options, options.signal, async ({ stream, greeting }) => {
    const wishes = wishesOf(place, options);
    if (!greeting.isFixed)
      throw new ConnectionError("EPROTONOSUPPORT", "the server is too old to describe an export");
    const style = await settleStyle(stream, wishes);
    const contexts = style === "simple" ? [] : await listContexts(stream, wishes.exportName);
    const facts = await inquire(stream, wishes, style);
    abort(stream);
    return { ...facts, contexts };
  });
}
