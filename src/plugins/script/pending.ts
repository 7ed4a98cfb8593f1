// Callbacks of plugins in TypeScript that have not settled: what the command names where nothing is
// left that could go on. Apart from their runner, which plugins in C do without.

const names = new Set<string>();

/** With their plugins' names. */
export const pendingCallbacks = (): readonly string[] => [...names];

/** Keeps `name` among the pending until the callback has settled. */
export async function whilePending(name: string, callback: () => unknown): Promise<void> {
  names.add(name);
  try {
    await callback();
  } finally {
    names.delete(name);
  }
}
