// Checks the values of the command line's options and makes a configuration of them.

import { resolve } from "node:path";
import { type ClientLimits, clientLimits, type Limit, ofEachLimit } from "../client-limits.js";
import { AsyncnbdError, UsageError } from "../errors.js";
import {
  ALL_HANDSHAKE_FLAGS,
  DEFAULT_HANDSHAKE_TIMEOUT_MS,
  DEFAULT_MAX_IN_FLIGHT_BYTES,
} from "./defaults.js";
import { type GivenOptions, integer } from "./given-options.js";
import { parseInteger } from "./integer.js";
import { MAX_INT, MAX_WORKERS } from "./limits.js";
import { EXCLUSIVE_OPTIONS, parseListen } from "./listeners/index.js";
import { didYouMean } from "./nearest.js";
import type { Config, DebugFlag, LogSink } from "./schema.js";
import { parseSize } from "./size.js";
import { parseTimeMs } from "./time.js";
import { parseTlsMode, parseTlsPriority, type TlsConfig } from "./tls.js";

const MIN_INT = -(2 ** 31);

const LOG_SINKS: Readonly<Record<string, LogSink | undefined>> = {
  default: undefined,
  stderr: "stderr",
  syslog: "syslog",
  null: "none",
};

export function parseConfig(
  given: GivenOptions,
  plugin: string,
  parameters: readonly string[],
  activatedSockets = 0,
): Config {
  checkCombinations(given);
  const stays = ["foreground", "run", "single", "exit-with-parent"].some((o) => given.has(o));
  return {
    plugin,
    parameters,
    filters: given.all("filter"),
    listen:
      activatedSockets > 0 ? { kind: "activated", count: activatedSockets } : parseListen(given),
    readonly: given.has("read-only"),
    exportName: given.last("exportname") ?? "",
    watch: given.has("watch"),
    workers: integer(given, "workers", 0, MAX_WORKERS) ?? 0,
    ...parseClientLimits(given),
    maxInFlightBytes: sizeBytes(given, "max-in-flight") ?? DEFAULT_MAX_IN_FLIGHT_BYTES,
    maxConnections: integer(given, "max-connections", 1, MAX_INT) ?? Number.POSITIVE_INFINITY,
    handshakeTimeoutMs: handshakeTimeout(given),
    handshakeFlagsMask: integer(given, "mask-handshake", 0, MAX_INT) ?? ALL_HANDSHAKE_FLAGS,
    structuredReplies: !given.has("no-sr"),
    extendedHeaders: !given.has("no-sr") && !given.has("no-eh"),
    tls: parseTls(given),
    metaContexts: !given.has("no-mc"),
    oldstyle: given.lastOf("oldstyle", "newstyle") === "oldstyle",
    background: !stays && activatedSockets === 0,
    runCommand: given.last("run"),
    pidFile: absolute(given.last("pidfile")),
    selinuxLabel: given.last("selinux-label"),
    printUri: given.has("print-uri"),
    exitWithParent: given.has("exit-with-parent"),
    user: given.last("user"),
    group: given.last("group"),
    logClients: given.has("log-clients"),
    verbose: given.has("verbose"),
    log: parseLog(given.last("log")),
    debugFlags: given.all("debug").map(parseDebugFlag),
  };
}

function parseClientLimits(given: GivenOptions): ClientLimits {
  return clientLimits(ofEachLimit((limit) => parseLimit(given, limit)));
}

function parseLimit(given: GivenOptions, { option, unit, maximum }: Limit): number | undefined {
  if (unit === "calls") return integer(given, option, 0, maximum) || undefined; // 0: as by default
  if (unit === "bytes") return sizeBytes(given, option);
  const inMs = unit === "us" ? 1000 : 1;
  const ms = delayMs(given, option, maximum / inMs);
  return ms && Math.round(ms * inMs);
}

const absolute = (path: string | undefined): string | undefined =>
  path === undefined ? undefined : resolve(path);

function checkCombinations(given: GivenOptions): void {
  if (given.has("swap"))
    throw new AsyncnbdError(
      "OPTION_INVALID",
      "--swap is not supported, because Node.js aborts when its memory is locked. To keep the " +
        "server out of swap, run: systemd-run --scope -p MemorySwapMax=0 asyncnbd …",
    );
  for (const [one, other] of EXCLUSIVE_OPTIONS)
    if (given.has(one) && given.has(other))
      throw new UsageError(`--${one} and --${other} cannot be used together`);
}

function parseTls(given: GivenOptions): TlsConfig {
  const mode = given.last("tls");
  const priority = given.last("tls-priority");
  const config: TlsConfig = {
    mode: mode === undefined ? undefined : parseTlsMode(mode),
    certificates: absolute(given.last("tls-certificates")),
    preSharedKeys: absolute(given.last("tls-psk")),
    verifyPeer: given.has("tls-verify-peer"),
    priority: priority === undefined ? {} : parseTlsPriority(priority),
  };
  if (config.mode === "require" && given.lastOf("oldstyle", "newstyle") === "oldstyle")
    throw new UsageError(
      "--oldstyle and --tls=require cannot be used together: oldstyle has no TLS",
    );
  return config;
}

/** A number of bytes as plugins read it: with one of b k m g t p e, or s for 512 bytes. */
function sizeBytes(given: GivenOptions, option: string): number | undefined {
  const text = given.last(option);
  if (text === undefined) return undefined;
  const bytes = parseSize(text);
  if (!(bytes > 0 && Number.isSafeInteger(bytes)))
    throw new UsageError(`--${option}=${text} is not a size: use a number and k, m, g or t`);
  return bytes;
}

/** A time with an optional unit, seconds by default; from 0 to `maximumMs`. */
function delayMs(given: GivenOptions, option: string, maximumMs: number): number | undefined {
  const text = given.last(option);
  if (text === undefined) return undefined;
  const delay = parseTimeMs(text);
  if (!(delay >= 0 && delay <= maximumMs))
    throw new UsageError(
      `--${option}=${text} is not a time up to ${maximumMs}ms: use a number and s, ms, us or ns`,
    );
  return delay;
}

function handshakeTimeout(given: GivenOptions): number {
  const timeoutMs = delayMs(given, "timeout", MAX_INT) ?? DEFAULT_HANDSHAKE_TIMEOUT_MS;
  if (timeoutMs === 0) throw new UsageError("--timeout=0: no client could ever connect");
  return Math.max(1, timeoutMs);
}

function parseLog(text: string | undefined): LogSink | undefined {
  if (text === undefined) return undefined;
  if (text.startsWith("/")) return { file: text };
  if (!Object.hasOwn(LOG_SINKS, text))
    throw new UsageError(
      `--log=${text}: use stderr, syslog, null, default or an absolute path` +
        didYouMean(text, Object.keys(LOG_SINKS)),
    );
  return LOG_SINKS[text];
}

function parseDebugFlag(text: string): DebugFlag {
  const [, plugin, flag, number = ""] = /^([^.=]+)\.([^=]+)=(.*)$/s.exec(text) ?? [];
  const value = parseInteger(number);
  if (plugin === undefined || flag === undefined || !(value >= MIN_INT && value <= MAX_INT))
    throw new UsageError(`--debug=${text}: it must have the format PLUGIN.FLAG=NUMBER`);
  return { plugin, flag, value };
}
