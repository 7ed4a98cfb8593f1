// What filters share that show a part of an export as all of it: requests move to where the part
// is, and back.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "backend/layer.hpp"

namespace asyncnbd::filters {

// In bytes.
struct DiskPart {
  uint64_t offset;
  uint64_t length;
};

class MovedLayer : public backend::Layer, private backend::Completer {
public:
  using Layer::Layer;

  backend::Reservation reserve(backend::Request &request) final;
  void unreserve(backend::Request &request) final;
  void submit(backend::Request &request, backend::Caller caller) final;

protected:
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override;

private:
  virtual const char *filter_name() const = 0;
  // Where the part is; once, below is prepared, and this may wait for what it reads there.
  // std::nullopt, with words in `*error`: there is none.
  virtual std::optional<DiskPart> find_part(const backend::Facts &below, std::string *error) = 0;

  bool keeps_blocks(const DiskPart &part, const backend::Facts &below, std::string *error) const;

  void complete(backend::Request &request, int error) override;
  void give_up(backend::Request &request, int error) override;
  // With all that has an offset of its own. `by` may be the complement of one.
  static void move(backend::Request &request, uint64_t by);

  uint64_t offset_ = 0; // of the part
};

} // namespace asyncnbd::filters
