// The table of exports: which one a client gets by the name that it gives. Sessions look it up.

import type { ExportEntry } from "../addon/types.js";
import type { Export } from "./export.js";

/** What a name stands for. */
export interface Found {
  readonly export: Export;
  /** What its chain is asked for. */
  readonly name: string;
}

export class ExportTable {
  readonly #exports: ReadonlyMap<string, Export>;

  /** By name, one at least; the first is what clients get that ask for "". */
  constructor(exports: ReadonlyMap<string, Export>) {
    this.#exports = exports;
  }

  /** Of one export, which has all names: its plugin says what they stand for. */
  static of(only: Export): ExportTable {
    return new ExportTable(new Map([["", only]]));
  }

  /**
   * The one that all clients get, so that it can be asked about each before it has named any
   * (preconnect); undefined: there are several.
   */
  get only(): Export | undefined {
    const [first, ...others] = this.#exports.values();
    return others.length === 0 ? first : undefined;
  }

  /** undefined: there is none of this name. */
  find(name: string): Found | undefined {
    const { only } = this;
    if (only !== undefined) return { export: only, name };
    const [first] = this.#exports.keys();
    const known = name === "" ? (first as string) : name;
    const found = this.#exports.get(known);
    return found && { export: found, name: known };
  }

  /** Of several; only the plugin knows the names of one. */
  list(): ExportEntry[] {
    return [...this.#exports.keys()].map((name) => ({ name, description: "" }));
  }

  /** What each consists of, for people. */
  get chains(): (readonly string[])[] {
    return [...this.#exports.values()].map(({ parts }) => parts);
  }

  get pluginNames(): readonly string[] {
    return [...this.#exports.values()].map(({ about }) => about.name);
  }

  get isShutdownRequested(): boolean {
    return [...this.#exports.values()].some((one) => one.isShutdownRequested);
  }

  /** See Chain.setRef. */
  setRef(isRef: boolean): void {
    for (const one of this.#exports.values()) one.setRef(isRef);
  }

  /** See Export.drained. */
  async drained(): Promise<boolean> {
    const all = [...this.#exports.values()];
    const drained = await Promise.all(all.map((one) => one.drained()));
    return drained.every((isUnused) => isUnused);
  }
}
