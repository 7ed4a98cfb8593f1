// The metadata contexts that a plugin in TypeScript offers besides base:allocation.

import { AsyncnbdError } from "../../errors.js";
import type { MetaContext, Plugin } from "./definition.js";

type Contexts = NonNullable<Plugin["metaContexts"]>;
type StatusCallback = MetaContext<unknown>["status"];

/** As many as one block status can ask about, with base:allocation. */
const MAX_CONTEXTS = 63;

/** A namespace, a colon and a leaf; "base:" is the specification's. */
const NAME = /^(?!base:)[^:]+:.+$/;

/** The same contexts with another way to their statuses. */
export function mapStatus(
  contexts: Contexts,
  statusOf: (context: MetaContext<unknown>) => StatusCallback,
): Contexts {
  return Object.fromEntries(
    Object.entries(contexts).map(([name, context]) => [
      name,
      Object.assign(Object.create(context), { status: statusOf(context) }) as typeof context,
    ]),
  );
}

export function checkContexts(contexts: Contexts | undefined, path: string): void {
  const entries = Object.entries(contexts ?? {});
  if (entries.length > MAX_CONTEXTS)
    throw new AsyncnbdError("PLUGIN_INVALID", `${path}: more than ${MAX_CONTEXTS} metaContexts`);
  for (const [name, { bits = 32, status }] of entries) {
    if (!NAME.test(name))
      throw new AsyncnbdError(
        "PLUGIN_INVALID",
        `${path}: metaContexts: "${name}" is not of the form x-NAMESPACE:LEAF`,
      );
    if ((bits !== 32 && bits !== 64) || typeof status !== "function")
      throw new AsyncnbdError(
        "PLUGIN_INVALID",
        `${path}: metaContexts: ${name} needs status(), and bits must be 32 or 64`,
      );
  }
}
