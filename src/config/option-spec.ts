// What the command line's tables say of an option.

export interface OptionSpec {
  /** Without dashes; the key under which parsing records it. */
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly short?: string;
  /** What stands for the value in --help; an option without takes none. */
  readonly value?: string;
  /** What a shell can complete the value with. */
  readonly completes?: "file" | "directory" | "user" | "group" | "filter" | readonly string[];
  /** Absent for options that are only recognised, to say that they are not supported yet. */
  readonly help?: string;
  /** nbdkit 1.32 has no such option. */
  readonly isAddition?: true;
  readonly group: "listen" | "serve" | "process" | "information" | "later";
}
