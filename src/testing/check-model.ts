// Compares a plugin with a model by random requests, and makes the case small that shows a difference.

import { AsyncnbdError } from "../errors.js";
import { requireHere } from "../plugins/packages.js";
import type { ServeOptions } from "../server/serve-types.js";
import type { Window } from "./model.js";
import { Difference, ModelError, NoAnswer } from "./model-error.js";
import { type Abilities, type FastCheck, requestsOf, windowsOf } from "./random-requests.js";
import { caseInWords, type ModelRequest } from "./requests.js";
import { runCase } from "./run-case.js";
import { nameOf, Opened, type OpenOptions, setUp, type Tested } from "./setup.js";

export interface CheckOptions {
  /** The plugin's parameters, as of serve(). */
  readonly config?: ServeOptions["config"];
  /** In front of the plugin, as of serve(). */
  readonly filters?: ServeOptions["filters"];
  /** The same cases with the same number. By default another one each time. */
  readonly seed?: number;
  /** Where a case begins to be looked for: what a ModelError says. */
  readonly path?: string;
  /** Of a case, at most. By default 20. */
  readonly requests?: number;
  /** How many are tried. By default 100. */
  readonly cases?: number;
  /** If the plugin says that several make sense (canMultiConn); else there is one. By default 2. */
  readonly connections?: number;
  /** Of a request, at most, in bytes. By default 128 KiB and a few. */
  readonly maxRequestBytes?: number;
  /** Sizes in bytes of blocks of the plugin's own: edges to try, besides the usual ones. */
  readonly blockBytes?: readonly number[];
  /**
   * What requests may fail with, such as "ENOSPC": what they have changed is then uncertain. All of the
   * disk is read before the first and after the last: that must succeed.
   */
  readonly mayFail?: readonly string[];
  /** How long a request may take before the plugin is said not to answer. By default 10 s. */
  readonly answerWithinMs?: number;
}

const DEFAULTS = {
  requests: 20,
  cases: 100,
  connections: 2,
  maxRequestBytes: 128 * 1024 + 17,
  blockBytes: [],
  mayFail: [],
  answerWithinMs: 10_000,
} as const;

/** After so many, the smallest case so far is the one that is told: it may take all day else. */
const MAX_ATTEMPTS = 300;
/** So many does one count for that is only over when its time is up. */
const ATTEMPTS_OF_NO_ANSWER = 20;

const isMissing = (error: unknown): boolean =>
  ["ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND"].includes((error as { code?: string }).code ?? "");

/** The project's, where this package is a link to a folder elsewhere. */
function requireFastCheck(): FastCheck {
  try {
    return requireHere()("fast-check");
  } catch (error) {
    if (!isMissing(error)) throw error;
    const advice = "npm install --save-dev fast-check";
    const words = `checkModel needs the package fast-check: ${advice}`;
    throw new AsyncnbdError("DEPENDENCY_MISSING", words, { cause: error });
  }
}

async function loadFastCheck(): Promise<FastCheck> {
  try {
    return await import("fast-check");
  } catch (error) {
    if (!isMissing(error)) throw error;
    return requireFastCheck();
  }
}

/** What a first instance of the plugin says of itself. */
async function inspected(tested: Tested, options: OpenOptions) {
  const setup = await setUp(tested);
  try {
    const opened = await Opened.open(setup, options);
    const { size, blockSizes, contexts } = opened.first;
    const { canWrite, canFlush, canFua, canTrim, canZero, canCache } = opened.first;
    const { connections, canRestart } = opened;
    await opened.close();
    const can: Abilities = {
      ...{ canWrite, canFlush, canFua, canTrim, canZero, canCache },
      ...{ blockSizes, contexts, connections, canRestart },
    };
    return { name: nameOf(setup), can, windows: windowsOf(size, blockSizes) };
  } finally {
    await setup.end?.();
  }
}

/**
 * Sends random requests to a plugin behind a real server, and compares what it answers with a disk in
 * memory: what was written is read, by any connection, from the reply on; nothing else changes; what is
 * said to be zero is; nothing answered is lost when clients leave, and nothing that was flushed, or
 * written with FUA, in a power cut (`restart` of a Setup).
 *
 * Rejects with a ModelError that has the smallest case found, or with what serve() and connect()
 * reject with if the plugin cannot be served at all. Needs the package fast-check.
 *
 * @example
 * await checkModel(plugin, { config: { size: "1M" }, seed: 1 });
 */
export async function checkModel(tested: Tested, options: CheckOptions = {}): Promise<void> {
  const fc = await loadFastCheck();
  const all = { ...DEFAULTS, ...options };
  const { name, can, windows } = await inspected(tested, all);
  if (windows.every(({ length }) => length === 0))
    throw new AsyncnbdError(
      "DISK_EMPTY",
      `plugin ${name}: there is nothing to test on an empty disk`,
    );
  let attempts = 0; // to make a case small that has failed
  const property = fc.asyncProperty(requestsOf(fc, can, windows, all), async (requests) => {
    if (attempts > MAX_ATTEMPTS) return;
    try {
      await runFresh(tested, requests, windows, all);
    } catch (error) {
      attempts += error instanceof NoAnswer ? ATTEMPTS_OF_NO_ANSWER : 1;
      throw error;
    } finally {
      if (attempts > 0) attempts++;
    }
  });
  const { seed, path, cases } = all;
  const details = await fc.check(property, {
    numRuns: cases,
    ...(seed === undefined ? {} : { seed }),
    ...(path === undefined ? {} : { path }),
  });
  if (!details.failed) return;
  const error = details.errorInstance;
  if (!(error instanceof Difference) || details.counterexample === null) throw error;
  const words = caseInWords(details.counterexample[0], can.connections);
  const repeat = { seed: details.seed, path: details.counterexamplePath ?? "" };
  throw new ModelError(name, error.message, words, repeat);
}

/** On an instance of its own. */
async function runFresh(
  tested: Tested,
  requests: readonly ModelRequest[],
  windows: readonly Window[],
  options: OpenOptions & { readonly mayFail: readonly string[]; readonly answerWithinMs: number },
): Promise<void> {
  const setup = await setUp(tested);
  try {
    const opened = await Opened.open(setup, options);
    try {
      await runCase(opened, requests, { ...options, windows });
    } finally {
      await opened.abandon();
    }
  } finally {
    await setup.end?.();
  }
}
