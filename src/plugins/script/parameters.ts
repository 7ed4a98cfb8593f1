// Parameters of plugins and filters in TypeScript: their check, and their help.

import { readFileSync, readSync } from "node:fs";
import { resolve } from "node:path";
import { parseInteger } from "../../config/integer.js";
import { didYouMean } from "../../config/nearest.js";
import { formatSize, parseSize } from "../../config/size.js";
import { formatTimeMs, parseTimeMs } from "../../config/time.js";
import { AsyncnbdError, messageOf } from "../../errors.js";
import type {
  Common,
  ConfigSpec,
  NamedParameters,
  NumberParameter,
  ParameterSpec,
  SchemaParameter,
} from "./config-spec.js";
import {
  type AnySchema,
  fieldsOf,
  isSchema,
  keyOf,
  type SchemaIssue,
  type SchemaResult,
  vendorOf,
} from "./standard-schema.js";

type SingleValue = string | number | boolean;
type CheckedParameter = SchemaParameter & Common & { readonly type: "schema" };
type KnownParameter = ParameterSpec | CheckedParameter;
type Values = Readonly<Record<string, unknown>>;

/** The long form of a declaration. */
function specOf(declared: NamedParameters[string]): KnownParameter {
  if (typeof declared === "string") return { type: declared };
  if (isSchema(declared)) return { type: "schema", schema: declared };
  return "schema" in declared ? { ...declared, type: "schema" } : declared;
}

/** None where a schema checks all: nobody can say which there are. */
const declaredBy = (config: ConfigSpec | undefined): NamedParameters =>
  config === undefined || isSchema(config) ? {} : config;

export function magicKeyOf(config: ConfigSpec | undefined): string | undefined {
  return Object.entries(declaredBy(config)).find(([, declared]) => specOf(declared).magic)?.[0];
}

/** undefined: there is none. */
function defaultOf(spec: KnownParameter): unknown {
  if (spec.type === "schema") return undefined;
  if (spec.list) {
    if (spec.default !== undefined) return [spec.default];
    return isRequired(spec) ? undefined : [];
  }
  return spec.default ?? (spec.type === "bool" ? false : undefined);
}

const isRequired = (spec: KnownParameter): boolean =>
  spec.type !== "schema" &&
  spec.default === undefined &&
  spec.required !== false &&
  spec.type !== "bool";

function fail(key: string, text: string, wanted: string): never {
  throw new AsyncnbdError("PARAMETER_INVALID", `parameter ${key}=${text}: ${wanted}`);
}

/** One parameter's value from the text on the command line. */
function parseValue(key: string, spec: KnownParameter, text: string): SingleValue {
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
    default: // a schema sees to it later; or of no type that there is: see faultsOf
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
    const words = `parameter ${key}: ${messageOf(error)}`; // no value in it
    throw new AsyncnbdError("PARAMETER_INVALID", words, { cause: error });
  }
  if (text === "-" || text === "+")
    throw new AsyncnbdError(
      "PARAMETER_INVALID",
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
function checkValue(key: string, spec: KnownParameter, value: unknown): SingleValue {
  if (spec.type === "schema") return value as SingleValue;
  if (typeof value === "string") return parseValue(key, spec, value);
  const wanted = ["size", "integer", "time"].includes(spec.type) ? "number" : "boolean";
  if (typeof value !== wanted || (wanted === "boolean" && spec.type !== "bool"))
    throw new AsyncnbdError(
      "PARAMETER_INVALID",
      `parameter ${key}: expected a ${spec.type}, not a ${typeof value}`,
    );
  if (typeof value === "number")
    return inRange(key, `${value}`, spec as NumberParameter, value, `a ${spec.type}`);
  return value as boolean;
}

/** Collects parameters as they are given, and says what is wrong or missing. */
export class ParameterSet {
  readonly #specs: ReadonlyMap<string, KnownParameter>;
  readonly #whole: CheckedParameter | undefined; // where one schema checks all: what each is
  readonly #aliases = new Map<string, string>();
  readonly #owner: string;
  readonly #values = new Map<string, SingleValue[]>();
  readonly #lists = new Set<string>(); // those that a program has given as arrays, for #whole

  /** `owner`: for messages, such as "plugin ram". */
  constructor(owner: string, config: ConfigSpec | undefined) {
    this.#owner = owner;
    if (isSchema(config)) this.#whole = { type: "schema", schema: config, list: true };
    this.#specs = new Map(
      Object.entries(declaredBy(config)).map(([key, declared]) => [key, specOf(declared)]),
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

  /**
   * An array: each of its values. `others`: parameters of filters or the plugin behind, for "did you
   * mean".
   */
  set(key: string, value: unknown, others: readonly string[] = []): void {
    const name = this.#nameOf(key);
    const spec = this.#whole ?? this.#specs.get(name);
    if (spec === undefined) {
      const hint = didYouMean(key, [...this.names, ...others]);
      throw new AsyncnbdError(
        "PARAMETER_UNKNOWN",
        `${this.#owner} has no parameter "${key}"` +
          (hint || `; it has ${this.names.join(", ") || "none"}`),
      );
    }
    if (Array.isArray(value) && this.#whole !== undefined) {
      this.#lists.add(name);
      if (!this.#values.has(name)) this.#values.set(name, []); // of an array without values, too
    }
    for (const one of [value].flat()) this.#setOne(key, spec, one);
  }

  #setOne(key: string, spec: KnownParameter, value: unknown): void {
    const name = this.#nameOf(key);
    const given = this.#values.get(name);
    if (given === undefined || spec.lastCounts)
      this.#values.set(name, [checkValue(key, spec, value)]);
    else if (spec.list) given.push(checkValue(key, spec, value));
    else
      throw new AsyncnbdError(
        "PARAMETER_REPEATED",
        `${this.#owner}: parameter ${key} is given more than once`,
      );
  }

  /** What is known so far: with defaults, but without what is missing, or for a schema to say. */
  known(): Values {
    const result: Record<string, unknown> = {};
    for (const [key, spec] of this.#specs) {
      const value = spec.type === "schema" ? undefined : this.#valueOf(key, spec);
      if (value !== undefined) result[key] = value;
    }
    return result;
  }

  /** All values, when none is to come any more. Rejects if one is missing, or schemas say so. */
  async complete(): Promise<Values> {
    if (this.#whole !== undefined) return this.#checkAll(this.#whole.schema);
    const result: Record<string, unknown> = {};
    for (const [key, spec] of this.#specs) {
      const value =
        spec.type === "schema" ? await this.#checkOne(key, spec) : this.#valueOf(key, spec);
      if (value !== undefined) result[key] = value;
      else if (isRequired(spec))
        throw new AsyncnbdError("PARAMETER_MISSING", `${this.#owner} needs the parameter ${key}=…`);
    }
    return result;
  }

  #valueOf(key: string, spec: KnownParameter): unknown {
    const given = this.#values.get(key);
    return given === undefined ? defaultOf(spec) : spec.list ? given : given[0];
  }

  async #checkOne(key: string, { schema, list }: SchemaParameter): Promise<unknown> {
    const given = this.#values.get(key) ?? (list ? [] : [undefined]);
    const checked: unknown[] = [];
    for (const value of given) checked.push(await this.#validate(schema, value, () => key));
    return list ? checked : checked[0];
  }

  async #checkAll(schema: AnySchema): Promise<Values> {
    const given = [...this.#values].map(([key, all]) => [
      key,
      all.length === 1 && !this.#lists.has(key) ? all[0] : all,
    ]);
    return (await this.#validate(schema, Object.fromEntries(given), keyOf)) as Values;
  }

  /** `about`: which parameter an issue is about. */
  async #validate(
    schema: AnySchema,
    value: unknown,
    about: (issue: SchemaIssue) => string | undefined,
  ): Promise<unknown> {
    let result: SchemaResult<unknown>;
    try {
      result = await schema["~standard"].validate(value);
    } catch (cause) {
      const words = `${this.#owner}: the check of its parameters failed: ${messageOf(cause)}`;
      throw new AsyncnbdError("PLUGIN_INVALID", words, { cause });
    }
    if (typeof result !== "object" || result === null)
      throw new AsyncnbdError(
        "PLUGIN_INVALID",
        `${this.#owner}: the check of its parameters returned ${result} instead of a result: see Standard Schema`,
      );
    if (result.issues === undefined) return result.value;
    const keys = result.issues.map(about);
    const words = result.issues.map(({ message }, i) => {
      const key = keys[i];
      return key === undefined ? message : `parameter ${key}: ${message}`;
    });
    const [key] = keys;
    const isMissing = key !== undefined && !this.#values.has(key);
    throw new AsyncnbdError(
      isMissing ? "PARAMETER_MISSING" : "PARAMETER_INVALID",
      `${this.#owner}: ${words.join("; ")}`,
    );
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
  schema: ["schema"],
};

/** What is wrong with declarations, in words. */
export function faultsOf(config: ConfigSpec | undefined): string[] {
  return Object.entries(declaredBy(config)).flatMap(([name, declared]) => {
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

const PLACEHOLDERS: Readonly<Record<KnownParameter["type"], string>> = {
  string: "TEXT",
  path: "PATH",
  secret: "SECRET",
  size: "SIZE",
  integer: "N",
  time: "SECS|NNms",
  bool: "true|false",
  enum: "",
  schema: "VALUE",
};

const TYPES = Object.keys(PLACEHOLDERS).filter((type) => type !== "schema");

/** As on the command line. */
function format({ type }: KnownParameter, value: unknown): string {
  if (typeof value !== "number") return String(value);
  return type === "size" ? formatSize(value) : type === "time" ? formatTimeMs(value) : `${value}`;
}

function valuesOf(spec: KnownParameter): string {
  if (spec.type === "enum") return spec.values.join("|");
  const orPath = spec.type === "bool" && spec.orPath ? "|/PATH" : "";
  return PLACEHOLDERS[spec.type] + orPath;
}

/** Lines for --help, one or more a parameter. */
export function helpOf(config: ConfigSpec | undefined): string | undefined {
  if (isSchema(config)) return helpOfSchema(config);
  const lines = Object.entries(declaredBy(config)).map(([key, declared]) => {
    const spec = specOf(declared);
    const values = valuesOf(spec);
    const value = spec.type === "schema" ? undefined : spec.default;
    const facts = [
      isRequired(spec) ? "required" : "",
      value !== undefined && value !== "" ? `default ${format(spec, value)}` : "",
      spec.type === "schema" ? `checked by ${vendorOf(spec.schema)}` : "",
      spec.list ? "may be given more than once" : "",
      spec.magic ? `"${key}=" may be left out` : "",
    ].filter((fact) => fact !== "");
    return helpLine(`${key}=${values}`, spec.description, facts);
  });
  return lines.length > 0 ? lines.join("\n") : undefined;
}

function helpLine(left: string, description = "", facts: readonly string[]): string {
  const right = [description, facts.length > 0 ? `(${facts.join(", ")})` : ""];
  return `${left.padEnd(24)} ${right.filter((part) => part !== "").join(" ")}`.trimEnd();
}

function helpOfSchema(schema: AnySchema): string {
  const vendor = vendorOf(schema);
  const fields = fieldsOf(schema);
  if (fields === undefined)
    return helpLine("KEY=VALUE", `checked by a schema of ${vendor}, which does not list them`, []);
  const lines = fields.map(({ name, description, default: value, isRequired }) =>
    helpLine(`${name}=VALUE`, description, [
      ...(isRequired ? ["required"] : []),
      ...(value === undefined ? [] : [`default ${value}`]),
      `checked by ${vendor}`,
    ]),
  );
  return lines.join("\n");
}
