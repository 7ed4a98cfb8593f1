// What a client of the ring may do wrong, by mistake or on purpose.
#pragma once

#include <cstdint>
#include <string>

namespace ring {

// Each against a server of a disk that can be written, whose reads take some time. Ends the
// program where the server does not answer as it should.
void try_wrong_requests(const std::string &path);
void try_wrong_indices(const std::string &path);
void try_wrong_words(const std::string &path);
// Writes anything anywhere in the shared memory while requests are in flight, again and again.
void scribble(const std::string &path, uint64_t seed);

} // namespace ring
