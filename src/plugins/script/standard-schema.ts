// Standard Schema, version 1 (https://standardschema.dev): what zod, valibot, arktype and others have
// in common, by its specification. Types and three questions; no package is needed for it.

/** A schema of any library that keeps to the specification. */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly "~standard": {
    readonly version: 1;
    /** The library's name. */
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    /** For the compiler alone. */
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };

export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

// biome-ignore lint/suspicious/noExplicitAny: of whatever types
export type AnySchema = StandardSchema<any, any>;

type TypesOf<S extends AnySchema> = NonNullable<S["~standard"]["types"]>;
export type SchemaInput<S extends AnySchema> = TypesOf<S>["input"];
export type SchemaOutput<S extends AnySchema> = TypesOf<S>["output"];

/** Some libraries' are functions. */
export function isSchema(value: unknown): value is AnySchema {
  const { "~standard": standard } = Object(value) as { "~standard"?: unknown };
  const { version, validate } = Object(standard) as { version?: unknown; validate?: unknown };
  return version === 1 && typeof validate === "function";
}

export const vendorOf = (schema: AnySchema): string => schema["~standard"].vendor;

/** The key of the object that an issue is about; undefined: the object itself. */
export function keyOf({ path = [] }: SchemaIssue): string | undefined {
  const [first] = path;
  if (first === undefined) return undefined;
  return String(typeof first === "object" ? first.key : first);
}

/** What is known of an object's field, for people. */
export interface SchemaField {
  readonly name: string;
  readonly description: string | undefined;
  readonly default: unknown;
  readonly isRequired: boolean;
}

/** Of schemas that also keep to Standard JSON Schema; undefined: nobody can say. */
export function fieldsOf(schema: AnySchema): readonly SchemaField[] | undefined {
  const { jsonSchema } = schema["~standard"] as {
    jsonSchema?: { input?: (options: { target: string }) => unknown };
  };
  try {
    const described = jsonSchema?.input?.({ target: "draft-2020-12" });
    const { properties, required = [] } = Object(described) as {
      properties?: Readonly<Record<string, { description?: string; default?: unknown }>>;
      required?: readonly string[];
    };
    if (properties === undefined) return undefined;
    return Object.entries(properties).map(([name, { description, default: value }]) => ({
      name,
      description,
      default: value,
      isRequired: required.includes(name),
    }));
  } catch {
    return undefined; // it has types that have no JSON
  }
}
