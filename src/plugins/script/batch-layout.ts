// What a bridge's two halves exchange, as native/backend/script_bridge.hpp lays it out; a test
// compares the two.

// A Submission, in 32-bit words, which begins with numbers in doubles.
export const SUBMISSION_WORDS = 10;
export const SUBMISSION_DOUBLES = 5;
// Places among its doubles.
export const OFFSET = 0;
export const LENGTH_BYTES = 1;
// Places among its words.
export const OPERATION = 4;
export const CONNECTION = 5;
export const SLOT = 6;
export const COMMAND = 7;
export const FLAGS = 8;
/** A flag besides NBD's. */
export const MAY_HAVE_HOLES = 1 << 16;
export const NO_SLOT = 0xffffffff;

// In the place of a command: what happens to a connection.
export const CLIENT_GONE = 0x8000;
export const CLOSE = 0x8001;

// A Completion: two words, the operation (or a slot, to free it) and the outcome, an errno.
export const COMPLETION_WORDS = 2;
/** Added to the errno: the plugin goes on using the request's slot. */
export const KEEPS_SLOT = 1 << 16;
/** As the outcome: the plugin no longer uses the slot. */
export const FREES_SLOT = 2 << 16;
