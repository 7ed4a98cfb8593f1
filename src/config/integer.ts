// Whole numbers as nbdkit reads them: by C's strtol with base 0.

const INTEGER = /^[ \t-\r]*([+-]?)(0x[0-9a-f]+|0[0-7]*|[1-9][0-9]*)$/i;

/** Decimal, 0x hexadecimal or 0 octal, with a sign or without; NaN if it is none of these. */
export function parseInteger(text: string): number {
  const [, sign, digits = "x"] = INTEGER.exec(text) ?? [];
  const value = Number(/^0[0-7]/.test(digits) ? `0o${digits}` : digits);
  return sign === "-" ? -value : value;
}
