// One client: performs what its handshake asks for, then hands it to the native connection.

import { addon } from "../addon/addon.js";
import type {
  ConnectionCounts,
  EndOfTransmission,
  NativeLatencies,
  NativeServer,
  NativeSession,
  OpenedExport,
  TransmissionEnd,
} from "../addon/types.js";
import { type ClientLimits, clientLimits } from "../client-limits.js";
import type { Clock } from "../exports/export-client.js";
import type { ExportTable } from "../exports/table.js";
import { Visit } from "../exports/visit.js";
import type { Effect, Outcome } from "../handshake/effects.js";
import { type HandshakeSettings, handshake } from "../handshake/machine.js";
import { NO_REQUESTS } from "./statistics.js";

export interface SessionSettings extends HandshakeSettings, ClientLimits {
  readonly handshakeTimeoutMs: number;
  /** Of Addon.loadTls, unless TLS is off. */
  readonly tlsContext: number | undefined;
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

/** What a client has opened. */
export interface OpenedSession {
  /** As the plugin knows it: "" only if its default export has no name. */
  readonly exportName: string;
  readonly isTls: boolean;
}

/**
 * Why a client has gone: as a transmission ends, or "refused": it could not have what it wanted;
 * "timeout": its handshake took too long; "stopped": the server was closed.
 */
export type EndReason = TransmissionEnd | "refused" | "timeout" | "stopped";

export interface SessionEnd {
  readonly reason: EndReason;
  /** More of it in words, where there is more to say. */
  readonly detail: string | undefined;
}

/** One client, from its handshake to its end; on this thread or on another. */
export interface ClientSession {
  /** Resolves when all of it is closed. Once. onOpen: the handshake has succeeded. */
  run(onOpen?: (opened: OpenedSession) => void): Promise<SessionEnd>;
  /** Whether the process stays alive for it, as it does at first. */
  setRef(isRef: boolean): void;
  /** Graceful: requests that have arrived are answered, in this time; a handshake just ends. */
  stop(graceMs: number): void;
  /** Immediate. */
  abort(): void;
  /** Of its requests so far. */
  readonly counts: ConnectionCounts;
}

const tooLate = (limitMs: number): string => `the handshake took longer than ${limitMs / 1000} s`;

/** Time that a client has, but for what it spends waiting for others. */
class TimeLimit implements Clock {
  readonly #onOver: () => void;
  #leftMs: number;
  #begun = 0;
  #timer: NodeJS.Timeout | undefined;
  #isRef: boolean;

  constructor(limitMs: number, isRef: boolean, onOver: () => void) {
    this.#leftMs = limitMs;
    this.#isRef = isRef;
    this.#onOver = onOver;
    this.resume();
  }

  resume(): void {
    this.#begun = performance.now();
    this.#timer = setTimeout(this.#onOver, this.#leftMs);
    if (!this.#isRef) this.#timer.unref();
  }

  setRef(isRef: boolean): void {
    this.#isRef = isRef;
    if (isRef) this.#timer?.ref();
    else this.#timer?.unref();
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
  readonly #latencies: NativeLatencies | undefined;
  #isTransmitting = false;
  #isStopping = false;
  #isRef = true;
  #limit: TimeLimit | undefined; // of the handshake
  #isLate = false;
  #exportName = "";
  #counts = NO_REQUESTS; // at the end

  /** Takes the stream over. */
  constructor(
    server: NativeServer,
    exports: ExportTable,
    stream: ClientStream,
    settings: SessionSettings,
    latencies?: NativeLatencies,
  ) {
    this.#latencies = latencies;
    this.#native = new (addon().NativeSession)(server, stream);
    const { readonly, threads } = stream;
    this.#visit = new Visit(exports, { session: this.#native, readonly, threads });
    this.#settings = settings;
  }

  /** Rejects only if the system fails us. */
  async run(onOpen: (opened: OpenedSession) => void = () => {}): Promise<SessionEnd> {
    this.#native.logEvent("connected");
    try {
      const outcome = await this.#negotiate();
      const end =
        outcome.kind === "transmit"
          ? await this.#serve(outcome, onOpen)
          : this.#endOfHandshake(outcome);
      this.#native.logEvent(this.#farewell(outcome));
      return end;
    } finally {
      await this.#visit.leave();
      this.#native.abort();
    }
  }

  #endOfHandshake({ reason: detail, isRefused }: Outcome & { kind: "close" }): SessionEnd {
    if (isRefused) this.#native.logTrouble(`refused: ${detail}`);
    if (this.#isStopping) return { reason: "stopped", detail };
    if (this.#isLate) return { reason: "timeout", detail };
    return { reason: isRefused ? "refused" : "client", detail };
  }

  async #serve(
    agreed: Outcome & { kind: "transmit" },
    onOpen: (opened: OpenedSession) => void,
  ): Promise<SessionEnd> {
    this.#visit.handOver();
    const ended = this.#transmit(agreed);
    onOpen({ exportName: this.#exportName, isTls: this.#native.isTls });
    const { reason, failure: detail, ...counts } = await ended;
    this.#counts = counts;
    if (detail !== undefined) this.#native.logTrouble(`connection failed: ${detail}`);
    return { reason: reason === "client" && this.#isStopping ? "stopped" : reason, detail };
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
    return this.#native.start({
      ...agreed,
      ...clientLimits(this.#settings),
      shortcuts: this.#settings.shortcuts,
      latencies: this.#latencies,
      latenciesOf: this.#exportName,
    });
  }

  setRef(isRef: boolean): void {
    this.#isRef = isRef;
    this.#native.setRef(isRef);
    this.#visit.setRef(isRef);
    this.#limit?.setRef(isRef);
  }

  stop(graceMs: number): void {
    this.#isStopping = true;
    if (this.#isTransmitting) this.#native.stop(graceMs);
    else this.#giveUp();
  }

  abort(): void {
    this.#isStopping = true;
    this.#giveUp();
  }

  #giveUp(): void {
    this.#native.abort();
    this.#visit.giveUp();
  }

  get counts(): ConnectionCounts {
    return this.#native.counts() ?? this.#counts;
  }

  async #negotiate(): Promise<Outcome> {
    if (!(await this.#visit.begin()))
      return { kind: "close", reason: "the plugin rejected the client", isRefused: true };
    const { handshakeTimeoutMs } = this.#settings;
    const limit = new TimeLimit(handshakeTimeoutMs, this.#isRef, () => {
      this.#isLate = true;
      this.#native.abort();
    });
    this.#limit = limit;
    try {
      const machine = handshake(this.#settings);
      let step = machine.next();
      while (!step.done) step = machine.next(await this.#perform(step.value, limit));
      // Nothing may come between the end of the handshake and the start of the connection.
      this.#isTransmitting = step.value.kind === "transmit";
      if (this.#isLate && !this.#isTransmitting)
        return { kind: "close", isRefused: true, reason: tooLate(handshakeTimeoutMs) };
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
        return this.#openExport(effect, limit);
      case "closeExport":
        return this.#visit.closeExport();
    }
  }

  async #openExport(
    { name, wanted }: Effect & { kind: "openExport" },
    limit: TimeLimit,
  ): Promise<OpenedExport | null | undefined> {
    const opened = await this.#visit.openExport(name, wanted, limit);
    if (opened) this.#exportName = opened.name;
    return opened;
  }
}
