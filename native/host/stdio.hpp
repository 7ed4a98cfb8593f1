// Whether stdin and stdout still belong to the user who started the server.
#pragma once

namespace asyncnbd::host {

// Set once the server is configured, or at once with --single. Any thread.
void set_stdio_safe(bool safe);

} // namespace asyncnbd::host
