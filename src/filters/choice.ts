// The filters that a user has chosen; the code that opens them is loaded only if there are some.

import type { Log } from "../addon/log.js";
import { AsyncnbdError } from "../errors.js";
import type { Middleware } from "../plugins/script/layer.js";
import type { Filter, OpenedFilter } from "./filter.js";

/** By its name, a module's path or package; or itself. */
export type FilterChoice = string | Filter | Middleware;

/** Throws where threads that each have the filters cannot share one of them. */
export async function refuseLibraries(filters: readonly FilterChoice[]): Promise<void> {
  if (filters.length === 0) return;
  const { isLibrary } = await import("./open-filter.js");
  const found = filters.find(isLibrary);
  if (found !== undefined)
    throw new AsyncnbdError(
      "WORKERS_IMPOSSIBLE",
      `--filter=${found}: nbdkit's filters cannot be on workers`,
    );
}

/** For one chain. */
export async function openFilters(
  choices: readonly FilterChoice[],
  log: Log,
): Promise<readonly OpenedFilter[]> {
  if (choices.length === 0) return [];
  return (await import("./open-filter.js")).openFilters(choices, log);
}
