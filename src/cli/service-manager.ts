// Tells the service manager that has started us how the server is: sd_notify(3).

import { addon } from "../addon/addon.js";

const VARIABLE = "NOTIFY_SOCKET";
/** A name that nobody else knows. */
const KEPT_IN = "ASYNCNBD_NOTIFY_SOCKET";

/** Clients may come and go faster than anybody reads. */
const STATUS_INTERVAL_MS = 1_000;

const clientsIn = (count: number): string => `${count} client${count === 1 ? "" : "s"}`;

export class ServiceManager {
  /** A path, or an abstract name after "@"; undefined if nobody wants to know. */
  readonly #address: string | undefined;
  #plugin = "";
  #clients = 0;
  #timer: NodeJS.Timeout | undefined;
  #isServing = false;

  /**
   * Takes the variable away: what --run or a plugin starts must not speak for us. But a plugin may
   * execute the process anew before it is ready, with our environment.
   */
  constructor(env: NodeJS.ProcessEnv) {
    this.#address = env[VARIABLE] || env[KEPT_IN] || undefined;
    delete env[VARIABLE];
    if (this.#address !== undefined) env[KEPT_IN] = this.#address;
  }

  /** The plugin is ready. */
  started(env: NodeJS.ProcessEnv): void {
    delete env[KEPT_IN];
  }

  /** Clients can connect. */
  ready(plugin: string): void {
    this.#plugin = plugin;
    this.#isServing = true;
    this.#tell(["READY=1", this.#status]);
  }

  /** Requests in flight are being answered, and the plugin ends. */
  stopping(): void {
    this.#isServing = false;
    clearTimeout(this.#timer);
    this.#tell(["STOPPING=1", `STATUS=Stopping, with ${clientsIn(this.#clients)}`]);
  }

  /** One has come, or one has gone. */
  clientsChanged(change: 1 | -1): void {
    this.#clients += change;
    if (this.#address === undefined || this.#timer !== undefined || !this.#isServing) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#tell([this.#status]);
    }, STATUS_INTERVAL_MS).unref();
  }

  get #status(): string {
    return `STATUS=Serving ${this.#plugin} to ${clientsIn(this.#clients)}`;
  }

  #tell(lines: readonly string[]): void {
    if (this.#address === undefined) return;
    const failure = addon().notifyManager(this.#address, lines.join("\n"));
    if (failure !== undefined)
      addon().logWarning(`${VARIABLE}=${this.#address}: cannot send ${lines[0]}: ${failure}`);
  }
}
