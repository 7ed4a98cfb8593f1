// Errors for unknown plugin names, with what the user may have meant: another name, a filter, or a
// disk to serve.

import { type Stats, statSync } from "node:fs";
import { didYouMean } from "../config/nearest.js";
import { AsyncnbdError } from "../errors.js";
import { firstBytes } from "./first-bytes.js";
import { pluginNames } from "./resolve.js";

/** What a shared object begins with. */
const ELF = "\x7fELF";

/** `packages`, `filters`: the names of those that there are. */
export function unknownPlugin(
  name: string,
  searched: readonly string[],
  packages: readonly string[],
  filters: readonly string[],
): AsyncnbdError {
  const hint =
    serveAsDisk(name) ||
    (filters.includes(name)
      ? `; it is a filter: use --filter=${name} PLUGIN`
      : didYouMean(name, [...pluginNames(), ...packages]));
  return new AsyncnbdError(
    "PLUGIN_NOT_FOUND",
    hint === ""
      ? `cannot open plugin "${name}": there is no nbdkit-${name}-plugin.so in ` +
          `${searched.join(", ")}; give its path, or set ASYNCNBD_PLUGIN_PATH`
      : `there is no plugin "${name}"${hint}`,
  );
}

/** Throws where `path`, which `name` stands for, can be no shared object. */
export function refuseIfNoPlugin(name: string, path: string): void {
  const hint = serveAsDisk(name);
  if (hint !== "" && firstBytes(path, ELF.length) !== ELF)
    throw new AsyncnbdError("PLUGIN_NOT_FOUND", `${name} is not a plugin${hint}`);
}

/** Another command line for disk images, devices, directories and URLs; "" for anything else. */
function serveAsDisk(name: string): string {
  const instead = (words: string): string => `; to serve it as a disk: asyncnbd ${words}`;
  if (/^https?:\/\//.test(name)) return instead(`http ${quoted(name)}`);
  const found = statOf(name);
  if (found?.isDirectory()) return instead(`file ${quoted(`dir=${name}`)}`);
  if (found?.isFile() || found?.isBlockDevice()) return instead(`file ${quoted(name)}`);
  return "";
}

function statOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

const quoted = (word: string): string =>
  /^[\w./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
