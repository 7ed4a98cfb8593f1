// "Did you mean": of the right names, the one that a wrong name is most like.

/**
 * Letters to insert, delete, replace, or exchange with their neighbour to get from one name to the
 * other (optimal string alignment).
 */
export function editDistance(from: string, to: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let row = 1; row <= from.length; row++) {
    const current = [row];
    for (let column = 1; column <= to.length; column++) {
      const isSame = from[row - 1] === to[column - 1];
      const isSwapped = from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1];
      current[column] = Math.min(
        at(last, column) + 1,
        at(current, column - 1) + 1,
        at(last, column - 1) + (isSame ? 0 : 1),
        isSwapped ? at(beforeLast, column - 2) + 1 : Number.POSITIVE_INFINITY,
      );
    }
    beforeLast = last;
    last = current;
  }
  return at(last, to.length);
}

const at = (costs: readonly number[], column: number): number =>
  costs[column] ?? Number.POSITIVE_INFINITY;

/** What differs in nothing but these is the same name in another spelling. */
const plain = (name: string): string => name.toLowerCase().replace(/[-_.]/g, "");

/** A slip of the finger changes one letter in three at most. */
const LETTERS_PER_SLIP = 3;

/** Names from a hostile or careless source must not cost time. */
const MAX_LENGTH = 64;

/** The name that was probably meant; undefined if none is like it. The first wins a tie. */
export function nearestName(wrong: string, names: Iterable<string>): string | undefined {
  if (wrong.length > MAX_LENGTH) return undefined;
  let nearest: string | undefined;
  let fewest = Number.POSITIVE_INFINITY;
  for (const name of names) {
    const distance = editDistance(plain(wrong), plain(name));
    const longest = Math.max(wrong.length, name.length);
    if (distance < fewest && distance * LETTERS_PER_SLIP <= longest) {
      nearest = name;
      fewest = distance;
    }
  }
  return nearest;
}

/** The end of a message about a wrong name: `; did you mean "right"?`, or nothing. */
export function didYouMean(
  wrong: string,
  names: Iterable<string>,
  show = (name: string): string => `"${name}"`,
): string {
  const name = nearestName(wrong, names);
  return name === undefined ? "" : `; did you mean ${show(name)}?`;
}
