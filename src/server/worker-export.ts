// An export on several threads, each with an instance of its plugin in TypeScript, among which the
// clients are spread; worker.ts is what runs on such a thread.

import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { addon, packageDirectory } from "../addon/addon.js";
import type { Log, LogLevel } from "../addon/log.js";
import type { ConnectionCounts, PluginAbout } from "../addon/types.js";
import { AsyncnbdError, type ErrorCode } from "../errors.js";
import type { ChainSpec } from "../exports/chain.js";
import { BUILT_IN } from "../filters/filter.js";
import type { OnCall, Parameter } from "../plugins/life.js";
import type { ServerSettings } from "./server.js";
import type { ClientSession, ClientStream, OpenedSession, SessionEnd } from "./session.js";
import { NO_REQUESTS } from "./statistics.js";

/** The compiled one, wherever this is: a worker can run nothing else. */
const workerPath = join(packageDirectory, "dist", "server", "worker.cjs");

/** The threads of one export have the same. */
export interface WorkerSpec extends Omit<ChainSpec, "logTo" | "onReload"> {
  /** See joinThreadGroup. */
  readonly group: string;
  /** Lines of the log are for the main thread. */
  readonly sendsLog: boolean;
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
  | ({ readonly kind: "failed" } & PortableError)
  | {
      readonly kind: "reload";
      readonly path: string;
      readonly error: PortableError | undefined;
      readonly clientsLeft: number;
    }
  | { readonly kind: "uncaught"; readonly error: Error }
  | { readonly kind: "entered"; readonly call: string }
  | { readonly kind: "log"; readonly level: LogLevel; readonly text: string }
  | { readonly kind: "opened"; readonly client: number; readonly opened: OpenedSession }
  | {
      readonly kind: "ended";
      readonly client: number;
      readonly end: SessionEnd;
      readonly counts: ConnectionCounts;
    };

/** Of an AsyncnbdError: of classes, threads pass on only those of JavaScript itself. */
export interface PortableError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly isLogged: boolean;
  readonly cause?: Error;
  /** Of the cause: threads pass on no properties of errors but the language's. */
  readonly causeFacts?: SystemFacts;
}

/** What Node's errors of the system tell. */
export interface SystemFacts {
  readonly code?: unknown;
  readonly errno?: unknown;
  readonly syscall?: unknown;
}

type Result<Name extends StepName> = Awaited<ReturnType<WorkerSteps[Name]>>;

/** Who wants to hear of a client on a thread. */
interface ClientListener {
  onOpen(opened: OpenedSession): void;
  onEnd(end: SessionEnd, counts: ConnectionCounts): void;
}

/** Who waits for a step that the worker was asked for. */
interface Step {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** One thread, seen from the server's. */
class PluginThread {
  readonly #worker: Worker;
  readonly #log: Log | undefined;
  readonly #onReload: ChainSpec["onReload"];
  readonly #clients = new Map<number, ClientListener>();
  /** Hears of the calls at the end. */
  onCall: OnCall = () => {};
  #step: Step | undefined;
  #hasExited = false;

  constructor(workerData: WorkerSpec, { logTo, onReload }: Pick<ChainSpec, "logTo" | "onReload">) {
    this.#log = logTo;
    this.#onReload = onReload;
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

  serve(stream: ClientStream, settings: ServerSettings, listener: ClientListener): void {
    this.#clients.set(stream.number, listener);
    this.post({ kind: "serve", stream, settings });
  }

  setRef(isRef: boolean): void {
    if (isRef) this.#worker.ref();
    else this.#worker.unref();
  }

  async terminate(): Promise<void> {
    if (this.#hasExited) return;
    const exit = once(this.#worker, "exit");
    await this.#worker.terminate();
    await exit;
  }

  #receive(message: FromWorker): void {
    switch (message.kind) {
      case "done":
        this.#takeStep()?.resolve(message.value);
        break;
      case "failed":
        this.#takeStep()?.reject(received(message));
        break;
      case "uncaught":
        // As if the plugin were on the main thread; the worker goes on, for its clients' sake.
        throw message.error;
      case "entered":
        this.onCall(message.call);
        break;
      case "log":
        this.#log?.[message.level](message.text);
        break;
      case "reload": {
        const { path, error, clientsLeft } = message;
        this.#onReload?.({ path, clientsLeft, error: error && received(error) });
        break;
      }
      case "opened":
        this.#clients.get(message.client)?.onOpen(message.opened);
        break;
      case "ended":
        this.#takeClient(message.client)?.onEnd(message.end, message.counts);
        break;
    }
  }

  #takeStep(): Step | undefined {
    const step = this.#step;
    this.#step = undefined;
    return step;
  }

  #takeClient(number: number): ClientListener | undefined {
    const listener = this.#clients.get(number);
    this.#clients.delete(number);
    return listener;
  }

  #onExit(): void {
    this.#hasExited = true;
    this.#step?.reject(exited());
    const end: SessionEnd = { reason: "failed", detail: exited().message };
    for (const listener of this.#clients.values()) listener.onEnd(end, NO_REQUESTS);
    this.#clients.clear();
  }
}

function received({ code, message, isLogged, cause, causeFacts }: PortableError): AsyncnbdError {
  const known = cause === undefined ? {} : { cause: Object.assign(cause, causeFacts) };
  return new AsyncnbdError(code, message, { isLogged, ...known });
}

const exited = (): AsyncnbdError =>
  new AsyncnbdError("WORKER_EXITED", "a worker thread of the plugin exited unexpectedly");

/** A client's session on another thread. */
class WorkerSession implements ClientSession {
  readonly #thread: PluginThread;
  readonly #stream: ClientStream;
  readonly #ended: Promise<SessionEnd>;
  #onOpen: (opened: OpenedSession) => void = () => {};
  /** Known when the client has disconnected. */
  counts = NO_REQUESTS;

  constructor(thread: PluginThread, stream: ClientStream, settings: ServerSettings) {
    this.#thread = thread;
    this.#stream = stream;
    this.#ended = new Promise((resolve) => {
      thread.serve(stream, settings, {
        onOpen: (opened) => this.#onOpen(opened),
        onEnd: (end, counts) => {
          this.counts = counts;
          resolve(end);
        },
      });
    });
  }

  /** At once after it was made: then no message can have come. */
  run(onOpen: (opened: OpenedSession) => void = () => {}): Promise<SessionEnd> {
    this.#onOpen = onOpen;
    return this.#ended;
  }

  /** The process stays alive for the threads, or does not: see WorkerExport. */
  setRef(): void {}

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

  /** Loads the plugin's module on `count` threads; they keep no process alive once `signal` fires. */
  static async open(spec: ChainSpec, count: number, signal?: AbortSignal): Promise<WorkerExport> {
    const { plugin, filters, watch, logTo } = spec;
    if (filters.some((filter) => typeof filter !== "string"))
      throw new AsyncnbdError(
        "WORKERS_IMPOSSIBLE",
        "workers: give filters by name; functions cannot be passed to other threads",
      );
    const sendsLog = logTo?.native !== undefined;
    const workerSpec = { plugin, filters, watch, group: randomUUID(), sendsLog };
    const threads = Array.from({ length: count }, () => new PluginThread(workerSpec, spec));
    const leave = (): void => {
      for (const thread of threads) thread.setRef(false);
    };
    signal?.addEventListener("abort", leave);
    try {
      const [about] = await onAll(threads, "open");
      return new WorkerExport(threads, about as PluginAbout);
    } finally {
      signal?.removeEventListener("abort", leave);
    }
  }

  /** As for a chain: of all there is, only filters of ours have flags. */
  setDebugFlag(name: string, flag: string, value: number): boolean | undefined {
    const parts = [this.about, ...(this.about.filters ?? [])];
    const found = parts.find((part) => part.name === name);
    if (found?.path === BUILT_IN) return addon().setFilterDebugFlag(name, flag, value);
    return found && false;
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

  get pluginNames(): readonly string[] {
    return [this.about.name];
  }

  /** Whether the process stays alive for its threads, as it does at first. */
  setRef(isRef: boolean): void {
    for (const thread of this.#threads) thread.setRef(isRef);
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

  async end(onCall: OnCall = () => {}): Promise<void> {
    for (const thread of this.#threads) thread.onCall = onCall;
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
