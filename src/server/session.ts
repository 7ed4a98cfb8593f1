// One client: performs what its handshake asks for, then hands it to the native connection.

import type {
  EndOfTransmission,
  NativeSession,
  NativeTurns,
  OpenedExport,
  RequestCounts,
} from "../addon/types.js";
import { ConnectionTurn } from "../exports/connection-queue.js";
import type { Effect, Outcome } from "../handshake/effects.js";
import { type HandshakeSettings, handshake } from "../handshake/machine.js";
import type { HandshakeCalls, NewSession } from "../plugins/plugin-instance.js";

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

/** Time that a client has, but for what it spends waiting for others. */
class TimeLimit {
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
  readonly #calls: HandshakeCalls;
  readonly #settings: SessionSettings;
  readonly #turn: ConnectionTurn;
  #exportIsOpen = false;
  #counts = NO_REQUESTS; // at the end

  /** Takes the native session over. `queue`: see connectionQueueFor. */
  constructor(
    { native, calls }: NewSession,
    settings: SessionSettings,
    queue: NativeTurns | undefined,
  ) {
    this.#native = native;
    this.#calls = calls;
    this.#settings = settings;
    this.#turn = new ConnectionTurn(queue, native);
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
      this.#turn.end();
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
    if (this.#isWaiting) this.#turn.end();
  }

  get counts(): RequestCounts {
    return this.#native.counts() ?? this.#counts;
  }

  #isTransmitting = false;
  #isWaiting = false; // for its turn

  async #negotiate(): Promise<Outcome> {
    if (!(await this.#calls.preconnect()))
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
        return this.#calls.metaContexts(effect.exportName);
      case "listExports":
        return this.#calls.listExports();
      case "openExport":
        return this.#open(effect.name, limit);
      case "exportDescription":
        return this.#calls.exportDescription();
      case "blockSizes":
        return this.#calls.blockSizes();
      case "closeExport":
        await this.#calls.closeExport();
        this.#exportIsOpen = false;
        this.#turn.end();
        return undefined;
    }
  }

  /** undefined: the client has left before its turn. */
  async #open(name: string, limit: TimeLimit): Promise<OpenedExport | null | undefined> {
    limit.pause();
    this.#isWaiting = true;
    const hasTurn = await this.#turn.begin();
    this.#isWaiting = false;
    limit.resume();
    if (!hasTurn) return undefined;
    const opened = await this.#calls.openExport(name);
    this.#exportIsOpen = opened !== null;
    if (opened === null) this.#turn.end();
    return opened;
  }
}
