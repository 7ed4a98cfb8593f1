// What checkModel() rejects with when a plugin is not the disk that it should be.

export class ModelError extends Error {
  /** What the plugin did, in words. */
  readonly fault: string;
  /** The smallest case that was found, in words. */
  readonly requests: readonly string[];
  /** To repeat it: options of checkModel(), with the others as they were. */
  readonly seed: number;
  readonly path: string;

  /** @internal */
  constructor(
    plugin: string,
    fault: string,
    requests: readonly string[],
    repeat: { readonly seed: number; readonly path: string },
  ) {
    const many = `${requests.length} request${requests.length === 1 ? "" : "s"}`;
    const lines = [
      `plugin ${plugin}: ${fault}`,
      `The smallest case found has ${many}:`,
      ...requests.map((request, index) => `  ${index + 1}. ${request}`),
      `To repeat it, give checkModel() these options too: { seed: ${repeat.seed}, path: "${repeat.path}" }`,
    ];
    super(lines.join("\n"));
    this.name = "ModelError";
    this.fault = fault;
    this.requests = requests;
    this.seed = repeat.seed;
    this.path = repeat.path;
  }
}

/** One difference from the model, before the case is made small. */
export class Difference extends Error {}

/** It took as long as a request may take to see it. */
export class NoAnswer extends Difference {}
