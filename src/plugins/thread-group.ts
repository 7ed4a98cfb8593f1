// What the threads that serve clients of one server share in native code, and by which names.

/** Of those threads; "": there is only this one. */
let group = "";

/** From now on, names are those of the threads that give the same word. */
export function joinThreadGroup(word: string): void {
  group = word;
}

/** The threads' own name for a thing; "": nobody shares it. */
export const sharedName = (thing: string): string => (group === "" ? "" : `${group}/${thing}`);
