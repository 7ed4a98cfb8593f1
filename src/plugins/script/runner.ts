// Serves clients with exports that JavaScript opens, from getReady to the end.

import type { Log } from "../../addon/log.js";
import type { NativeHold } from "../../addon/types.js";
import { AsyncnbdError } from "../../errors.js";
import type { Client, ExportSource } from "../export-source.js";
import { seesClients } from "../native-chain.js";
import type { HandshakeCalls } from "../plugin-instance.js";
import { ScriptBridge } from "./bridge.js";
import { Chain } from "./chain.js";
import { describeThrown, isExpected } from "./errno.js";
import { ScriptHandshakeCalls } from "./handshake-calls.js";
import { isNative, type Layer } from "./layer.js";
import { whilePending } from "./pending.js";

/** Runs a callback of a plugin of this name; its failure becomes one of the server's. */
export async function callPlugin(
  plugin: string,
  what: string,
  callback: () => unknown,
): Promise<void> {
  const name = `${plugin}: ${what}`;
  try {
    await whilePending(name, callback);
  } catch (error) {
    if (error instanceof AsyncnbdError) throw error;
    const where = isExpected(error) ? plugin : name;
    throw new AsyncnbdError("PLUGIN_FAILED", `${where}: ${describeThrown(error)}`, {
      cause: error,
    });
  }
}

/** Nothing would ask it about clients, so it would let in those that it should keep out. */
function refuseUnheard(layer: Layer): void {
  if (isNative(layer) && seesClients(layer))
    throw new AsyncnbdError(
      "FILTER_MISPLACED",
      `filter ${layer.name}: it needs to see clients before they open an export, which is not ` +
        "possible behind a filter or middleware in TypeScript; put it in front of that",
    );
}

export class ScriptRunner {
  readonly #source: ExportSource;
  readonly #chain: Chain;
  readonly #bridge: ScriptBridge;

  /** Clients meet the first layer. */
  constructor(source: ExportSource, layers: readonly Layer[], log: Log) {
    const front = layers.findIndex((layer) => !isNative(layer));
    for (const layer of front === -1 ? [] : layers.slice(front)) refuseUnheard(layer);
    this.#source = source;
    this.#chain = new Chain(layers, source, { hasSessions: true, log });
    const checkBuffers = process.env.ASYNCNBD_CHECK_BUFFERS === "1";
    this.#bridge = new ScriptBridge({ checkBuffers, log });
  }

  async getReady(hold: NativeHold): Promise<void> {
    await callPlugin(this.#source.name, "getReady", () => this.#chain.getReady(hold));
  }

  callsFor(client: Client): HandshakeCalls {
    const { session, readonly } = client;
    session.enter(this.#source.name, this.#chain.front?.facts.number);
    const info = {
      readonly,
      get tls() {
        return session.isTls;
      },
    };
    return new ScriptHandshakeCalls(this.#source, this.#chain, this.#bridge, info, client);
  }

  /** A native filter wants the server to stop, and may have said so before there was one. */
  get isShutdownRequested(): boolean {
    return this.#chain.isShutdownRequested;
  }

  /** After the last client. */
  async closeForAll(): Promise<void> {
    await this.#chain.closeForAll();
    await this.#source.callsOver?.();
  }

  /** The same. More than once is once. */
  async end(): Promise<void> {
    this.#bridge.native.endLoop();
    await callPlugin(this.#source.name, "cleanup", () => this.#chain.cleanup());
  }
}
