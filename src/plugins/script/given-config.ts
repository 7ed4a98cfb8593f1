// What a program gives for parameters, as the declarations of plugins and filters have it.

import type { SchemaOf, TypeOf } from "./config-spec.js";
import type { AnySchema, SchemaInput } from "./standard-schema.js";

/** Text as on the command line, or the value itself. */
export type ConfigValue = string | number | boolean;

/** Of a plugin whose declaration is not known to the compiler. An array: given more than once. */
export type LooseConfig = Readonly<Record<string, ConfigValue | readonly ConfigValue[]>>;

/** Where there are no parameters. */
export type NoParameters = Readonly<Record<string, never>>;

/** What a command line could give, too: no dates, no objects. Schemas that take anything take that. */
type Expressible<T> = unknown extends T ? ConfigValue : Extract<T, ConfigValue>;

type InputOf<S> = Expressible<SchemaInput<SchemaOf<S>>>;

/** Of one schema of all: a parameter that takes an array is given more than once. */
type ExpressibleField<T> = unknown extends T
  ? ConfigValue | readonly ConfigValue[]
  :
      | Extract<T, ConfigValue | undefined>
      | (T extends readonly (infer One)[] ? readonly Expressible<One>[] : never);

type ExpressibleFields<T> = { readonly [Key in keyof T]: ExpressibleField<T[Key]> };

type OneOf<S> = [SchemaOf<S>] extends [never] ? OneOfType<S> : InputOf<S>;

type OneOfType<S> = S extends { readonly type: "enum"; readonly values: readonly (infer V)[] }
  ? V
  : TypeOf<S> extends "size" | "integer" | "time"
    ? number | string
    : TypeOf<S> extends "bool"
      ? boolean | string
      : string;

type Given<S> = S extends { readonly list: true } | { readonly lastCounts: true }
  ? OneOf<S> | readonly OneOf<S>[]
  : OneOf<S>;

type AliasOf<S> = S extends { readonly aliases: readonly (infer Alias extends string)[] }
  ? Alias
  : never;

/** One that has other names may be given by one of them. */
type IsNeeded<S> = [SchemaOf<S>] extends [never]
  ? IsTypeNeeded<S>
  : S extends { readonly list: true } | { readonly aliases: readonly string[] }
    ? false
    : undefined extends SchemaInput<SchemaOf<S>>
      ? false
      : true;

type IsTypeNeeded<S> =
  TypeOf<S> extends "bool"
    ? false
    : S extends
          | { readonly default: unknown }
          | { readonly required: false }
          | { readonly aliases: readonly string[] }
      ? false
      : true;

type IsAny<T> = 0 extends 1 & T ? true : false;

type Declared<Spec> = {
  readonly [Key in keyof Spec as IsNeeded<Spec[Key]> extends true ? Key : never]: Given<Spec[Key]>;
} & {
  readonly [Key in keyof Spec as IsNeeded<Spec[Key]> extends true ? never : Key]?: Given<Spec[Key]>;
} & {
  readonly [Key in keyof Spec as AliasOf<Spec[Key]>]?: Given<Spec[Key]>;
};

/** By a declaration; unknown where it declares nothing. */
export type GivenConfig<Spec> =
  IsAny<Spec> extends true
    ? LooseConfig
    : Spec extends AnySchema
      ? ExpressibleFields<SchemaInput<Spec>>
      : string extends keyof Spec
        ? LooseConfig
        : [keyof Spec] extends [never]
          ? unknown
          : Declared<Spec>;
