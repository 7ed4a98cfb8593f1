// Where the log goes, and what is in it: -v, --log and the debug flags that are no plugin's.

import { addon } from "../addon/addon.js";
import type { Config } from "../config/schema.js";
import { AsyncnbdError } from "../errors.js";

const SINKS = { stderr: 0, syslog: 1, none: 2 } as const;
const FILE_SINK = 3;

const RESERVATIONS_FLAG = "asyncnbd.reservations";
const CONTROL_FLAG = "nbdkit.backend.controlpath";
const DATA_FLAG = "nbdkit.backend.datapath";

/** Debug flags that are no plugin's. */
export const OUR_FLAGS: readonly string[] = [
  "nbdkit.environ",
  CONTROL_FLAG,
  DATA_FLAG,
  RESERVATIONS_FLAG,
];

/** Once; and before configureLog. */
export function openLog({ log }: Pick<Config, "log">): void {
  if (typeof log !== "object") return;
  const failure = addon().openLog(log.file);
  if (failure !== undefined)
    throw new AsyncnbdError(
      "FILE_UNWRITABLE",
      `--log=${log.file}: cannot open the file: ${failure}`,
    );
}

export function configureLog(
  config: Pick<Config, "verbose" | "log" | "debugFlags">,
  isDetached = false,
): void {
  const sink = config.log ?? (isDetached ? "syslog" : "stderr");
  const number = typeof sink === "object" ? FILE_SINK : SINKS[sink];
  addon().configureLog("asyncnbd", config.verbose, number);
  addon().chooseDebugPaths(isOn(config, CONTROL_FLAG), isOn(config, DATA_FLAG));
}

/** Unless the last that is said of it is 0. */
function isOn({ debugFlags }: Pick<Config, "debugFlags">, name: string): boolean {
  return debugFlags.findLast(({ plugin, flag }) => `${plugin}.${flag}` === name)?.value !== 0;
}

/** To find faults: whether data may be moved where the disk lies, and as pages. */
export const hasShortcuts = (config: Pick<Config, "debugFlags">): boolean =>
  isOn(config, RESERVATIONS_FLAG);
