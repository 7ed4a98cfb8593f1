// Opens a filter by its name; loaded only if there are filters.

import type { Log } from "../addon/log.js";
import { didYouMean } from "../config/nearest.js";
import { AsyncnbdError } from "../errors.js";
import { FILTER_PREFIX, packageNames } from "../plugins/packages.js";
import { unknownKeys } from "../plugins/script/definition-keys.js";
import { isMiddleware, type Middleware } from "../plugins/script/layer.js";
import { loadExport, resolveScript } from "../plugins/script/load-script.js";
import { faultsOf, helpOf, ParameterSet } from "../plugins/script/parameters.js";
import { isSchema } from "../plugins/script/standard-schema.js";
import { NBDKIT_VERSION } from "../version.js";
import { FILTERS } from "./built-in.js";
import { CFilter } from "./c-filter.js";
import type { FilterChoice } from "./choice.js";
import { BUILT_IN, type Filter, isFilter, type OpenedFilter } from "./filter.js";
import { filterNames, resolveFilter } from "./resolve.js";

const isFilterOrMiddleware = (value: unknown): value is Filter | Middleware =>
  isFilter(value) || isMiddleware(value);

const filterOf = (found: Filter | Middleware, name: string): Filter =>
  isMiddleware(found) ? { name, create: () => found } : found;

/** Whether it is one of nbdkit's, which there can only be once in a process. */
export const isLibrary = (choice: FilterChoice): boolean =>
  typeof choice === "string" &&
  !FILTERS.some((filter) => filter.name === choice) &&
  resolveFilter(choice) !== undefined;

/** In front of one plugin; the innermost is loaded first. */
export async function openFilters(
  choices: readonly FilterChoice[],
  log: Log,
): Promise<OpenedFilter[]> {
  const libraries = new Map<string, CFilter>();
  const filters: OpenedFilter[] = [];
  try {
    for (const choice of [...choices].reverse()) {
      const opened = await openFilter(choice, libraries, log);
      filters.unshift({ ...opened, parameters: parametersOf(opened, filters) });
    }
  } catch (error) {
    for (const library of libraries.values()) library.unload();
    throw error;
  }
  return filters;
}

/** One of nbdkit's names that stands at several places has its parameters once. */
function parametersOf(opened: OpenedFilter, others: readonly OpenedFilter[]): ParameterSet {
  const same = others.find(
    ({ filter, version }) => version !== undefined && filter === opened.filter,
  );
  return (same ?? opened).parameters;
}

async function openFilter(
  choice: FilterChoice,
  libraries: Map<string, CFilter>,
  log: Log,
): Promise<OpenedFilter> {
  if (typeof choice === "string") return openNamed(choice, libraries, log);
  return opened(filterOf(choice, "middleware"), "the program");
}

function opened(
  filter: Filter,
  origin: string,
  { library, version }: { library?: CFilter; version?: string } = {},
): OpenedFilter {
  if (isSchema(filter.config))
    throw new AsyncnbdError(
      "FILTER_INVALID",
      `filter ${filter.name}: a single schema does not have the parameters' names, by which a filter's ` +
        "parameters are distinguished from the plugin's: give each parameter its own schema",
    );
  return {
    filter,
    origin,
    version,
    library,
    parameters: new ParameterSet(`filter ${filter.name}`, filter.config),
    help: library === undefined ? helpOfOurs(filter) : helpOfLibrary(library),
  };
}

function helpOfOurs({ name, config }: Filter): string | undefined {
  const help = helpOf(config);
  return help === undefined ? undefined : `filter: ${name}\n${help}`;
}

/** nbdkit's say what they are even if they have no parameters. */
function helpOfLibrary({ about }: CFilter): string {
  const { name, path, longname, description, configHelp } = about;
  const title = longname === undefined ? name : `${name} (${longname})`;
  const lines = [`filter: ${title}`, `(${path})`, description?.trimEnd(), configHelp?.trimEnd()];
  return lines.filter((line) => line !== undefined).join("\n");
}

/** One that stands at several places is loaded once, and has its variables once. */
function openLibrary(path: string, libraries: Map<string, CFilter>, log: Log): OpenedFilter {
  const library = libraries.get(path) ?? CFilter.open(path, log);
  libraries.set(path, library);
  const filter = { name: library.about.name, create: () => library.middleware };
  return opened(filter, path, { library });
}

/**
 * One of ours by its name; one of nbdkit's by its name or path; or a module's export: a filter, or
 * just middleware.
 */
async function openNamed(
  name: string,
  libraries: Map<string, CFilter>,
  log: Log,
): Promise<OpenedFilter> {
  const known = FILTERS.find((filter) => filter.name === name);
  if (known !== undefined) return opened(known, BUILT_IN, { version: NBDKIT_VERSION });
  const shared = resolveFilter(name);
  if (shared !== undefined) return openLibrary(shared, libraries, log);
  const path = resolveScript(name, FILTER_PREFIX);
  if (path === undefined) {
    const installed = packageNames(FILTER_PREFIX);
    const names = [...FILTERS.map((filter) => filter.name), ...filterNames(), ...installed];
    const all = [...new Set(names)].sort().join(", ");
    const help = `use ${all}, the path of a filter's .so file, or a module's path or package`;
    throw new AsyncnbdError(
      "FILTER_NOT_FOUND",
      `there is no filter "${name}"${didYouMean(name, names) || `: ${help}`}`,
    );
  }
  const found = await loadExport(path, "filter", isFilterOrMiddleware);
  if (found === undefined)
    throw new AsyncnbdError(
      "FILTER_INVALID",
      `${path} exports no filter: use defineFilter({ name, create }) or defineMiddleware({ name, open })`,
    );
  const filter = filterOf(found, name);
  const faults = unknownKeys("a filter", Object.keys(filter), [
    "name",
    "config",
    "threadModel",
    "create",
  ]);
  for (const fault of [...faults, ...faultsOf(filter.config)]) log.warn(`${path}: ${fault}`);
  return opened(filter, path);
}
