// What clients ask of an open export, and what they get: the words that plugins and middleware share.

/** What a callback may return: the value, or a promise of it. */
export type Awaitable<T> = T | Promise<T>;

/** A client, during its handshake and after. */
export interface ClientInfo {
  /** The server was started read-only. */
  readonly readonly: boolean;
  /** The client came over TLS. */
  readonly tls: boolean;
}

export interface OpenInfo extends ClientInfo {
  /** As the client asked for it; the default export's name if it asked for "". */
  readonly exportName: string;
}

/** What comes with every request. */
export interface RequestInfo {
  /** Fires when the client has disconnected, so that the answer is not needed any more. */
  readonly signal: AbortSignal;
}

export interface WriteInfo extends RequestInfo {
  /** The data must be on stable storage before the answer. Only if `canFua` is "native". */
  readonly fua: boolean;
}

export interface ZeroInfo extends WriteInfo {
  /** The range may become a hole that reads as zeroes. */
  readonly mayTrim: boolean;
  /** Fail with code "ENOTSUP" at once if this would not be faster than writing. */
  readonly fastZero: boolean;
}

export interface ExtentsInfo extends RequestInfo {
  /** Only the first extent is wanted. */
  readonly reqOne: boolean;
}

/** A run of bytes of one kind. Extents follow each other without gaps. */
export interface Extent {
  /** In bytes from the start of the export. */
  readonly offset: number;
  /** In bytes. */
  readonly length: number;
  /** Nothing is allocated here. */
  readonly hole: boolean;
  /** Reads as zeroes. */
  readonly zero: boolean;
}

/** A run of bytes of one status. Statuses follow each other without gaps. */
export interface Status {
  /** In bytes from the start of the export. */
  readonly offset: number;
  /** In bytes. */
  readonly length: number;
  /** What it means, the context defines. A bigint where 53 bits are not enough. */
  readonly flags: number | bigint;
}

/** In bytes; see "Block size constraints" in the specification of NBD. */
export interface BlockSize {
  readonly minimum: number;
  readonly preferred: number;
  readonly maximum: number;
}

/** "none": no. "emulate": the server does it by other callbacks. "native": the plugin does. */
export type Support = "none" | "emulate" | "native";
