// The layers in front of a plugin, native filters and middleware in any order, which open its exports
// one through the other. What they keep of disks lasts from getReady to cleanup.

import { addon } from "../../addon/addon.js";
import type { Log } from "../../addon/log.js";
import type { NativeFilter, NativeHold, OpenedExport } from "../../addon/types.js";
import { checkedExport, guardedExport } from "../checked-export.js";
import { type Client, diskOf, type ExportSource } from "../export-source.js";
import { NativeChain } from "../native-chain.js";
import { answered, exportOfNative, WANTS_ALL } from "../native-export.js";
import { handOver } from "./adopted-export.js";
import { ScriptBridge } from "./bridge.js";
import { isNative, type Layer, type MiddlewareDefinition, type OpenExport } from "./layer.js";
import type { OpenInfo } from "./requests.js";
import { takingTurns } from "./turns.js";

type Open = (info: OpenInfo, client: Client) => Promise<OpenExport>;

/** Middleware of one chain, and what it keeps of disks. */
class MiddlewareLayer {
  readonly definition: MiddlewareDefinition;
  readonly #source: ExportSource;
  readonly #shared = new Map<string, unknown>(); // by disk

  constructor(definition: MiddlewareDefinition, source: ExportSource) {
    this.definition = definition;
    this.#source = source;
  }

  async open(behind: Open, info: OpenInfo, client: Client): Promise<OpenExport> {
    const { name, open } = this.definition;
    const opened: OpenExport[] = [];
    const next = async ({ exportName, readonly, tls }: OpenInfo): Promise<OpenExport> => {
      const it = takingTurns(
        await behind({ exportName, readonly, tls }, client),
        this.#source.requestTimeoutMs,
      );
      opened.push(it);
      return guardedExport(name, it);
    };
    const shared = async <State>(make: () => State): Promise<State> => {
      const disk = await diskOf(this.#source, info, client);
      if (!this.#shared.has(disk)) this.#shared.set(disk, make());
      return this.#shared.get(disk) as State;
    };
    const made = await open.call(this.definition, next, { ...info, shared });
    try {
      return checkedExport(name, made);
    } catch (error) {
      for (const it of opened) await it.close(); // which middleware thinks is in use
      throw error;
    }
  }

  forget(): void {
    this.#shared.clear();
  }
}

/** Layers of one kind that stand together; clients meet the first. */
type Run = NativeChain | MiddlewareLayer;

function runsOf(layers: readonly Layer[], source: ExportSource, log: Log): Run[] {
  const runs: Run[] = [];
  let natives: NativeFilter[] = [];
  const endNatives = (): void => {
    if (natives.length > 0) runs.push(new NativeChain(natives, log));
    natives = [];
  };
  for (const layer of layers) {
    if (isNative(layer)) {
      natives.push(layer);
      continue;
    }
    endNatives();
    runs.push(new MiddlewareLayer(layer, source));
  }
  endNatives();
  return runs;
}

async function endOf(run: Run): Promise<void> {
  if (run instanceof NativeChain) return run.drop();
  run.forget();
  await run.definition.cleanup?.();
}

export interface ChainOptions {
  /** It is sessions that open its exports: they may run what clients meet first. */
  readonly hasSessions: boolean;
  readonly log: Log;
}

export class Chain {
  /** The native filters that clients meet first, which are their sessions' to run. */
  readonly front: NativeChain | undefined;
  /** Opens an export behind `front`. */
  readonly open: Open;
  readonly #source: ExportSource;
  readonly #runs: readonly Run[];
  #ready: Run[] = [];
  #bridge: ScriptBridge | undefined;

  /** Without sessions there is no front, and `open` opens in front of all. */
  constructor(layers: readonly Layer[], source: ExportSource, { hasSessions, log }: ChainOptions) {
    this.#source = source;
    this.#runs = runsOf(layers, source, log);
    const [first, ...rest] = this.#runs;
    this.front = hasSessions && first instanceof NativeChain ? first : undefined;
    this.open = this.#openerOf(this.front === undefined ? this.#runs : rest);
  }

  /** The first is made ready last: it is the first that can get a request. */
  async getReady(hold?: NativeHold): Promise<void> {
    for (const run of this.#runs.toReversed()) {
      if (run instanceof NativeChain) await run.getReady(this.#source.callModel, hold);
      else await run.definition.getReady?.();
      this.#ready.unshift(run);
    }
  }

  get isShutdownRequested(): boolean {
    return this.#runs.some((run) => run instanceof NativeChain && run.isShutdownRequested);
  }

  /** After the last client: what filters have opened for all clients. */
  async closeForAll(): Promise<void> {
    for (const run of this.#ready) if (run instanceof NativeChain) await run.closeForAll();
  }

  /** The same. */
  async cleanup(): Promise<void> {
    this.#bridge?.native.endLoop();
    const failures: unknown[] = [];
    for (const run of this.#ready.splice(0)) {
      try {
        await endOf(run);
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  #openerOf(runs: readonly Run[]): Open {
    const source = this.#source;
    const last = runs.at(-1);
    if (last instanceof NativeChain && source.openBehind !== undefined) {
      const { openBehind } = source;
      return this.#through(runs.slice(0, -1), (info, client) => openBehind(last, info, client));
    }
    return this.#through(runs, (info, client) => source.open(info, client));
  }

  #through(runs: readonly Run[], open: Open): Open {
    return runs.reduceRight<Open>(
      (behind, run) => (info, client) =>
        run instanceof NativeChain
          ? this.#openNative(run, behind, info, client)
          : run.open(behind, info, client),
      open,
    );
  }

  /** Native filters between JavaScript and JavaScript. */
  async #openNative(
    chain: NativeChain,
    behind: Open,
    info: OpenInfo,
    client: Client,
  ): Promise<OpenExport> {
    this.#bridge ??= new ScriptBridge();
    const opened = await openedBehind(chain, behind, info, client);
    const native = new (addon().NativeExport)(undefined, client.session, {
      threads: client.threads,
      readonly: info.readonly,
      chain: chain.facts.number,
      isForAll: client.isForAll ?? false,
    });
    let adopted: OpenedExport | null = null;
    try {
      const opening = { source: this.#source, info, client, chain, open: behind };
      adopted = await handOver(opened, native, this.#bridge, opening, WANTS_ALL);
    } finally {
      if (adopted === null) native.release();
    }
    const contexts = chain.facts.opensBehind ? [] : (opened?.facts.contexts ?? []);
    return exportOfNative(native, answered(adopted), contexts);
  }
}

/** What is behind the filters, for this client; undefined: one of them opens it for all. */
export async function openedBehind(
  chain: NativeChain | undefined,
  open: Open,
  info: OpenInfo,
  client: Client,
): Promise<OpenExport | undefined> {
  if (chain?.facts.opensForAll) return undefined;
  const readonly = info.readonly || (chain?.facts.opensReadonly ?? false);
  return open({ ...info, readonly }, client);
}
