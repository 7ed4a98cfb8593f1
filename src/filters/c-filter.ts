// One of nbdkit's filters, loaded from its shared object; failures are exceptions.

import { addon } from "../addon/addon.js";
import { throwIfFailed } from "../addon/failure.js";
import type { Log } from "../addon/log.js";
import type { Failure, NativeCFilter, PluginAbout } from "../addon/types.js";
import { nativeMiddleware } from "../middleware/define.js";
import type { Middleware } from "../plugins/script/layer.js";

const check = (failure: Failure): void => throwIfFailed(failure, "FILTER_FAILED");

/** What a callback of a filter does in the middle, whose exception must pass through the filter. */
function through(call: (next: (step: () => void) => boolean) => Failure): void {
  let thrown: { readonly reason: unknown } | undefined;
  const failure = call((step) => {
    try {
      step();
      return true;
    } catch (reason) {
      thrown = { reason };
      return false;
    }
  });
  if (thrown !== undefined) throw thrown.reason;
  check(failure);
}

/** May stand at several places of a chain. Methods as NativeCFilter's. */
export class CFilter {
  readonly about: PluginAbout;
  readonly #native: NativeCFilter;
  readonly #log: Log;

  private constructor(native: NativeCFilter, log: Log) {
    this.#native = native;
    this.#log = log;
    this.about = native.about;
  }

  /** Calls none of the filter's functions but its registration. */
  static open(path: string, log: Log): CFilter {
    const native = new (addon().NativeCFilter)(path);
    throwIfFailed(
      log.during(() => native.open()),
      "LIBRARY_UNLOADABLE",
    );
    return new CFilter(native, log);
  }

  setDebugFlag(flag: string, value: number): boolean {
    return this.#native.setDebugFlag(flag, value);
  }

  load(): void {
    this.#log.during(() => this.#native.load());
  }

  config(key: string, value: string, next: (key: string, value: string) => void): void {
    this.#log.during(() =>
      through((pass) => this.#native.config(key, value, (k, v) => pass(() => next(k, v)))),
    );
  }

  configComplete(next: () => void): void {
    this.#log.during(() => through((pass) => this.#native.configComplete(() => pass(next))));
  }

  settleThreadModel(behind: number): void {
    check(this.#log.during(() => this.#native.settleThreadModel(behind)));
  }

  get isShutdownRequested(): boolean {
    return this.#native.isShutdownRequested;
  }

  get threadModel(): number {
    return this.#native.threadModel;
  }

  getReady(threadModel: number): void {
    check(this.#log.during(() => this.#native.getReady(threadModel)));
  }

  afterFork(): void {
    check(this.#log.during(() => this.#native.afterFork()));
  }

  cleanup(): void {
    this.#log.during(() => this.#native.cleanup());
  }

  unload(): void {
    this.#log.during(() => this.#native.unload());
  }

  get middleware(): Middleware {
    return nativeMiddleware({ name: this.about.name, options: {}, library: this.#native });
  }
}
