// From a plugin's name on the command line to the file to load.

import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { shippedPluginDirectory } from "../addon/load.js";

const GNU_MACHINES: Readonly<Record<string, string>> = {
  x64: "x86_64",
  arm64: "aarch64",
  ia32: "i386",
  ppc64: "powerpc64le",
};

/** Where distributions put nbdkit's plugins. */
export function distributionPluginDirectories(): string[] {
  const machine = GNU_MACHINES[process.arch] ?? process.arch;
  return [`/usr/lib/${machine}-linux-gnu`, "/usr/lib64", "/usr/lib", "/usr/local/lib"].map((lib) =>
    join(lib, "nbdkit", "plugins"),
  );
}

function searchPath(): string[] {
  const own = (process.env.ASYNCNBD_PLUGIN_PATH ?? "").split(":").filter((dir) => dir !== "");
  return [...own, shippedPluginDirectory, ...distributionPluginDirectories()];
}

/** Else a path is that of a plugin in TypeScript. */
export const isSharedObject = (path: string): boolean => /\.so(\.|$)/.test(path);

/** A name without a dot and a slash is short: the file is nbdkit-NAME-plugin.so in a folder. */
export const isShortName = (name: string): boolean => !/[./]/.test(name);

/** The file to open; if a short name is found nowhere, the folders that were searched. */
export function resolvePlugin(name: string): { path: string } | { searched: string[] } {
  if (!isShortName(name)) return { path: resolve(name) };
  const searched = searchPath();
  const candidates = searched.map((directory) => join(directory, `nbdkit-${name}-plugin.so`));
  const path = candidates.find((candidate) => existsSync(candidate));
  return path === undefined ? { searched } : { path };
}
