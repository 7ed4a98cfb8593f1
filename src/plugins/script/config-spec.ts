// How plugins and filters in TypeScript declare their parameters, and the types of their values.

import type { AnySchema, SchemaOutput } from "./standard-schema.js";

export interface Common {
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

/** Checked by a schema of zod, valibot or others: of each value, if there is a list. */
export interface SchemaParameter extends Omit<Common, "required"> {
  readonly schema: AnySchema;
}

/** By name. Only the type, or the schema, for short: required, but a bool that is false by default. */
export type NamedParameters = Readonly<
  Record<string, ParameterSpec | ParameterType | SchemaParameter | AnySchema>
>;

/** Or a schema of all: values from the command line are text. */
export type ConfigSpec = NamedParameters | AnySchema;

/** The schema of a parameter that has one. */
export type SchemaOf<S> = S extends AnySchema
  ? S
  : S extends { readonly schema: infer Schema extends AnySchema }
    ? Schema
    : never;

export type TypeOf<S> = S extends { readonly type: infer T } ? T : S;

type ValueOf<S> = S extends { readonly list: true } ? readonly OneOf<S>[] : OneOf<S>;

type OneOf<S> = [SchemaOf<S>] extends [never] ? OneOfType<S> : SchemaOutput<SchemaOf<S>>;

type OneOfType<S> = S extends { readonly type: "enum"; readonly values: readonly (infer V)[] }
  ? V
  : TypeOf<S> extends "size" | "integer" | "time"
    ? number
    : TypeOf<S> extends "bool"
      ? S extends { readonly orPath: true }
        ? boolean | string
        : boolean
      : string;

type MayBeMissing<S> = [SchemaOf<S>] extends [never] ? MayTypeBeMissing<S> : false;

type MayTypeBeMissing<S> = S extends { readonly default: unknown } | { readonly list: true }
  ? false
  : S extends { readonly required: false }
    ? TypeOf<S> extends "bool"
      ? false
      : true
    : false;

/** The values that a declaration yields. */
export type ConfigOf<Spec extends ConfigSpec> = Spec extends AnySchema
  ? SchemaOutput<Spec>
  : {
      readonly [Key in keyof Spec]:
        | ValueOf<Spec[Key]>
        | (MayBeMissing<Spec[Key]> extends true ? undefined : never);
    };
