// What checkModel() is given to test, and how it opens it: a server with some connections.

import type { Client } from "../client/client.js";
import { connect } from "../client/connect.js";
import type { Plugin } from "../plugins/script/definition.js";
import type { Awaitable } from "../plugins/script/requests.js";
import type { NbdServer } from "../server/nbd-server.js";
import { serve } from "../server/serve.js";
import type { ServeOptions } from "../server/serve-types.js";

/** A plugin with what serve() is to know of it. */
export interface Source {
  readonly plugin: Plugin | string;
  /** Over `config` of checkModel(). */
  readonly config?: ServeOptions["config"];
}

/** A plugin with a store of its own, for one case. */
export interface Setup extends Source {
  /**
   * A power cut: returns a plugin over what is in the store at this moment. The old one is still open,
   * and closed after that: what it does then must not come into the new one's store, so give that a
   * copy. May be called several times.
   */
  readonly restart?: () => Awaitable<Source | Plugin | string>;
  /** After the case, when all is closed. */
  readonly end?: () => Awaitable<void>;
}

/** A plugin, as serve() takes it, or what makes a new one for each case. */
export type Tested = Plugin | string | (() => Awaitable<Setup | Plugin | string>);

export interface OpenOptions {
  readonly config?: ServeOptions["config"];
  readonly filters?: ServeOptions["filters"];
  /** If the export says that several make sense; else there is one. */
  readonly connections: number;
}

const asSource = (given: Source | Plugin | string): Source =>
  typeof given === "object" && "plugin" in given ? given : { plugin: given };

export async function setUp(tested: Tested): Promise<Setup> {
  return asSource(typeof tested === "function" ? await tested() : tested);
}

export const nameOf = ({ plugin }: Source): string =>
  typeof plugin === "string" ? plugin : plugin.name;

/** Requests without an answer do not keep a server from closing for longer. */
const GRACE_MS = 1000;

/** An open server, and clients of it. */
export class Opened {
  readonly #setup: Setup;
  readonly #options: OpenOptions;
  #server: NbdServer;
  #clients: readonly Client[] = [];

  private constructor(setup: Setup, options: OpenOptions, server: NbdServer) {
    this.#setup = setup;
    this.#options = options;
    this.#server = server;
  }

  static async open(setup: Setup, options: OpenOptions): Promise<Opened> {
    const opened = new Opened(setup, options, await start(setup, options));
    try {
      await opened.#connect();
      return opened;
    } catch (error) {
      await opened.abandon();
      throw error;
    }
  }

  get first(): Client {
    return this.#clients[0] as Client;
  }

  client(number: number): Client {
    return this.#clients[number % this.#clients.length] as Client;
  }

  get connections(): number {
    return this.#clients.length;
  }

  get canRestart(): boolean {
    return this.#setup.restart !== undefined;
  }

  /** Leaves, and comes back. */
  async reconnect(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.close()));
    await this.#connect();
  }

  /** As after a power cut. */
  async restart(): Promise<void> {
    const source = asSource(await (this.#setup.restart as NonNullable<Setup["restart"]>)());
    await this.abandon();
    this.#server = await start({ config: this.#setup.config ?? {}, ...source }, this.#options);
    await this.#connect();
  }

  /** Closes the server too. */
  async close(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.close()));
    await this.#server.close({ graceMs: GRACE_MS });
  }

  /** Without a word of goodbye. */
  async abandon(): Promise<void> {
    for (const client of this.#clients) client.destroy();
    await this.#server.close({ graceMs: GRACE_MS });
  }

  async #connect(): Promise<void> {
    const uri = this.#server.uri as string; // it listens
    const first = await connect(uri);
    this.#clients = [first];
    const more = first.canMultiConn ? this.#options.connections - 1 : 0;
    const others = await Promise.all(Array.from({ length: more }, () => connect(uri)));
    this.#clients = [first, ...others];
  }
}

function start(source: Source, { config, filters }: OpenOptions): Promise<NbdServer> {
  return serve({
    plugin: source.plugin,
    config: { ...config, ...source.config },
    ...(filters === undefined ? {} : { filters }),
  });
}
