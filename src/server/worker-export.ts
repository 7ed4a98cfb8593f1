// An export on several threads, each with an instance of its plugin in TypeScript, among which the
// clients are spread; worker.ts is what runs on such a thread.

import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { packageDirectory } from "../addon/addon.js";
import type { PluginAbout, RequestCounts } from "../addon/types.js";
import { AsyncnbdError, type ErrorCode } from "../errors.js";
import type { ChainSpec } from "../exports/chain.js";
import type { Parameter } from "../plugins/life.js";
import type { ServerSettings } from "./server.js";
import { type ClientSession, type ClientStream, NO_REQUESTS } from "./session.js";

/** The compiled one, wherever this is: a worker can run nothing else. */
const workerPath = join(packageDirectory, "dist", "server", "worker.cjs");

/** The threads of one export have the same. */
export interface WorkerSpec extends ChainSpec {
  /** See joinThreadGroup. */
  readonly group: string;
}

/** The steps of an export's life that a worker is asked for, with their results. */
export interface WorkerSteps {
  open(): Promise<PluginAbout>;
  load(): Promise<void>;
  getReady(parameters: readonly Parameter[]): Promise<readonly string[]>;
  afterFork(): Promise<void>;
  end(): Promise<void>;
}
export type StepName = keyof WorkerSteps;

export type ToWorker =
  | { readonly kind: "step"; readonly name: StepName; readonly argument: unknown }
  | {
      readonly kind: "serve";
      readonly stream: ClientStream;
      readonly settings: ServerSettings;
    }
  | { readonly kind: "stop"; readonly client: number; readonly graceMs: number }
  | { readonly kind: "abort"; readonly client: number };

export type FromWorker =
  | { readonly kind: "done"; readonly value: unknown }
  | { readonly kind: "failed"; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: "uncaught"; readonly error: Error }
  | { readonly kind: "ended"; readonly client: number; readonly counts: RequestCounts };

type Result<Name extends StepName> = Awaited<ReturnType<WorkerSteps[Name]>>;

/** One thread, seen from the server's. */
class PluginThread {
  readonly #worker: Worker;
  readonly #clients = new Map<number, (counts: RequestCounts) => void>();
  #step: { resolve: (value: unknown) => void; reject: (error: unknown) => void } | undefined;
  #hasExited = false;

  constructor(workerData: WorkerSpec) {
    this.#worker = new Worker(workerPath, { workerData });
    this.#worker.on("message", (message: FromWorker) => this.#receive(message));
    this.#worker.on("error", (error) => {
      throw error;
    });
    this.#worker.on("exit", () => this.#onExit());
  }

  get clients(): number {
    return this.#hasExited ? Number.POSITIVE_INFINITY : this.#clients.size;
  }

  /** One at a time. */
  run<Name extends StepName>(name: Name, argument?: unknown): Promise<Result<Name>> {
    return new Promise((resolve, reject) => {
      if (this.#hasExited) return reject(exited());
      this.#step = { resolve: resolve as (value: unknown) => void, reject };
      this.post({ kind: "step", name, argument });
    });
  }

  post(message: ToWorker): void {
    this.#worker.postMessage(message);
  }

  /** Resolves when the client has disconnected. */
  serve(stream: ClientStream, settings: ServerSettings): Promise<RequestCounts> {
    return new Promise((resolve) => {
      this.#clients.set(stream.number, resolve);
      this.post({ kind: "serve", stream, settings });
    });
  }

  async terminate(): Promise<void> {
    if (this.#hasExited) return;
    const exit = once(this.#worker, "exit");
    await this.#worker.terminate();
    await exit;
  }

  #receive(message: FromWorker): void {
    // As if the plugin were on the main thread; the worker goes on, for its clients' sake.
    if (message.kind === "uncaught") throw message.error;
    if (message.kind === "ended") {
      this.#clients.get(message.client)?.(message.counts);
      this.#clients.delete(message.client);
      return;
    }
    const step = this.#step;
    this.#step = undefined;
    if (message.kind === "done") step?.resolve(message.value);
    else step?.reject(new AsyncnbdError(message.code, message.message));
  }

  #onExit(): void {
    this.#hasExited = true;
    this.#step?.reject(exited());
    for (const resolve of this.#clients.values()) resolve(NO_REQUESTS);
    this.#clients.clear();
  }
}

const exited = (): AsyncnbdError =>
  new AsyncnbdError("PLUGIN", "a worker thread of the plugin exited unexpectedly");

/** A client's session on another thread. */
class WorkerSession implements ClientSession {
  readonly #thread: PluginThread;
  readonly #stream: ClientStream;
  readonly #ended: Promise<void>;
  /** Known when the client has disconnected. */
  counts = NO_REQUESTS;

  constructor(thread: PluginThread, stream: ClientStream, settings: ServerSettings) {
    this.#thread = thread;
    this.#stream = stream;
    this.#ended = thread.serve(stream, settings).then((counts) => {
      this.counts = counts;
    });
  }

  run(): Promise<void> {
    return this.#ended;
  }

  stop(graceMs: number): void {
    this.#thread.post({ kind: "stop", client: this.#stream.number, graceMs });
  }

  abort(): void {
    this.#thread.post({ kind: "abort", client: this.#stream.number });
  }
}

export class WorkerExport {
  readonly about: PluginAbout;
  readonly isShutdownRequested = false;
  parts: readonly string[] = [];
  readonly #threads: readonly PluginThread[];

  private constructor(threads: readonly PluginThread[], about: PluginAbout) {
    this.#threads = threads;
    this.about = about;
  }

  /** Loads the plugin's module on `count` threads. */
  static async open({ plugin, filters, watch }: ChainSpec, count: number): Promise<WorkerExport> {
    if (filters.some((filter) => typeof filter !== "string"))
      throw new AsyncnbdError(
        "CONFIG",
        "workers: give filters by name; functions cannot be passed to other threads",
      );
    const workerSpec = { plugin, filters, watch, group: randomUUID() };
    const threads = Array.from({ length: count }, () => new PluginThread(workerSpec));
    const [about] = await onAll(threads, "open");
    return new WorkerExport(threads, about as PluginAbout);
  }

  /** As for a chain: neither plugins in TypeScript nor their filters have flags. */
  setDebugFlag(name: string): boolean | undefined {
    const parts = [this.about, ...(this.about.filters ?? [])];
    return parts.some((part) => part.name === name) ? false : undefined;
  }

  async load(): Promise<void> {
    await onAll(this.#threads, "load");
  }

  async getReady(parameters: readonly Parameter[]): Promise<void> {
    const [parts = []] = await onAll(this.#threads, "getReady", parameters);
    this.parts = [`${this.#threads.length} worker threads`, ...parts];
  }

  async afterFork(): Promise<void> {
    await onAll(this.#threads, "afterFork");
  }

  get chains(): (readonly string[])[] {
    return [this.parts];
  }

  /** On the thread that has the fewest. */
  newClientSession(stream: ClientStream, settings: ServerSettings): ClientSession {
    const thread = this.#threads.reduce((a, b) => (b.clients < a.clients ? b : a));
    const maxInFlightBytes = Math.ceil(settings.maxInFlightBytes / this.#threads.length);
    return new WorkerSession(thread, stream, { ...settings, maxInFlightBytes });
  }

  /** Its threads have no clients any more; plugins in TypeScript leave no request unanswered. */
  async drained(): Promise<boolean> {
    return true;
  }

  async end(): Promise<void> {
    await onAll(this.#threads, "end");
    await terminateAll(this.#threads);
  }
}

/** Where one fails, none goes on. */
async function onAll<Name extends StepName>(
  threads: readonly PluginThread[],
  name: Name,
  argument?: unknown,
): Promise<Result<Name>[]> {
  const settled = await Promise.allSettled(threads.map((thread) => thread.run(name, argument)));
  const failed = settled.find((result) => result.status === "rejected");
  if (failed !== undefined) {
    await terminateAll(threads);
    throw failed.reason;
  }
  return settled.map((result) => (result as PromiseFulfilledResult<Result<Name>>).value);
}

async function terminateAll(threads: readonly PluginThread[]): Promise<void> {
  await Promise.all(threads.map((thread) => thread.terminate()));
}
