// Measures the matrix, round after round: in each, every cell once, both servers of a pair one right
// after the other and in turns first, so that what else the machine does hits both alike.

import { Progress, round as roundName } from "../support/progress.mjs";
import { withServer } from "../support/servers.mjs";
import { nameOf, sizeName } from "./cells.mjs";
import { ROUNDS_A_LIMIT } from "./plan.mjs";
import { contestants, rowOf } from "./plugins.mjs";
import { forget, measureLimit, measureServer, warm } from "./sides.mjs";
import { WITNESS_ROUNDS, witness } from "./witness.mjs";

/**
 * @typedef {import("./cells.mjs").Cell} Cell
 * @typedef {import("./plugins.mjs").Files} Files
 * @typedef {import("./plugins.mjs").Peer} Peer
 * @typedef {import("./sides.mjs").Side} Side
 * @typedef {import("../support/lineup.mjs").Participant} Participant
 * @typedef {import("../support/servers.mjs").Running} Running
 *
 * @typedef {object} Pair
 * @property {string} cell its name
 * @property {Peer} peer
 * @property {Side} ours
 * @property {Side} theirs
 * @property {Side} [limit] without a protocol, where it was measured in that round
 * @property {{ ours: number, theirs: number }} [witness] requests a second by fio
 *
 * @typedef {object} Gap what was not measured
 * @property {string} cell
 * @property {Peer} peer
 * @property {string} why
 * @property {boolean} isFailure else somebody does not offer it
 *
 * @typedef {object} Plan
 * @property {number} pairs
 * @property {number} seconds of each measurement
 * @property {boolean} isCold
 * @property {boolean} hasLimits
 * @property {readonly Cell[]} witnessed
 * @property {number} deadlineMs by performance.now()
 *
 * @typedef {object} Group of cells that share their servers
 * @property {import("./plugins.mjs").Row} row
 * @property {Record<string, Participant>} participants
 * @property {{ cell: Cell, peer: Peer }[]} pairs
 */

const OURS = "asyncnbd";

/**
 * @param {readonly Cell[]} cells
 * @param {readonly Peer[]} peers
 * @param {Files} files
 * @returns {Group[]}
 */
export function groupsOf(cells, peers, files) {
  const servers = [...new Set(cells.map(({ plugin, transport }) => `${plugin} ${transport}`))];
  return servers.flatMap((name) => {
    const own = cells.filter(({ plugin, transport }) => `${plugin} ${transport}` === name);
    const [{ plugin, transport }] = /** @type {[Cell]} */ (own);
    const row = rowOf(plugin, files);
    const all = contestants(row, files, transport);
    const able = peers.filter((peer) => peer in all);
    const participants = Object.fromEntries(
      Object.entries(all).filter(([who]) => who === OURS || able.some((peer) => peer === who)),
    );
    const pairs = able.flatMap((peer) => own.map((cell) => ({ cell, peer })));
    return pairs.length === 0 ? [] : [{ row, participants, pairs }];
  });
}

/**
 * Whether what a bare program does is most of what the cell asks for.
 * @param {import("./plugins.mjs").Row} row
 * @param {Cell} cell
 */
export function hasLimit({ limit, hasNoLimit }, { transport, kind }) {
  const moves = kind === "read" || kind === "write" || kind === "mix";
  return !hasNoLimit && transport !== "tls" && (moves || limit === undefined);
}

/** Cells of one of these have the same limit. @param {Cell} cell @param {string} [file] */
export function limitName({ transport, bytes, depth, kind, connections }, file = "memory") {
  const load = kind === "fua" ? "write" : kind;
  return [file, transport, sizeName(bytes), depth, load, connections].join(" ");
}

/**
 * Starts several servers, one after the other, and runs `use` with all of them.
 * @param {readonly [string, Participant][]} participants
 * @param {Cell["transport"]} transport
 * @param {(running: Record<string, Running>) => Promise<void>} use
 * @returns {Promise<void>}
 */
async function withServers([next, ...others], transport, use) {
  if (next === undefined) return await use({});
  const [name, participant] = next;
  await withServer(
    participant,
    async (running) => {
      await warm(participant, running, transport);
      await withServers(others, transport, (rest) => use({ [name]: running, ...rest }));
    },
    transport === "unix" ? "unix" : "tcp",
  );
}

class Run {
  /** @type {Pair[]} */
  pairs = [];
  /** @type {Gap[]} */
  gaps = [];
  /** @type {Map<string, Side>} by name, of this round */
  #limits = new Map();
  #round = 0;

  /** @param {Plan} plan @param {Progress} progress */
  constructor(plan, progress) {
    this.plan = plan;
    this.progress = progress;
  }

  /** @param {Cell} cell */
  #name(cell) {
    return this.plan.isCold ? `${nameOf(cell)} cold` : nameOf(cell);
  }

  get #isOver() {
    return performance.now() > this.plan.deadlineMs;
  }

  /** @param {readonly Group[]} groups */
  async measure(groups) {
    for (; this.#round < this.plan.pairs && !this.#isOver; this.#round++) {
      this.#limits.clear();
      for (const group of groups) await this.#visit(group);
    }
  }

  /** @param {Group} group */
  async #visit(group) {
    const { participants, pairs } = group;
    const open = pairs.filter((pair) => !this.#hasGap(pair));
    const [first] = open;
    if (first === undefined || this.#isOver) return;
    const { transport } = first.cell;
    try {
      if (this.plan.isCold) await this.#measureAll(group, open, {});
      else
        await withServers(Object.entries(participants), transport, (running) =>
          this.#measureAll(group, open, running),
        );
    } catch (error) {
      for (const pair of open) this.#note(pair, String(error), true);
    }
  }

  /** @param {Group} group @param {Group["pairs"]} pairs @param {Record<string, Running>} running */
  async #measureAll(group, pairs, running) {
    for (const [i, pair] of pairs.entries()) {
      if (this.#isOver) return;
      const { cell, peer } = pair;
      this.progress.step(`${roundName(this.#round, this.plan.pairs)}, ${nameOf(cell)}`);
      const isOurTurn = (this.#round + i) % 2 === 0;
      try {
        await this.#measurePair(group, pair, running, isOurTurn ? [OURS, peer] : [peer, OURS]);
      } catch (error) {
        this.#note(pair, String(error), true);
      }
    }
  }

  /**
   * @param {Group} group
   * @param {{ cell: Cell, peer: Peer }} pair
   * @param {Record<string, Running>} running
   * @param {readonly string[]} order
   */
  async #measurePair(group, { cell, peer }, running, order) {
    /** @type {Record<string, Side>} */
    const sides = {};
    for (const name of order) {
      const side = await this.#measureOne(group, name, cell, running[name]);
      if (side === undefined) return this.#note({ cell, peer }, `${name} does not offer it`, false);
      sides[name] = side;
    }
    const [ours, theirs] = [sides[OURS], sides[peer]];
    if (ours === undefined || theirs === undefined) return;
    const limit = await this.#limitOf(group, cell);
    const seen = await this.#witness(cell, running[OURS], running[peer]);
    const more = { ...(limit && { limit }), ...(seen && { witness: seen }) };
    this.pairs.push({ cell: this.#name(cell), peer, ours, theirs, ...more });
  }

  /**
   * @param {Group} group
   * @param {string} name
   * @param {Cell} cell
   * @param {Running | undefined} running undefined: it is to be started first, and its disk is cold
   */
  async #measureOne({ row, participants }, name, cell, running) {
    const participant = /** @type {Participant} */ (participants[name]);
    if (running !== undefined) return await measureServer(participant, running, cell, this.plan);
    if (row.limit !== undefined) forget(row.limit);
    return await withServer(
      participant,
      (fresh) => measureServer(participant, fresh, cell, this.plan),
      cell.transport === "unix" ? "unix" : "tcp",
    );
  }

  /** @param {Group} group @param {Cell} cell */
  async #limitOf({ row }, cell) {
    const { hasLimits, isCold } = this.plan;
    const isDue = hasLimits && !isCold && this.#round % ROUNDS_A_LIMIT === 0;
    if (!isDue || !hasLimit(row, cell)) return undefined;
    const name = limitName(cell, row.limit);
    const limit = this.#limits.get(name) ?? (await measureLimit(cell, row.limit, this.plan));
    this.#limits.set(name, limit);
    return limit;
  }

  /** @param {Cell} cell @param {Running | undefined} ours @param {Running | undefined} theirs */
  async #witness(cell, ours, theirs) {
    const isDue = this.#round < WITNESS_ROUNDS && this.plan.witnessed.includes(cell);
    if (!isDue || ours === undefined || theirs === undefined) return undefined;
    return { ours: await witness(ours, cell), theirs: await witness(theirs, cell) };
  }

  /** @param {{ cell: Cell, peer: Peer }} pair */
  #hasGap({ cell, peer }) {
    return this.gaps.some((gap) => gap.cell === this.#name(cell) && gap.peer === peer);
  }

  /** It is not tried again. @param {{ cell: Cell, peer: Peer }} pair @param {string} why @param {boolean} isFailure */
  #note({ cell, peer }, why, isFailure) {
    if (isFailure) console.error(`${this.#name(cell)}, against ${peer}: ${why}`);
    this.gaps.push({ cell: this.#name(cell), peer, why, isFailure });
  }
}

/** @param {readonly Group[]} groups @param {Plan} plan */
export async function measureMatrix(groups, plan) {
  const pairs = groups.reduce((sum, group) => sum + group.pairs.length, 0);
  const progress = new Progress("matrix", plan.pairs * pairs);
  const run = new Run(plan, progress);
  await run.measure(groups);
  progress.clear();
  return { pairs: run.pairs, gaps: run.gaps };
}
