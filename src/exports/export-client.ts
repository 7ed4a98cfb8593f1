// One client at one export: whether it is let in, its turn to open the export, and whether it has it
// open. Its session calls, one thing at a time.

import type { NativeTurns, OpenedExport, WantedFacts } from "../addon/types.js";
import type { Client } from "../plugins/export-source.js";
import type { HandshakeCalls } from "../plugins/plugin-instance.js";
import { ConnectionTurn } from "./connection-queue.js";

/** The time that a client has, which stands still while it waits for others. */
export interface Clock {
  pause(): void;
  resume(): void;
}

export class ExportClient {
  readonly calls: HandshakeCalls;
  readonly #turn: ConnectionTurn;
  readonly #onLeft: () => void;
  #welcome: Promise<boolean> | undefined;
  #isWaiting = false;
  #isOpen = false;

  /** `queue`: if one client has the export open at a time. */
  constructor(
    calls: HandshakeCalls,
    { session }: Client,
    queue: NativeTurns | undefined,
    onLeft: () => void,
  ) {
    this.calls = calls;
    this.#turn = new ConnectionTurn(queue, session);
    this.#onLeft = onLeft;
  }

  /** False: the plugin rejects the client. Asked before anything else, and once. */
  preconnect(): Promise<boolean> {
    this.#welcome ??= this.calls.preconnect();
    return this.#welcome;
  }

  /** In its turn. null: it failed; undefined: the client has left before. */
  async open(
    name: string,
    wanted: WantedFacts,
    clock: Clock,
  ): Promise<OpenedExport | null | undefined> {
    clock.pause();
    this.#isWaiting = true;
    const hasTurn = await this.#turn.begin();
    this.#isWaiting = false;
    clock.resume();
    if (!hasTurn) return undefined;
    const opened = await this.calls.openExport(name, wanted);
    this.#isOpen = opened !== null;
    if (opened === null) this.#turn.end();
    return opened;
  }

  async close(): Promise<void> {
    await this.calls.closeExport();
    this.#isOpen = false;
    this.#turn.end();
  }

  /** The open export is the connection's to close, from now on; its turn lasts until it leaves. */
  handOver(): void {
    this.#isOpen = false;
  }

  /** Whether the process stays alive while it waits, as it does at first. */
  setRef(isRef: boolean): void {
    this.#turn.setRef(isRef);
  }

  /** At any time: it waits no longer. */
  giveUp(): void {
    if (this.#isWaiting) this.#turn.end();
  }

  /** Last. */
  async leave(): Promise<void> {
    try {
      if (this.#isOpen) await this.calls.closeExport();
    } finally {
      this.#turn.end();
      this.#onLeft();
    }
  }
}
