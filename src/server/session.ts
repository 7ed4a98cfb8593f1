// One client: performs what its handshake asks for, then hands it to the native connection.

import { addon } from "../addon/addon.js";
import type {
  EndOfTransmission,
  NativeServer,
  NativeSession,
  RequestCounts,
} from "../addon/types.js";
import type { Clock } from "../exports/export-client.js";
import type { ExportTable } from "../exports/table.js";
import { Visit } from "../exports/visit.js";
import type { Effect, Outcome } from "../handshake/effects.js";
import { type HandshakeSettings, handshake } from "../handshake/machine.js";

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

/** Descriptors of a client's stream, the same for a socket; and its number, from 1 on. */
export interface ClientStream {
  readonly inFd: number;
  readonly outFd: number;
  readonly number: number;
  readonly readonly: boolean;
  /** Calls of a C plugin in progress at once, if it can take more than one. */
  readonly threads: number;
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

/** Time that a client has, but for what it spends waiting for others. */
class TimeLimit implements Clock {
  readonly #onOver: () => void;
  #leftMs: number;
  #begun = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(limitMs: number, onOver: () => void) {
    this.#leftMs = limitMs;
    this.#onOver = onOver;
    this.resume();
  }

  resume(): void {
    this.#begun = performance.now();
    this.#timer = setTimeout(this.#onOver, this.#leftMs);
  }

  pause(): void {
    clearTimeout(this.#timer);
    this.#leftMs = Math.max(0, this.#leftMs - (performance.now() - this.#begun));
  }
}

export class Session implements ClientSession {
  readonly #native: NativeSession;
  readonly #visit: Visit;
  readonly #settings: SessionSettings;
  #isTransmitting = false;
  #counts = NO_REQUESTS; // at the end

  /** Takes the stream over. */
  constructor(
    server: NativeServer,
    exports: ExportTable,
    stream: ClientStream,
    settings: SessionSettings,
  ) {
    this.#native = new (addon().NativeSession)(server, stream);
    const { readonly, threads } = stream;
    this.#visit = new Visit(exports, { session: this.#native, readonly, threads });
    this.#settings = settings;
  }

  /** Rejects only if the system fails us. */
  async run(): Promise<void> {
    this.#native.logEvent("connected");
    try {
      const outcome = await this.#negotiate();
      if (outcome.kind === "transmit") {
        this.#visit.handOver();
        const { failure, ...counts } = await this.#transmit(outcome);
        this.#counts = counts;
        if (failure !== undefined) this.#native.logTrouble(`connection failed: ${failure}`);
      } else if (outcome.isRefused) {
        this.#native.logTrouble(`refused: ${outcome.reason}`);
      }
      this.#native.logEvent(this.#farewell(outcome));
    } finally {
      await this.#visit.leave();
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
    else this.#giveUp();
  }

  abort(): void {
    this.#giveUp();
  }

  #giveUp(): void {
    this.#native.abort();
    this.#visit.giveUp();
  }

  get counts(): RequestCounts {
    return this.#native.counts() ?? this.#counts;
  }

  async #negotiate(): Promise<Outcome> {
    if (!(await this.#visit.begin()))
      return { kind: "close", reason: "the plugin rejected the client", isRefused: true };
    const { handshakeTimeoutMs } = this.#settings;
    let isLate = false;
    const limit = new TimeLimit(handshakeTimeoutMs, () => {
      isLate = true;
      this.#native.abort();
    });
    try {
      const machine = handshake(this.#settings);
      let step = machine.next();
      while (!step.done) step = machine.next(await this.#perform(step.value, limit));
      // Nothing may come between the end of the handshake and the start of the connection.
      this.#isTransmitting = step.value.kind === "transmit";
      if (isLate && !this.#isTransmitting) return tooLate(handshakeTimeoutMs);
      return step.value;
    } finally {
      limit.pause();
    }
  }

  async #perform(effect: Effect, limit: TimeLimit): Promise<unknown> {
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
        return this.#visit.metaContexts(effect.exportName);
      case "listExports":
        return this.#visit.listExports();
      case "openExport":
        return this.#visit.openExport(effect.name, effect.wanted, limit);
      case "closeExport":
        return this.#visit.closeExport();
    }
  }
}
