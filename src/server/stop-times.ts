// Divides the grace of a stop: answers to what clients have asked for, the closing of connections,
// and the end of the plugin are all to be over when it is.

/** With less, a plugin that does not hang might not come to its end. */
const LEAST_MS = 1_000;

const LEAST_CLOSING_MS = 500;
const MOST_CLOSING_MS = 1_000;

/** The plugin's cleanup and unload have so long, even where requests have used up the grace. */
const LEAST_PLUGIN_END_MS = 500;

/** From the beginning of the stop. */
export interface StopTimes {
  /** Then requests without an answer are given up. */
  readonly answersMs: number;
  /** Then connections that have not closed are cut: their clients do not take replies. */
  readonly cutMs: number;
  /** Then calls that have not returned are given up. */
  readonly endMs: number;
}

export function stopTimes(graceMs: number): StopTimes {
  const endMs = Math.max(graceMs, LEAST_MS);
  const closingMs = Math.min(Math.max(endMs / 4, LEAST_CLOSING_MS), MOST_CLOSING_MS);
  const answersMs = Math.min(graceMs, endMs - closingMs);
  return { answersMs, cutMs: endMs - closingMs / 2, endMs };
}

/** What a stop that began then, by performance.now(), has left for the end of the plugin. */
export function pluginEndMs(graceMs: number, begunMs: number): number {
  const leftMs = begunMs + stopTimes(graceMs).endMs - performance.now();
  return Math.ceil(Math.max(leftMs, LEAST_PLUGIN_END_MS));
}

/** Resolves with false if the work takes longer. Keeps the process alive meanwhile. */
export async function inTime<T>(work: Promise<T>, ms: number): Promise<T | false> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
