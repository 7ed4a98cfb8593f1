// Modules under development: Node keeps what it has loaded for ever, so those of one directory get
// another address for each version.

import { realpathSync } from "node:fs";
import { createRequire, register } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { packageDirectory } from "../../addon/addon.js";

/** Runs on a thread of its own, where Node's hooks are ("Customization hooks"). */
const HOOKS = `
let directory, ours, version;
export function initialize(data) { ({ directory, ours, version } = data); }
export async function resolve(specifier, context, next) {
  const found = await next(specifier, context);
  const [url] = found.url.split("?");
  if (!url.startsWith(directory) || url.startsWith(ours) || url.includes("/node_modules/"))
    return found;
  return { ...found, url: url + "?version=" + Atomics.load(version, 0) };
}`;

export class FreshModules {
  readonly #directory: string;
  /** What the server itself is made of may lie there, too, and stays. */
  readonly #ours = join(packageDirectory, "dist/");
  readonly #version = new Int32Array(new SharedArrayBuffer(4));

  /** Of a directory and those in it, but for packages that are installed there. */
  constructor(directory: string) {
    this.#directory = join(realpathSync(directory), "/");
    const data = {
      directory: pathToFileURL(this.#directory).href,
      ours: pathToFileURL(this.#ours).href,
      version: this.#version,
    };
    register(`data:text/javascript,${encodeURIComponent(HOOKS)}`, {
      parentURL: import.meta.url,
      data,
    });
  }

  /** What is loaded from now on is read again. */
  renew(): void {
    Atomics.add(this.#version, 0, 1);
    const { cache } = createRequire(import.meta.url);
    const isFresh = (path: string): boolean =>
      path.startsWith(this.#directory) &&
      !path.startsWith(this.#ours) &&
      !path.includes("/node_modules/");
    for (const path of Object.keys(cache)) if (isFresh(path)) delete cache[path];
  }
}
