// A plugin's life in nbdkit's order, from load to unload, whoever leads it: the command, a program,
// a worker, or a file that is watched.

import { AsyncnbdError } from "../errors.js";
import type { Awaitable } from "./script/requests.js";

export type SingleValue = string | number | boolean;

/** An array: given so many times, by a program. */
export type ParameterValue = SingleValue | readonly SingleValue[];

export type Parameter = readonly [key: string, value: ParameterValue];

/** One by one. */
export const valuesIn = (value: ParameterValue): readonly SingleValue[] =>
  typeof value === "object" ? value : [value];

/** Hears of each call, as "NAME: CALLBACK", before it begins, because it may never return. */
export type OnCall = (call: string) => void;

/** A plugin, and what shares its life in front of it. Failures are exceptions. */
export interface Living {
  load(): Awaitable<void>;
  config(key: string, value: ParameterValue): void;
  configComplete(): Awaitable<void>;
  settleThreadModel(): void;
  getReady(): Awaitable<void>;
  afterFork(): Awaitable<void>;
  /** After the last client, if afterFork has succeeded. */
  cleanup(onCall: OnCall): Awaitable<void>;
  /** The last call, however far it has come. */
  unload(onCall: OnCall): Awaitable<void>;
}

type Stage = "opened" | "loaded" | "ready" | "started" | "over";

export class Life {
  readonly #living: Living;
  #stage: Stage;

  /** `stage`: how far somebody else has led it already. */
  constructor(living: Living, stage: Stage = "opened") {
    this.#living = living;
    this.#stage = stage;
  }

  async load(): Promise<void> {
    this.#expect("opened");
    await this.#living.load();
    this.#stage = "loaded";
  }

  /** All of its parameters, in the user's order. What only describes a plugin goes no further. */
  config(parameters: readonly Parameter[]): void {
    this.#expect("loaded");
    for (const [key, value] of parameters) this.#living.config(key, value);
  }

  /** `signal`: getReady is not called after it has fired. */
  async getReady(parameters: readonly Parameter[], signal?: AbortSignal): Promise<void> {
    this.config(parameters);
    const living = this.#living;
    await living.configComplete();
    signal?.throwIfAborted();
    living.settleThreadModel();
    await living.getReady();
    this.#stage = "ready";
  }

  /** In the process that is to serve, before its first client. */
  async afterFork(): Promise<void> {
    this.#expect("ready");
    await this.#living.afterFork();
    this.#stage = "started";
  }

  /** After the last client, or where the start has failed. More than once is once. */
  async end(onCall: OnCall = () => {}): Promise<void> {
    const hasStarted = this.#stage === "started";
    if (this.#stage === "over") return;
    this.#stage = "over";
    try {
      if (hasStarted) await this.#living.cleanup(onCall);
    } finally {
      await this.#living.unload(onCall);
    }
  }

  #expect(stage: Stage): void {
    if (this.#stage !== stage)
      throw new AsyncnbdError("INTERNAL", `a plugin in stage ${this.#stage} cannot go to ${stage}`);
  }
}
