// How the parts of an NBD URI are written.

/** Of TCP, and of vsock. URIs leave it out. */
export const DEFAULT_PORT = 10809;

const percentEncode = (text: string): string =>
  encodeURIComponent(text).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );

/** Percent-encoded, except for the slashes. */
export const encodePath = (text: string): string => text.split("/").map(percentEncode).join("/");

export const portSuffix = (port: number): string => (port === DEFAULT_PORT ? "" : `:${port}`);
