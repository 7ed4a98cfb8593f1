// One client: performs what its handshake asks for, then hands it to the native connection.

import type { EndOfTransmission, NativeSession, RequestCounts } from "../addon/types.js";
import type { Effect, Outcome } from "../handshake/effects.js";
import { type HandshakeSettings, handshake } from "../handshake/machine.js";
import type { HandshakeCalls } from "../plugins/plugin-instance.js";

export interface SessionSettings extends HandshakeSettings {
  readonly handshakeTimeoutMs: number;
  /** Of Addon.loadTls, unless TLS is off. */
  readonly tlsContext: number | undefined;
  readonly threads: number;
  readonly spinUs: number;
  readonly graceMs: number;
  readonly stallTimeoutMs: number;
  readonly maxConnectionInFlightBytes: number;
  /** See TransmissionSettings. */
  readonly shortcuts: boolean;
}

/** One client, from its handshake to its end; on this thread or on another. */
export interface ClientSession {
  /** Resolves when all of it is closed. Once. */
  run(): Promise<void>;
  /** Graceful: requests that have arrived are answered, in this time; a handshake just ends. */
  stop(graceMs: number): void;
  /** Immediate. */
  abort(): void;
  /** Of its requests so far. */
  readonly counts: RequestCounts;
}

export const NO_REQUESTS: RequestCounts = {
  requests: 0,
  failedRequests: 0,
  readBytes: 0,
  writtenBytes: 0,
  inFlight: 0,
};

const tooLate = (limitMs: number): Outcome => ({
  kind: "close",
  isRefused: true,
  reason: `the handshake took longer than ${limitMs / 1000} s`,
});

export class Session implements ClientSession {
  readonly #native: NativeSession;
  readonly #calls: HandshakeCalls;
  readonly #settings: SessionSettings;
  #exportIsOpen = false;
  #counts = NO_REQUESTS; // at the end

  /** Takes the native session over. */
  constructor(native: NativeSession, calls: HandshakeCalls, settings: SessionSettings) {
    this.#native = native;
    this.#calls = calls;
    this.#settings = settings;
  }

  /** Rejects only if the system fails us. */
  async run(): Promise<void> {
    this.#native.logEvent("connected");
    try {
      const outcome = await this.#negotiate();
      if (outcome.kind === "transmit") {
        this.#exportIsOpen = false; // the connection's to close, from here on
        const { failure, ...counts } = await this.#transmit(outcome);
        this.#counts = counts;
        if (failure !== undefined) this.#native.logTrouble(`connection failed: ${failure}`);
      } else if (outcome.isRefused) {
        this.#native.logTrouble(`refused: ${outcome.reason}`);
      }
      this.#native.logEvent(this.#farewell(outcome));
    } finally {
      if (this.#exportIsOpen) await this.#calls.closeExport();
      this.#native.abort();
    }
  }

  #farewell(outcome: Outcome): string {
    if (outcome.kind === "close") return `disconnected: ${outcome.reason}`;
    const { requests, failedRequests, readBytes, writtenBytes } = this.#counts;
    return (
      `disconnected: ${requests} requests, ${failedRequests} failed, ` +
      `${readBytes} bytes read, ${writtenBytes} bytes written`
    );
  }

  #transmit(agreed: Outcome & { kind: "transmit" }): Promise<EndOfTransmission> {
    const { threads, spinUs, graceMs, stallTimeoutMs, shortcuts } = this.#settings;
    return this.#native.start({
      ...agreed,
      threads,
      spinUs,
      graceMs,
      stallTimeoutMs,
      maxInFlightBytes: this.#settings.maxConnectionInFlightBytes,
      shortcuts,
    });
  }

  stop(graceMs: number): void {
    if (this.#isTransmitting) this.#native.stop(graceMs);
    else this.#native.abort();
  }

  abort(): void {
    this.#native.abort();
  }

  get counts(): RequestCounts {
    return this.#native.counts() ?? this.#counts;
  }

  #isTransmitting = false;

  async #negotiate(): Promise<Outcome> {
    if (!(await this.#calls.preconnect()))
      return { kind: "close", reason: "the plugin rejected the client", isRefused: true };
    const { handshakeTimeoutMs } = this.#settings;
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.#native.abort();
    }, handshakeTimeoutMs);
    try {
      const machine = handshake(this.#settings);
      let step = machine.next();
      while (!step.done) step = machine.next(await this.#perform(step.value));
      // Nothing may come between the end of the handshake and the start of the connection.
      this.#isTransmitting = step.value.kind === "transmit";
      if (isLate && !this.#isTransmitting) return tooLate(handshakeTimeoutMs);
      return step.value;
    } finally {
      clearTimeout(timer);
    }
  }

  async #perform(effect: Effect): Promise<unknown> {
    switch (effect.kind) {
      case "read":
        return this.#native.read(effect.bytes);
      case "skip":
        return this.#native.skip(effect.bytes);
      case "send":
        return this.#native.write(effect.data);
      case "upgradeTls":
        return this.#settings.tlsContext === undefined
          ? "it is not configured"
          : this.#native.upgradeTls(this.#settings.tlsContext);
      case "metaContexts":
        return this.#calls.metaContexts(effect.exportName);
      case "listExports":
        return this.#calls.listExports();
      case "openExport": {
        const opened = await this.#calls.openExport(effect.name);
        this.#exportIsOpen = opened !== null;
        return opened;
      }
      case "exportDescription":
        return this.#calls.exportDescription();
      case "blockSizes":
        return this.#calls.blockSizes();
      case "closeExport":
        await this.#calls.closeExport();
        this.#exportIsOpen = false;
        return undefined;
    }
  }
}
