// What callbacks return, as promises that can be trusted: a value that only looks like one may
// settle twice, or throw when it is looked at.

const { then } = Promise.prototype;

/**
 * undefined: the value is no promise, and what returned it is done. Looks at one that is not
 * native once, and lets it settle once. Throws if that throws.
 */
export function adopt(value: unknown): Promise<unknown> | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "object" && typeof value !== "function") return undefined;
  if (value instanceof Promise) return value;
  const { then: own } = value as { then?: unknown };
  if (typeof own !== "function") return undefined;
  return new Promise((resolve, reject) => own.call(value, resolve, reject));
}

/** promise.then, whatever the promise has in its place. The functions must not throw. */
export function whenSettled<T>(
  promise: Promise<unknown>,
  resolved: (value: unknown) => T | Promise<T>,
  rejected?: (error: unknown) => T | Promise<T>,
): Promise<T> {
  return then.call(promise, resolved, rejected) as Promise<T>;
}
