// How long fuzzing goes on: FUZZ_SECONDS for each test, else a little.

export const fuzzMs = 1000 * Number(process.env.FUZZ_SECONDS ?? "3");

/** Of a test that takes that long. */
export const fuzzTimeoutMs = 2 * fuzzMs + 60_000;
