// One of nbdkit's filters, loaded from its shared object; failures are exceptions.

import { addon } from "../addon/addon.js";
import type { Failure, NativeCFilter, PluginAbout } from "../addon/types.js";
import { AsyncnbdError } from "../errors.js";
import { nativeMiddleware } from "../middleware/define.js";
import type { Middleware } from "../plugins/script/layer.js";

function check(failure: Failure): void {
  if (failure !== undefined)
    throw new AsyncnbdError("PLUGIN", failure.words, { isLogged: failure.isLogged });
}

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

  private constructor(native: NativeCFilter) {
    this.#native = native;
    this.about = native.about;
  }

  /** Calls none of the filter's functions but its registration. */
  static open(path: string): CFilter {
    const native = new (addon().NativeCFilter)(path);
    check(native.open());
    return new CFilter(native);
  }

  setDebugFlag(flag: string, value: number): boolean {
    return this.#native.setDebugFlag(flag, value);
  }

  load(): void {
    this.#native.load();
  }

  config(key: string, value: string, next: (key: string, value: string) => void): void {
    through((pass) => this.#native.config(key, value, (k, v) => pass(() => next(k, v))));
  }

  configComplete(next: () => void): void {
    through((pass) => this.#native.configComplete(() => pass(next)));
  }

  settleThreadModel(behind: number): void {
    check(this.#native.settleThreadModel(behind));
  }

  get isShutdownRequested(): boolean {
    return this.#native.isShutdownRequested;
  }

  get threadModel(): number {
    return this.#native.threadModel;
  }

  getReady(threadModel: number): void {
    check(this.#native.getReady(threadModel));
  }

  afterFork(): void {
    check(this.#native.afterFork());
  }

  cleanup(): void {
    this.#native.cleanup();
  }

  unload(): void {
    this.#native.unload();
  }

  get middleware(): Middleware {
    return nativeMiddleware({ name: this.about.name, options: {}, library: this.#native });
  }
}
