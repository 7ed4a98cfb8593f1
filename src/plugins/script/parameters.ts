// Typed parameters of plugins in TypeScript: their declaration, their check, their help.

import { readFileSync, readSync } from "node:fs";
import { resolve } from "node:path";
import { parseInteger } from "../../config/integer.js";
import { didYouMean } from "../../config/nearest.js";
import { formatSize, parseSize } from "../../config/size.js";
import { formatTimeMs, parseTimeMs } from "../../config/time.js";
import { AsyncnbdError, messageOf } from "../../errors.js";

interface Common {
  readonly description?: string;
  /** A parameter is required unless it has a default or says false here. */
  readonly required?: boolean;
  /** A bare VALUE on the command line means this one. */
  readonly magic?: boolean;
  /** It may be given more than once: its value is an array, empty if it is not required. */
  readonly list?: boolean;
  /** It may be given more than once: the last value counts. */
  readonly lastCounts?: boolean;
  /** Other names for it, which the help does not show. */
  readonly aliases?: readonly string[];
}

export interface TextParameter extends Common {
  /** A path is made absolute. A secret's value may be -FD, + for a prompt or +FILE as with nbdkit. */
  readonly type: "string" | "path" | "secret";
  readonly default?: string;
}

export interface NumberParameter extends Common {
  /** A size is in bytes, and may be given as 10M; a time in milliseconds, as text 2 (seconds), 2ms. */
  readonly type: "size" | "integer" | "time";
  readonly default?: number;
  readonly minimum?: number;
  readonly maximum?: number;
}

export interface BooleanParameter extends Common {
  readonly type: "bool";
  /** The value may be an absolute path instead, and is text then. */
  readonly orPath?: boolean;
  readonly default?: boolean;
}

export interface EnumParameter extends Common {
  readonly type: "enum";
  readonly values: readonly string[];
  readonly default?: string;
}

export type ParameterSpec = TextParameter | NumberParameter | BooleanParameter | EnumParameter;
export type ParameterType = Exclude<ParameterSpec["type"], "enum">;

/** By name. Only the type, for short: required, but a bool that is false by default. */
export type ConfigSpec = Readonly<Record<string, ParameterSpec | ParameterType>>;

type TypeOf<S> = S extends { readonly type: infer T } ? T : S;

type ValueOf<S> = S extends { readonly list: true } ? readonly OneOf<S>[] : OneOf<S>;

type OneOf<S> = S extends { readonly type: "enum"; readonly values: readonly (infer V)[] }
  ? V
  : TypeOf<S> extends "size" | "integer" | "time"
    ? number
    : TypeOf<S> extends "bool"
      ? S extends { readonly orPath: true }
        ? boolean | string
        : boolean
      : string;

type MayBeMissing<S> = S extends { readonly default: unknown } | { readonly list: true }
  ? false
  : S extends { readonly required: false }
    ? TypeOf<S> extends "bool"
      ? false
      : true
    : false;

/** The values that a declaration yields. */
export type ConfigOf<Spec extends ConfigSpec> = {
  readonly [Key in keyof Spec]:
    | ValueOf<Spec[Key]>
    | (MayBeMissing<Spec[Key]> extends true ? undefined : never);
};

export type ParameterValue = string | number | boolean | readonly (string | number | boolean)[];
type SingleValue = string | number | boolean;

/** The long form of a declaration. */
function specOf(declared: ParameterSpec | ParameterType): ParameterSpec {
  return typeof declared === "string" ? { type: declared } : declared;
}

export function magicKeyOf(config: ConfigSpec | undefined): string | undefined {
  return Object.entries(config ?? {}).find(([, declared]) => specOf(declared).magic)?.[0];
}

/** undefined: there is none. */
function defaultOf(spec: ParameterSpec): ParameterValue | undefined {
  if (spec.list) {
    if (spec.default !== undefined) return [spec.default];
    return isRequired(spec) ? undefined : [];
  }
  return spec.default ?? (spec.type === "bool" ? false : undefined);
}

const isRequired = (spec: ParameterSpec): boolean =>
  spec.default === undefined && spec.required !== false && spec.type !== "bool";

function fail(key: string, text: string, wanted: string): never {
  throw new AsyncnbdError("CONFIG", `parameter ${key}=${text}: ${wanted}`);
}

/** One parameter's value from the text on the command line. */
function parseValue(key: string, spec: ParameterSpec, text: string): SingleValue {
  switch (spec.type) {
    case "path":
      return resolve(text);
    case "secret":
      return readSecret(key, text);
    case "bool":
      return spec.orPath && text.startsWith("/") ? text : parseBoolean(key, text);
    case "enum":
      if (spec.values.includes(text)) return text;
      return fail(key, text, `use ${spec.values.join(", ")}`);
    case "size":
      return inRange(key, text, spec, parseSize(text), "a size: use a number and k, m, g or t");
    case "integer":
      return inRange(key, text, spec, parseInteger(text), "a whole number");
    case "time":
      return inRange(
        key,
        text,
        spec,
        parseTimeMs(text),
        "a time: use a number and s, ms, us or ns",
      );
    default: // or of no type that there is: see faultsOf
      return text;
  }
}

function inRange(
  key: string,
  text: string,
  spec: NumberParameter,
  value: number,
  wanted: string,
): number {
  const least = spec.type === "integer" ? Number.MIN_SAFE_INTEGER : 0;
  const { minimum = least, maximum = Number.MAX_SAFE_INTEGER } = spec;
  if (!(spec.type === "time" ? Number.isFinite(value) : Number.isSafeInteger(value)))
    return fail(key, text, `not ${wanted}`);
  if (value < minimum) return fail(key, text, `the minimum is ${format(spec, minimum)}`);
  if (value > maximum) return fail(key, text, `the maximum is ${format(spec, maximum)}`);
  return value;
}

/** nbdkit_parse_bool's words. */
function parseBoolean(key: string, text: string): boolean {
  const word = text.toLowerCase();
  if (["1", "true", "t", "yes", "y", "on"].includes(word)) return true;
  if (["0", "false", "f", "no", "n", "off"].includes(word)) return false;
  return fail(key, text, "use true or false");
}

/** nbdkit_read_password's ways, but for the prompt: a file, or a descriptor, up to a newline. */
function readSecret(key: string, text: string): string {
  try {
    if (/^-\d+$/.test(text)) return firstLine(readDescriptor(Number(text.slice(1))));
    if (text.startsWith("+") && text.length > 1) return firstLine(readFileSync(text.slice(1)));
  } catch (error) {
    throw new AsyncnbdError("CONFIG", `parameter ${key}: ${messageOf(error)}`); // no value in it
  }
  if (text === "-" || text === "+")
    throw new AsyncnbdError(
      "CONFIG",
      `parameter ${key}: a prompt is not supported; use +FILE or -FD`,
    );
  return text;
}

const firstLine = (bytes: Buffer): string => bytes.toString("utf8").split("\n", 1)[0] as string;

function readDescriptor(fd: number): Buffer {
  const chunk = Buffer.alloc(4096);
  return chunk.subarray(0, readSync(fd, chunk));
}

/** A value that code has given instead of text. */
function checkValue(key: string, spec: ParameterSpec, value: unknown): SingleValue {
  if (typeof value === "string") return parseValue(key, spec, value);
  const wanted = ["size", "integer", "time"].includes(spec.type) ? "number" : "boolean";
  if (typeof value !== wanted || (wanted === "boolean" && spec.type !== "bool"))
    throw new AsyncnbdError(
      "CONFIG",
      `parameter ${key}: expected a ${spec.type}, not a ${typeof value}`,
    );
  if (typeof value === "number")
    return inRange(key, `${value}`, spec as NumberParameter, value, `a ${spec.type}`);
  return value as boolean;
}

/** Collects parameters as they are given, and says what is wrong or missing. */
export class ParameterSet {
  readonly #specs: ReadonlyMap<string, ParameterSpec>;
  readonly #aliases = new Map<string, string>();
  readonly #owner: string;
  readonly #values = new Map<string, SingleValue[]>();

  /** `owner`: for messages, such as "plugin ram". */
  constructor(owner: string, config: ConfigSpec | undefined) {
    this.#owner = owner;
    this.#specs = new Map(
      Object.entries(config ?? {}).map(([key, declared]) => [key, specOf(declared)]),
    );
    for (const [key, { aliases = [] }] of this.#specs)
      for (const alias of aliases) this.#aliases.set(alias, key);
  }

  has(key: string): boolean {
    return this.#specs.has(this.#nameOf(key));
  }

  #nameOf(key: string): string {
    return this.#aliases.get(key) ?? key;
  }

  get names(): readonly string[] {
    return [...this.#specs.keys()];
  }

  /** `others`: parameters of filters or the plugin behind, for "did you mean". */
  set(key: string, value: unknown, others: readonly string[] = []): void {
    const name = this.#nameOf(key);
    const spec = this.#specs.get(name);
    if (spec === undefined) {
      const hint = didYouMean(key, [...this.names, ...others]);
      throw new AsyncnbdError(
        "CONFIG",
        `${this.#owner} has no parameter "${key}"` +
          (hint || `; it has ${this.names.join(", ") || "none"}`),
      );
    }
    const given = this.#values.get(name);
    if (given === undefined || spec.lastCounts)
      this.#values.set(name, [checkValue(key, spec, value)]);
    else if (spec.list) given.push(checkValue(key, spec, value));
    else
      throw new AsyncnbdError("CONFIG", `${this.#owner}: parameter ${key} is given more than once`);
  }

  /** All values, with defaults; `checked` false leaves out those that are required and missing. */
  values(checked = true): Readonly<Record<string, ParameterValue>> {
    const result: Record<string, ParameterValue> = {};
    for (const [key, spec] of this.#specs) {
      const given = this.#values.get(key);
      const value = given === undefined ? defaultOf(spec) : spec.list ? given : given[0];
      if (value !== undefined) result[key] = value;
      else if (checked && isRequired(spec))
        throw new AsyncnbdError("CONFIG", `${this.#owner} needs the parameter ${key}=…`);
    }
    return result;
  }
}

/** By the keys of a declaration's long form. */
const SPEC_KEYS = [
  ...["type", "description", "required", "magic", "list", "lastCounts", "aliases", "default"],
];
const MORE_KEYS: Readonly<Record<string, readonly string[]>> = {
  size: ["minimum", "maximum"],
  integer: ["minimum", "maximum"],
  time: ["minimum", "maximum"],
  enum: ["values"],
  bool: ["orPath"],
};

/** What is wrong with declarations, in words. */
export function faultsOf(config: ConfigSpec | undefined): string[] {
  return Object.entries(config ?? {}).flatMap(([name, declared]) => {
    const spec = specOf(declared);
    const of = `the parameter ${name}`;
    if (!Object.hasOwn(PLACEHOLDERS, spec.type))
      return [
        `${of} has the unknown type "${spec.type}"` +
          (didYouMean(String(spec.type), TYPES) || `: use ${TYPES.join(", ")}`),
      ];
    const known = [...SPEC_KEYS, ...(MORE_KEYS[spec.type] ?? [])];
    const odd = Object.keys(spec).filter((key) => !known.includes(key));
    return odd.map((key) => `${of} has no property "${key}"${didYouMean(key, known)}`);
  });
}

const PLACEHOLDERS: Readonly<Record<ParameterSpec["type"], string>> = {
  string: "TEXT",
  path: "PATH",
  secret: "SECRET",
  size: "SIZE",
  integer: "N",
  time: "SECS|NNms",
  bool: "true|false",
  enum: "",
};

const TYPES = Object.keys(PLACEHOLDERS);

/** As on the command line. */
function format({ type }: ParameterSpec, value: unknown): string {
  if (typeof value !== "number") return String(value);
  return type === "size" ? formatSize(value) : type === "time" ? formatTimeMs(value) : `${value}`;
}

function valuesOf(spec: ParameterSpec): string {
  if (spec.type === "enum") return spec.values.join("|");
  const orPath = spec.type === "bool" && spec.orPath ? "|/PATH" : "";
  return PLACEHOLDERS[spec.type] + orPath;
}

/** Lines for --help, one or more a parameter. */
export function helpOf(config: ConfigSpec | undefined): string | undefined {
  const lines = Object.entries(config ?? {}).map(([key, declared]) => {
    const spec = specOf(declared);
    const values = valuesOf(spec);
    const facts = [
      isRequired(spec) ? "required" : "",
      spec.default !== undefined && spec.default !== ""
        ? `default ${format(spec, spec.default)}`
        : "",
      spec.list ? "may be given more than once" : "",
      spec.magic ? `"${key}=" may be left out` : "",
    ].filter((fact) => fact !== "");
    const left = `${key}=${values}`.padEnd(24);
    const right = [spec.description ?? "", facts.length > 0 ? `(${facts.join(", ")})` : ""];
    return `${left} ${right.filter((part) => part !== "").join(" ")}`.trimEnd();
  });
  return lines.length > 0 ? lines.join("\n") : undefined;
}
