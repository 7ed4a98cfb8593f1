// The end of a plugin in a program: a callback that does not return is named, and given up. The
// command uses the same words.

import type { Log } from "../addon/log.js";
import type { ServedExport } from "./open-export.js";
import { inTime } from "./stop-times.js";

/** What is done about it comes after these words. */
export const notReturned = (call: string, ms: number): string =>
  `${call} did not return within ${(ms / 1000).toFixed(1)} s`;

/** False: it has not ended in that time. Keeps the process alive until then. */
export async function endInTime(served: ServedExport, ms: number, log: Log): Promise<boolean> {
  let call = `${served.about.name}: cleanup or unload`;
  const ended = served.end((entered) => {
    call = entered;
  });
  const isOver = await inTime(
    ended.then(() => true),
    ms,
  );
  if (!isOver) log.error(`${notReturned(call, ms)}: giving up`);
  return isOver;
}
