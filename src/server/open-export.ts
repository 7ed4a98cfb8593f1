// Opens the export that a user has chosen, on this thread or on several.

import { Chain, type ChainSpec } from "../exports/chain.js";
import { Export } from "../exports/export.js";
import { ExportTable } from "../exports/table.js";
import { refuseLibraries } from "../filters/choice.js";
import type { Exports } from "./server.js";
import type { WorkerExport } from "./worker-export.js";

/** What has an export's life, here or on other threads. */
export type ServedExport = Export | WorkerExport;

/** `workers`: on so many threads; 0: on this one. */
export async function openExport(
  spec: ChainSpec,
  workers: number,
  signal?: AbortSignal,
): Promise<ServedExport> {
  if (workers === 0) return new Export(await Chain.open(spec));
  await refuseLibraries(spec.filters);
  const { WorkerExport } = await import("./worker-export.js"); // only where it is asked for
  return WorkerExport.open(spec, workers, signal);
}

/** For a server. */
export const exportsOf = (served: ServedExport): Exports =>
  served instanceof Export ? ExportTable.of(served) : served;
