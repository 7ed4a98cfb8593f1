// A plugin behind a real server and a real client, in the process of its test.

import type { Client } from "../client/client.js";
import { type ConnectOptions, connect } from "../client/connect.js";
import type { Plugin } from "../plugins/script/definition.js";
import type { NbdServer } from "../server/nbd-server.js";
import { serve } from "../server/serve.js";
import type { ServeOptions } from "../server/serve-types.js";

export interface MountOptions extends Omit<ServeOptions, "plugin" | "listen" | "tls"> {
  /** Of the client that mount() connects. */
  readonly client?: Omit<ConnectOptions, "tls">;
  /** close() rejects with what the server has emitted as errors, after all is closed. By default not. */
  readonly throwsServerErrors?: boolean;
}

/** A client of the plugin, and its server. close() ends both. */
export interface Mounted extends Client {
  readonly server: NbdServer;
  /** For other clients: a unix socket that nobody but this user can reach. */
  readonly uri: string;
}

/**
 * Serves a plugin on a private unix socket and connects a client. The plugin is what serve() takes:
 * an object, a C plugin's name or path, a module's path. Rejects as serve() and connect() do.
 *
 * @example
 * await using disk = await mount(plugin, { config: { size: "1M" } });
 * assert.equal((await disk.read(0, 512))[0], 0);
 */
export async function mount(plugin: Plugin | string, options: MountOptions = {}): Promise<Mounted> {
  const { client: clientOptions, throwsServerErrors = false, ...serverOptions } = options;
  const server = await serve({ ...serverOptions, plugin });
  const errors: Error[] = [];
  server.on("error", (error) => errors.push(error));
  const uri = server.uri as string; // it listens
  try {
    const client = await connect(uri, clientOptions);
    const closing = closer(client, server, throwsServerErrors ? errors : []);
    return Object.assign(client, { server, uri, close: closing });
  } catch (error) {
    await server.close();
    throw error;
  }
}

/** Ends both once, whatever the client says of it. */
function closer(client: Client, server: NbdServer, errors: readonly Error[]): () => Promise<void> {
  const closeClient = client.close.bind(client);
  const closeBoth = async (): Promise<void> => {
    try {
      await closeClient();
    } finally {
      await server.close();
    }
    if (errors.length > 0)
      throw new AggregateError(errors, `the server: ${errors.map((e) => e.message).join("; ")}`);
  };
  let closed: Promise<void> | undefined;
  return () => {
    closed ??= closeBoth();
    return closed;
  };
}
