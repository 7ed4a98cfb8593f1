// From a plugin's name on the command line to the file to load.

import { constants, existsSync, readdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { packageDirectory, shippedPluginDirectory } from "../addon/addon.js";

const GNU_MACHINES: Readonly<Record<string, string>> = {
  x64: "x86_64",
  arm64: "aarch64",
  ia32: "i386",
  ppc64: "powerpc64le",
};

/** The processor, in the names of GNU systems. */
export const gnuMachine = (): string => GNU_MACHINES[process.arch] ?? process.arch;

/** Where distributions put nbdkit's plugins. */
export function distributionPluginDirectories(): string[] {
  return [`/usr/lib/${gnuMachine()}-linux-gnu`, "/usr/lib64", "/usr/lib", "/usr/local/lib"].map(
    (lib) => join(lib, "nbdkit", "plugins"),
  );
}

/** Plugins in TypeScript that come with the server. */
export const exampleDirectory = join(packageDirectory, "examples");

/** For those who install plugins; asyncnbd.pc has it as `plugindir`. */
const installedPluginDirectory = join(packageDirectory, "plugins");

function searchPath(): string[] {
  const own = (process.env.ASYNCNBD_PLUGIN_PATH ?? "").split(":").filter((dir) => dir !== "");
  return [
    ...own,
    shippedPluginDirectory,
    installedPluginDirectory,
    ...distributionPluginDirectories(),
  ];
}

/** Else a path is that of a plugin in TypeScript. */
export const isSharedObject = (path: string): boolean => /\.so(\.|$)/.test(path);

/** A name without a dot and a slash is short: the file is nbdkit-NAME-plugin.so in a directory. */
export const isShortName = (name: string): boolean => !/[./]/.test(name);

export interface FoundPlugin {
  readonly path: string;
  /** It is no shared object but to be executed: nbdkit-NAME-plugin. */
  readonly isProgram: boolean;
}

function findIn(directory: string, name: string): FoundPlugin | undefined {
  const program = join(directory, `nbdkit-${name}-plugin`);
  if (isProgram(program)) return { path: program, isProgram: true };
  const path = `${program}.so`;
  return existsSync(path) ? { path, isProgram: false } : undefined;
}

function isProgram(path: string): boolean {
  try {
    const { mode = 0 } = statSync(path, { throwIfNoEntry: false }) ?? {};
    return (mode & constants.S_IFMT) === constants.S_IFREG && (mode & constants.S_IXUSR) !== 0;
  } catch {
    return false; // a directory that may not be searched, or a name that is too long for a file
  }
}

/** The file to open; if a short name is found nowhere, the directories that were searched. */
export function resolvePlugin(name: string): FoundPlugin | { searched: string[] } {
  if (!isShortName(name)) return { path: resolve(name), isProgram: false };
  const searched = searchPath();
  for (const directory of searched) {
    const found = findIn(directory, name);
    if (found !== undefined) return found;
  }
  return { searched };
}

/** None if there is no such directory, or it cannot be listed. */
function filesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** The short names of all that there are. */
export function pluginNames(): string[] {
  const files = searchPath().flatMap(filesIn);
  const examples = filesIn(exampleDirectory).map((file) => /^(.+)\.ts$/.exec(file)?.[1]);
  const found = files.map((file) => /^nbdkit-(.+)-plugin(\.so)?$/.exec(file)?.[1]);
  return [...found, ...examples].filter((name) => name !== undefined);
}
