// The filters that come with the server: the middleware under nbdkit's names and parameters.

import { parseSize } from "../config/size.js";
import { AsyncnbdError } from "../errors.js";
import { nativeMiddleware } from "../middleware/define.js";
import { errorsOf } from "../middleware/errors.js";
import { cache, cow, delay, log, openonce, rate, readonly } from "../middleware/index.js";
import { BLOCK_FILTERS } from "./built-in/blocks.js";
import { CAPABILITY_FILTERS } from "./built-in/capabilities.js";
import { CLIENT_FILTERS } from "./built-in/clients.js";
import { exitwhenFilter } from "./built-in/exitwhen.js";
import { exportnameFilter } from "./built-in/exportname.js";
import { ipFilter } from "./built-in/ip.js";
import { multiConnFilter } from "./built-in/multi-conn.js";
import { noparallelFilter } from "./built-in/noparallel.js";
import { pauseFilter } from "./built-in/pause.js";
import { powerOfTwo } from "./built-in/power-of-two.js";
import { RANGE_FILTERS } from "./built-in/ranges.js";
import { REPEATING_FILTERS } from "./built-in/repeating.js";
import { timeLimitFilter } from "./built-in/time-limit.js";
import { defineFilter, type Filter } from "./filter.js";

const time = { type: "time", required: false, minimum: 0 } as const;
const file = { type: "path", required: false } as const;
const text = { type: "string", required: false } as const;
const percent = { type: "integer", minimum: 1, maximum: 10_000 } as const;
const block = { type: "size", default: 65536, minimum: 4096, maximum: 2 ** 26 } as const;

const delayFilter = defineFilter({
  name: "delay",
  config: {
    rdelay: { ...time, description: "Before reads" },
    wdelay: { ...time, description: "Before writes, zeroing and trims" },
    "delay-read": time,
    "delay-write": time,
    "delay-flush": time,
    "delay-zero": time,
    "delay-trim": time,
    "delay-extents": time,
    "delay-cache": time,
    "delay-fast-zero": {
      type: "bool",
      default: true,
      description: "Delay fast zeroing, too; otherwise it is refused if zeroing is delayed",
    },
    "delay-open": time,
    "delay-close": time,
  },
  create: (config) => {
    const given = {
      // As with nbdkit, rdelay is reads alone.
      readMs: config["delay-read"] ?? config.rdelay,
      writeMs: config["delay-write"] ?? config.wdelay,
      flushMs: config["delay-flush"],
      zeroMs: config["delay-zero"] ?? config.wdelay,
      trimMs: config["delay-trim"] ?? config.wdelay,
      extentsMs: config["delay-extents"] ?? 0,
      cacheMs: config["delay-cache"] ?? 0,
      openMs: config["delay-open"],
      closeMs: config["delay-close"],
      delaysFastZero: config["delay-fast-zero"],
    };
    const said = Object.entries(given).filter(([, value]) => value !== undefined);
    return delay(Object.fromEntries(said));
  },
});

const ERROR_KINDS = ["pread", "pwrite", "trim", "zero", "extents", "cache"] as const;
type ErrorKey = "error" | `error-${(typeof ERROR_KINDS)[number]}`;
const codes = ["EPERM", "EIO", "ENOMEM", "EINVAL", "ENOSPC", "ESHUTDOWN"] as const;
const code = { type: "enum", values: codes, required: false } as const;

/** A probability, or a percentage. */
function parseRate(key: string, given: string): number {
  const [, number, percent] =
    /^\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(%?)$/i.exec(given) ?? [];
  const value = Number(number ?? Number.NaN) / (percent === "%" ? 100 : 1);
  if (!(value >= 0 && value <= 1))
    throw new AsyncnbdError(
      "PARAMETER_INVALID",
      `parameter ${key}=${given}: use 0% to 100%, or 0 to 1`,
    );
  return value;
}

const errorFilter = defineFilter({
  name: "error",
  config: {
    error: { ...code, description: "Error to return (default EIO)" },
    "error-rate": { ...text, description: "Share of requests that fail: N% or 0..1 (default 0)" },
    "error-file": { ...file, description: "Requests fail only while this file exists" },
    ...(Object.fromEntries(
      ERROR_KINDS.flatMap((kind) => [
        [`error-${kind}`, code],
        [`error-${kind}-rate`, text],
        [`error-${kind}-file`, file],
      ]),
    ) as object),
  },
  create: (given) => {
    const config = given as Readonly<Record<string, string | undefined>>;
    const keyOf = (kind: ErrorKey, what: string): string =>
      config[kind + what] === undefined ? `error${what}` : kind + what;
    const find = (kind: ErrorKey, what: string): string | undefined => config[keyOf(kind, what)];
    return errorsOf(
      Object.fromEntries(
        ERROR_KINDS.map((kind) => {
          const key = `error-${kind}` as const;
          const rate = parseRate(keyOf(key, "-rate"), find(key, "-rate") ?? "0");
          return [kind, { rate, code: find(key, "") ?? "EIO", file: find(key, "-file") }];
        }),
      ),
    );
  },
});

const logFilter = defineFilter({
  name: "log",
  config: {
    logfile: { ...file, description: "Write the lines to this file" },
    logappend: { type: "bool", description: "Append to the file" },
    logscript: { ...text, description: "Shell commands to run for each line" },
  },
  create: ({ logfile, logappend, logscript }) =>
    log({
      append: logappend,
      ...(logfile !== undefined && { file: logfile }),
      ...(logscript !== undefined && { script: logscript }),
    }),
});

/** As nbdkit's: bits a second, with a unit in powers of 1024. */
function parseBits(key: string, given: string): number {
  const bits = parseSize(given);
  if (!(bits > 0))
    throw new AsyncnbdError(
      "PARAMETER_INVALID",
      `parameter ${key}=${given}: expected a number of bits per second`,
    );
  return bits;
}

/** The number that it begins with, as nbdkit reads it. */
function parseSeconds(key: string, given: string): number {
  const seconds = Number.parseFloat(given);
  if (!(seconds > 0))
    throw new AsyncnbdError(
      "PARAMETER_INVALID",
      `parameter ${key}=${given}: expected a number of seconds`,
    );
  return seconds;
}

const rateFilter = defineFilter({
  name: "rate",
  config: {
    rate: { ...text, description: "Bits per second, for all clients together" },
    "connection-rate": { ...text, description: "Bits per second, for each client" },
    "rate-file": { ...file, description: "A file that has the current rate, if it exists" },
    "connection-rate-file": { ...file, description: "The same for each client" },
    burstiness: { type: "string", default: "2", description: "Seconds of a burst after a rest" },
  },
  create: (config) =>
    rate({
      bits: config.rate === undefined ? 0 : parseBits("rate", config.rate),
      connectionBits:
        config["connection-rate"] === undefined
          ? 0
          : parseBits("connection-rate", config["connection-rate"]),
      burstSeconds: parseSeconds("burstiness", config.burstiness),
      ...(config["rate-file"] !== undefined && { file: config["rate-file"] }),
      ...(config["connection-rate-file"] !== undefined && {
        connectionFile: config["connection-rate-file"],
      }),
    }),
});

const cowFilter = defineFilter({
  name: "cow",
  config: {
    "cow-block-size": {
      ...block,
      description: "Size of the blocks that are copied, a power of two",
    },
    "cow-on-cache": { type: "bool", description: "Copy blocks that clients ask to cache" },
    "cow-on-read": {
      type: "bool",
      orPath: true,
      description: "Copy blocks that clients read, or only while this file exists",
    },
  },
  create: (config) =>
    cow({
      blockBytes: powerOfTwo("cow-block-size", config["cow-block-size"]),
      onCache: config["cow-on-cache"],
      onRead: config["cow-on-read"],
    }),
});

const cacheFilter = defineFilter({
  name: "cache",
  config: {
    cache: {
      type: "enum",
      values: ["writeback", "writethrough", "unsafe"],
      default: "writeback",
      description: "When writes reach the plugin",
    },
    "cache-min-block-size": {
      ...block,
      description: "Least size of the blocks that are cached, a power of two",
    },
    "cache-max-size": {
      type: "size",
      required: false,
      minimum: 2 ** 20,
      description: "Limit of the space that is used (default none)",
    },
    "cache-high-threshold": {
      ...percent,
      default: 95,
      description: "Percentage of it at which blocks begin to be dropped",
    },
    "cache-low-threshold": {
      ...percent,
      default: 80,
      description: "Percentage of it at which dropping ends",
    },
    "cache-on-read": {
      type: "bool",
      orPath: true,
      description: "Cache blocks that clients read, or only while this file exists",
    },
  },
  create: (config) => {
    const maxBytes = config["cache-max-size"];
    const [highPercent, lowPercent] = [
      config["cache-high-threshold"],
      config["cache-low-threshold"],
    ];
    if (maxBytes !== undefined && lowPercent >= highPercent)
      throw new AsyncnbdError(
        "PARAMETER_INVALID",
        `parameter cache-low-threshold=${lowPercent}: must be less than cache-high-threshold, ` +
          `which is ${highPercent}`,
      );
    return cache({
      mode: config.cache,
      blockBytes: powerOfTwo("cache-min-block-size", config["cache-min-block-size"]),
      ...(maxBytes !== undefined && { maxBytes }),
      highPercent,
      lowPercent,
      onRead: config["cache-on-read"],
    });
  },
});

const statsFilter = defineFilter({
  name: "stats",
  config: {
    statsfile: { type: "path", description: "Write statistics to this file when the server ends" },
    statsappend: { type: "bool", description: "Append to the file" },
    statsthreshold: {
      type: "integer",
      default: 95,
      minimum: 0,
      maximum: 100,
      description: "Percentage of the requests whose sizes and alignments are listed; 0: none",
    },
  },
  create: ({ statsfile, statsappend, statsthreshold }) =>
    nativeMiddleware({
      name: "stats",
      options: { file: statsfile, appends: statsappend, percent: statsthreshold },
    }),
});

const readonlyFilter = defineFilter({ name: "readonly", create: () => readonly() });

const openonceFilter = defineFilter({ name: "openonce", create: () => openonce() });

export const FILTERS: readonly Filter[] = [
  ...BLOCK_FILTERS,
  ...CAPABILITY_FILTERS,
  ...CLIENT_FILTERS,
  ...RANGE_FILTERS,
  ...REPEATING_FILTERS,
  cacheFilter,
  cowFilter,
  delayFilter,
  errorFilter,
  exitwhenFilter,
  exportnameFilter,
  ipFilter,
  logFilter,
  multiConnFilter,
  noparallelFilter,
  openonceFilter,
  pauseFilter,
  rateFilter,
  readonlyFilter,
  statsFilter,
  timeLimitFilter,
].sort((one, other) => (one.name < other.name ? -1 : 1));
