// Logs the last line of a process that is ended by force, even if its threads hold locks.
#pragma once

namespace asyncnbd::host {

// Writes one error line to the log. Takes no lock and no memory, and does not wait for the log's
// reader: a line that cannot leave at once is lost.
void log_emergency(const char *text);

} // namespace asyncnbd::host
