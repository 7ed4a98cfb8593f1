// Opens a filter by its name; loaded only if there are filters.

import { addon } from "../addon/addon.js";
import { didYouMean } from "../config/nearest.js";
import { AsyncnbdError } from "../errors.js";
import { unknownKeys } from "../plugins/script/definition-keys.js";
import { isMiddleware, type Middleware } from "../plugins/script/layer.js";
import { loadExport, resolveScript } from "../plugins/script/load-script.js";
import { faultsOf } from "../plugins/script/parameters.js";
import type { FilterChoice } from "./apply-filters.js";
import { FILTERS } from "./built-in.js";
import { type Filter, isFilter, type OpenedFilter } from "./filter.js";

export { FilteredPlugin } from "./filtered-plugin.js";

const isFilterOrMiddleware = (value: unknown): value is Filter | Middleware =>
  isFilter(value) || isMiddleware(value);

const filterOf = (found: Filter | Middleware, name: string): Filter =>
  isMiddleware(found) ? { name, create: () => found } : found;

export async function openFilter(choice: FilterChoice): Promise<OpenedFilter> {
  if (typeof choice === "string") return openNamed(choice);
  return { filter: filterOf(choice, "middleware"), origin: "the program" };
}

/** One of ours by its name, or a module's export: a filter, or just middleware. */
async function openNamed(name: string): Promise<OpenedFilter> {
  const known = FILTERS.find((filter) => filter.name === name);
  if (known !== undefined) return { filter: known, origin: "built in" };
  const path = resolveScript(name, "asyncnbd-filter-");
  if (path === undefined) {
    const names = FILTERS.map((filter) => filter.name);
    const help = `use ${names.join(", ")}, or a module's path or package`;
    throw new AsyncnbdError(
      "PLUGIN",
      name.endsWith(".so")
        ? `--filter=${name}: nbdkit's filters in .so files are not supported yet: ${help}`
        : `there is no filter "${name}"${didYouMean(name, names) || `: ${help}`}`,
    );
  }
  const found = await loadExport(path, "filter", isFilterOrMiddleware);
  if (found === undefined)
    throw new AsyncnbdError(
      "PLUGIN",
      `${path} exports no filter: use defineFilter({ name, create }) or defineMiddleware({ name, open })`,
    );
  const filter = filterOf(found, name);
  const faults = unknownKeys("a filter", Object.keys(filter), ["name", "config", "create"]);
  for (const fault of [...faults, ...faultsOf(filter.config)])
    addon().logWarning(`${path}: ${fault}`);
  return { filter, origin: path };
}
