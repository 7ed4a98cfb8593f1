/* asyncprobe with asynchronous reads and trims, and synchronous writes and flushes. */
#define ASYNCMIXED
#include "asyncprobe.c"
