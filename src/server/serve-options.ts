// Checks what a program gives to serve(): wrong options are errors with the option's name, before
// anything is loaded.

import { inspect } from "node:util";
import { type Limit, ofEachLimit } from "../client-limits.js";
import { MAX_INT, MAX_PORT, MAX_WORKERS } from "../config/limits.js";
import { didYouMean } from "../config/nearest.js";
import type { TlsPriority } from "../config/tls.js";
import { AsyncnbdError } from "../errors.js";
import { isMiddleware } from "../plugins/script/layer.js";
import type { ListenOn, ServeOptions, ServeTls } from "./serve-types.js";

/** Throws if the value, which is not undefined, cannot be used. */
type Check = (name: string, value: unknown) => void;
type Checks<Options> = Readonly<Record<keyof Options, Check>>;

const MAX_DEPTH_SHOWN = 1;

function fail(name: string, value: unknown, wanted: string): never {
  const shown = inspect(value, { depth: MAX_DEPTH_SHOWN, breakLength: Number.POSITIVE_INFINITY });
  throw new AsyncnbdError("OPTION_INVALID", `${name}: ${shown} is not ${wanted}`);
}

function whole(minimum: number, maximum: number, more?: number): Check {
  return (name, value) => {
    const number = value as number;
    const isInRange = Number.isSafeInteger(value) && number >= minimum && number <= maximum;
    if (!isInRange && value !== more)
      fail(name, value, `a whole number from ${minimum} to ${maximum}`);
  };
}

function milliseconds(minimum: number, maximum: number): Check {
  return (name, value) => {
    if (!(typeof value === "number" && value >= minimum && value <= maximum))
      fail(name, value, `a number of milliseconds from ${minimum} to ${maximum}`);
  };
}

const bool: Check = (name, value) => {
  if (typeof value !== "boolean") fail(name, value, "true or false");
};

/** For C, where a NUL would end it. */
const text: Check = (name, value) => {
  if (typeof value !== "string" || value.includes("\0"))
    fail(name, value, "a string without NUL characters");
};

const notEmpty: Check = (name, value) => {
  text(name, value);
  if (value === "") fail(name, value, "a path or a name");
};

const oneOf =
  (...values: readonly string[]): Check =>
  (name, value) => {
    if (!values.includes(value as string)) fail(name, value, `one of ${values.join(", ")}`);
  };

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** An object with no other keys than these. `prefix` comes before their names in messages. */
function record<Options>(checks: Checks<Options>, prefix: string): Check {
  return (name, value) => {
    if (!isObject(value)) return fail(name, value, "an object");
    for (const [key, given] of Object.entries(value)) {
      const check = Object.hasOwn(checks, key) ? checks[key as keyof Options] : undefined;
      if (check === undefined)
        throw new AsyncnbdError(
          "OPTION_UNKNOWN",
          `there is no option ${prefix}${key}${didYouMean(key, Object.keys(checks))}`,
        );
      if (given !== undefined) check(prefix + key, given);
    }
  };
}

const CALLBACKS = ["getSize", "pread"] as const;

const plugin: Check = (name, value) => {
  if (typeof value === "string") return notEmpty(name, value);
  if (!isObject(value)) fail(name, value, "a plugin, or the name or path of one");
  if (typeof value.name !== "string") fail(`${name}.name`, value.name, "a name");
  for (const callback of CALLBACKS)
    if (typeof value[callback] !== "function")
      fail(`${name}.${callback}`, value[callback], "a function, which every plugin needs");
};

/** The plugin knows its parameters, and their types. */
const config: Check = (name, value) => {
  if (!isObject(value)) fail(name, value, "an object of parameters");
  for (const [key, parameter] of Object.entries(value)) {
    if (parameter === undefined) continue; // as if it were not there
    for (const one of Array.isArray(parameter) ? parameter : [parameter]) {
      if (typeof one === "string") text(`${name}.${key}`, one);
      else if (typeof one !== "number" && typeof one !== "boolean")
        fail(`${name}.${key}`, one, "a string, a number or a boolean");
    }
  }
};

const filters: Check = (name, value) => {
  if (!Array.isArray(value)) return fail(name, value, "a list of filters");
  for (const [index, filter] of value.entries()) {
    if (typeof filter === "string") notEmpty(`${name}[${index}]`, filter);
    else if (!isMiddleware(filter) && !(isObject(filter) && "create" in filter))
      fail(`${name}[${index}]`, filter, "a filter, its name, or middleware");
  }
};

type ListenObject = Exclude<ListenOn, string>;
type ListenKeys = { [Kind in ListenObject as keyof Kind]: unknown };

const listenObject = record<ListenKeys>(
  { unix: notEmpty, port: whole(0, MAX_PORT), host: text },
  "listen.",
);

const listen: Check = (name, value) => {
  if (typeof value === "string") return oneOf("private-unix", "nothing")(name, value);
  listenObject(name, value);
  const { unix, port, host } = value as Record<keyof ListenKeys, unknown>;
  if ((unix === undefined) === (port === undefined) || (unix !== undefined && host !== undefined))
    fail(name, value, "either { unix } or { port, host }");
};

const LOGGER_METHODS = ["debug", "info", "warn", "error"] as const;

const logger: Check = (name, value) => {
  const methods = Object(value) as Record<string, unknown>; // it may be a function with methods
  const missing = LOGGER_METHODS.find((method) => typeof methods[method] !== "function");
  if (missing !== undefined) fail(name, value, `a logger: it has no ${missing}()`);
};

const signal: Check = (name, value) => {
  if (!(value instanceof AbortSignal)) fail(name, value, "an AbortSignal");
};

const tls = record<ServeTls>(
  {
    mode: oneOf("on", "require"),
    certificates: notEmpty,
    preSharedKeys: notEmpty,
    verifyPeer: bool,
    priority: record<TlsPriority>(
      {
        minVersion: oneOf("TLSv1.2", "TLSv1.3"),
        maxVersion: oneOf("TLSv1.2", "TLSv1.3"),
        ciphers: text,
        cipherSuites: text,
      },
      "tls.priority.",
    ),
  },
  "tls.",
);

const withinLimit = ({ unit, minimum, maximum }: Limit): Check =>
  unit === "ms" ? milliseconds(minimum, maximum) : whole(minimum, maximum);
const { spinUs: _, ...limits } = ofEachLimit(withinLimit);

const checkAll = record<ServeOptions>(
  {
    plugin,
    config,
    filters,
    listen,
    readonly: bool,
    watch: bool,
    signal,
    workers: whole(0, MAX_WORKERS),
    ...limits,
    maxInFlightBytes: whole(1, Number.MAX_SAFE_INTEGER),
    tls,
    maxConnections: whole(1, MAX_INT, Number.POSITIVE_INFINITY),
    handshakeTimeoutMs: milliseconds(1, MAX_INT),
    logger,
    stats: oneOf("counts", "latency"),
  },
  "",
);

export function checkServeOptions(options: unknown): asserts options is ServeOptions {
  checkAll("serve", options);
  const { plugin: given } = options as ServeOptions;
  if (given === undefined) fail("plugin", given, "a plugin, or the name or path of one");
}

export function checkCloseOptions(options: unknown): void {
  record<{ graceMs: unknown }>({ graceMs: limits.graceMs }, "")("close", options);
}
