// What a process that is stuck still says before it is ended.
#pragma once

namespace asyncnbd::host {

// One error line where errors go. Takes no lock and no memory, and does not wait for who reads the
// log: a line that cannot leave at once is lost.
void last_words(const char *text);

} // namespace asyncnbd::host
