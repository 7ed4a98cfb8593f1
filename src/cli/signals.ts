// Signals that stop the server: the first gracefully, a second one, when a second has passed, at
// once.

import { constants } from "node:os";
import { addon } from "../addon/addon.js";
import { exitNow } from "./end.js";

const STOP_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;

/** So long a callback may block JavaScript's thread when a signal comes. */
const BLOCKED_GRACE_MS = 5_000;

export class StopSignals {
  /** Resolves at the first signal, or when stop is called. */
  readonly stopped: Promise<void>;
  /** The first signal, if it was one. */
  received: NodeJS.Signals | undefined;
  #resolve!: () => void;

  /** `beforeExit` is called before the process ends at the second signal. */
  constructor(beforeExit: () => void) {
    this.stopped = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    let isStopping = false;
    for (const signal of STOP_SIGNALS)
      process.on(signal, () => {
        addon().signalSeen();
        if (isStopping) {
          beforeExit();
          exitNow(128 + constants.signals[signal]);
        }
        isStopping = true;
        this.received = signal;
        this.#resolve();
      });
    addon().guardSignals(
      STOP_SIGNALS.map((signal) => constants.signals[signal]),
      BLOCKED_GRACE_MS,
    );
  }

  stop(): void {
    this.#resolve();
  }
}
