// What a benchmark is doing, how far it is and how long it may still take, on standard error: in
// place on a terminal, elsewhere a line now and then.

const LINE_EVERY_MS = 15_000;
/** Before that, the time left would be a guess. */
const MIN_STEPS = 3;

/** @param {number} seconds */
function about(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export class Progress {
  #done = -1;
  #started = performance.now();
  #shown = -LINE_EVERY_MS;

  /**
   * @param {string} what
   * @param {number} steps of about the same length
   */
  constructor(what, steps) {
    this.what = what;
    this.steps = steps;
  }

  /** Another step begins. @param {string} label */
  step(label) {
    this.#done++;
    const now = performance.now();
    const isTerminal = process.stderr.isTTY;
    if (!isTerminal && now - this.#shown < LINE_EVERY_MS) return;
    this.#shown = now;
    const left = ((now - this.#started) / this.#done) * (this.steps - this.#done);
    const estimate = this.#done < MIN_STEPS ? "" : `, about ${about(left / 1000)} left`;
    const line = `[${this.#done + 1}/${this.steps}${estimate}] ${this.what}: ${label}`;
    if (isTerminal) this.#show(line);
    else console.error(line);
  }

  /** Makes room for results. */
  clear() {
    if (process.stderr.isTTY) this.#show("");
  }

  /** @param {string} line */
  #show(line) {
    const columns = process.stderr.columns || 80;
    process.stderr.write(`\r${line.slice(0, columns - 1)}\x1b[K`);
  }
}

/** @param {number} i from 0 @param {number} rounds */
export const round = (i, rounds) => `round ${i + 1} of ${rounds}`;

/**
 * Measures each contestant once in each round: in turns, so that what else the machine does hits all
 * alike. Returns the results of each, by name.
 * @template Contestant
 * @template Result
 * @param {Record<string, Contestant>} contestants
 * @param {number} rounds
 * @param {(step: string) => void} begin told of each step
 * @param {(contestant: Contestant, name: string) => Promise<Result>} measure
 */
export async function inTurns(contestants, rounds, begin, measure) {
  /** @type {Record<string, Result[]>} */
  const results = Object.fromEntries(Object.keys(contestants).map((name) => [name, []]));
  for (let i = 0; i < rounds; i++)
    for (const [name, contestant] of Object.entries(contestants)) {
      begin(`${round(i, rounds)}, ${name}`);
      results[name]?.push(await measure(contestant, name));
    }
  return results;
}
