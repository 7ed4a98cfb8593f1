// The server inside another program: serve().

import type { FilterChoice } from "../filters/choice.js";
import type { Plugin } from "../plugins/script/definition.js";
import type { NbdServer } from "./nbd-server.js";
import { checkServeOptions } from "./serve-options.js";
import type { ServeOptionsFor } from "./serve-types.js";
import { Start } from "./start.js";

/**
 * Starts a server in this program. Resolves when clients can connect; rejects with an
 * AsyncnbdError that says what is wrong with the plugin, its parameters or the socket. `config` has
 * the types of the plugin's declaration, and of its filters', unless one is given by name.
 *
 * @example
 * await using server = await serve({ plugin: disk, config: { size: "1G" } });
 * console.log(server.uri);
 */
export async function serve<
  P extends Plugin | string,
  const F extends readonly FilterChoice[] = readonly [],
>(given: ServeOptionsFor<P, F>): Promise<NbdServer> {
  const options: unknown = given;
  checkServeOptions(options);
  const { signal } = options;
  signal?.throwIfAborted();
  const start = new Start(options);
  return signal === undefined ? start.run() : runUnlessAborted(start, signal);
}

async function runUnlessAborted(start: Start, signal: AbortSignal): Promise<NbdServer> {
  let onAbort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => {
      start.leave();
      reject(signal.reason);
    };
  });
  signal.addEventListener("abort", onAbort);
  try {
    return await Promise.race([aborted, start.run()]);
  } finally {
    signal.removeEventListener("abort", onAbort); // it may outlive many servers
  }
}
