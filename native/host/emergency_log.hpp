// The last line of a process that is ended by force, whatever locks its threads hold.
#pragma once

namespace asyncnbd::host {

// One error line where errors go. Takes no lock and no memory, and does not wait for the log's
// reader: a line that cannot leave at once is lost.
void log_emergency(const char *text);

} // namespace asyncnbd::host
