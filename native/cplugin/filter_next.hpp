// What is open behind a filter, as the filter calls it: nbdkit's table of functions, and in front
// of any of our backends what they stand for.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "backend/backend.hpp"
#include "backend/level.hpp"
#include "cplugin/filter_backend.hpp"
#include "cplugin/filter_facts.hpp"
#include "host/abi.hpp"

namespace asyncnbd::cplugin {

class Child;

// A filter gets its address, at which the table must be. Any thread may call, any number at once,
// until it is closed. Functions return 0 or -1, and then *err is an errno.
class Next final : public nbdkit_next_ops {
public:
  // nullptr on failure, with words for the user in `*error` unless they have been logged.
  // `of_no_client`: the level's bottom, if what is opened is for no client, or for several.
  static Next *open(const backend::Level &level, const std::string &export_name, bool readonly,
                    std::shared_ptr<backend::Bottom> of_no_client, std::string *error);
  static Next &of(nbdkit_next *next) { return *static_cast<Next *>(next); }
  // The last call: one of these.
  void close();
  void close_unused(); // where no client has made a request

  // Shared with those who give up what is in flight there.
  const std::shared_ptr<backend::Backend> &backend() const { return backend_; }
  bool is_of_no_client() const { return of_no_client_ != nullptr; }

  bool prepare(std::string *error);
  bool finalize();
  int64_t size();
  const char *description();
  int block_size(uint32_t *minimum, uint32_t *preferred, uint32_t *maximum);
  int fact(Fact fact);
  // What a request of so many bytes to `behind` takes here besides itself.
  static uint32_t bytes_besides(const backend::Backend &behind, uint16_t type,
                                uint64_t length_bytes);

  int pread(void *data, uint32_t count, uint64_t offset, uint32_t flags, int *err);
  int pwrite(const void *data, uint32_t count, uint64_t offset, uint32_t flags, int *err);
  int flush(uint32_t flags, int *err);
  int trim(uint32_t count, uint64_t offset, uint32_t flags, int *err);
  int zero(uint32_t count, uint64_t offset, uint32_t flags, int *err);
  int extents(uint32_t count, uint64_t offset, uint32_t flags, nbdkit_extents *extents, int *err);
  int cache(uint32_t count, uint64_t offset, uint32_t flags, int *err);

private:
  struct Call;

  Next(std::unique_ptr<backend::Backend> opened, bool is_filter,
       std::shared_ptr<backend::Bottom> of_no_client);
  ~Next() = default;

  // False, which has been logged: it has not been prepared, and nothing may be asked of it.
  bool is_usable() const;
  // The filter behind, if it is one directly and can be called.
  FilterBackend *filter() const;
  int check(const Call &call) const;
  int run(const Call &call, Child &child);
  int run(const Call &call, int *err);

  const std::shared_ptr<backend::Bottom> of_no_client_;
  std::shared_ptr<backend::Backend> backend_;
  FilterBackend *const layer_; // the same, if it is one directly; else nullptr
};

} // namespace asyncnbd::cplugin
