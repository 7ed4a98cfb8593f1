// Plugins named nbdkit-NAME-plugin, without ".so": programs, which nbdkit executes with its own
// command line. Nearly all are scripts that have nbdkit and a plugin as their interpreter, as in
// "#!/usr/bin/nbdkit python"; those run here, for it is this server that was asked for.

import { basename } from "node:path";
import { AsyncnbdError } from "../errors.js";
import { firstBytes } from "./first-bytes.js";
import { resolvePlugin } from "./resolve.js";

/** As much as the system reads of it. */
const MAX_FIRST_LINE = 256;

export interface PluginProgram {
  readonly path: string;
  /** The words of nbdkit's command line that interprets it; undefined: execute it. */
  readonly interpreter: readonly string[] | undefined;
}

/** undefined: the name is that of another kind of plugin, or of none. */
export function findProgram(name: string): PluginProgram | undefined {
  const found = resolvePlugin(name);
  if (!("path" in found) || !found.isProgram) return undefined;
  return { path: found.path, interpreter: interpreterOf(found.path) };
}

/** For programs, where there is no command line: the plugin that interprets the script. */
export function scriptOf(name: string): { plugin: string; script: string } | undefined {
  const program = findProgram(name);
  if (program === undefined) return undefined;
  const [plugin, ...more] = program.interpreter ?? [];
  if (plugin === undefined || more.length > 0)
    throw new AsyncnbdError(
      "PLUGIN_INVALID",
      `${program.path} is a program, which only the asyncnbd command can run`,
    );
  return { plugin, script: program.path };
}

/** The system passes what follows an interpreter as one word; env -S splits it. */
function interpreterOf(path: string): string[] | undefined {
  const [, line = ""] = /^#![ \t]*(.*)\n/.exec(firstBytes(path, MAX_FIRST_LINE)) ?? [];
  const [, interpreter = "", argument = ""] = /^(\S*)\s*(.*?)\s*$/.exec(line) ?? [];
  if (basename(interpreter) === "nbdkit") return argument === "" ? undefined : [argument];
  const [command, ...words] = argument.replace(/^(-S|--split-string=)\s*/, "").split(/\s+/);
  const isEnv = basename(interpreter) === "env" && basename(command ?? "") === "nbdkit";
  return isEnv && words.length > 0 ? words : undefined;
}
