// The functions of chain.hpp with which filters open what is behind them, once or again. Apart from
// chain.cpp, because clang's analyzer would see a leak there.
#include "backend/chain.hpp"

#include <optional>
#include <utility>

namespace asyncnbd::backend {

std::unique_ptr<Backend> prepared(std::unique_ptr<Backend> opened, const Wanted &wanted,
                                  std::string *error) {
  if (opened == nullptr || opened->prepare(wanted, error))
    return opened;
  opened->close_unused();
  return nullptr;
}

// Keeps what it needs of `asked`.
OpenBehind Chain::opener_behind(const Level &level, const Asked &asked) {
  return [this, place = behind(level), name = asked.export_name,
          wanted = filter_at(level.index).wanted_of_below(asked.wanted),
          disk = asked.disk != nullptr ? std::optional(*asked.disk) : std::nullopt](
             bool readonly, std::string *error) -> std::unique_ptr<Backend> {
    return prepared(open_level(place, {name, readonly, disk ? &*disk : nullptr, wanted}, error),
                    wanted, error);
  };
}

// The same, for what no client owns.
OpenBehind Chain::opener_for_all(const Level &level, const Asked &asked) {
  return [this, level, name = asked.export_name, is_readonly = asked.is_readonly,
          wanted = asked.wanted,
          disk = asked.disk != nullptr ? std::optional(*asked.disk) : std::nullopt](
             bool readonly, std::string *error) -> std::unique_ptr<Backend> {
    const std::shared_ptr<Bottom> bottom = level.bottom->of_no_client();
    if (bottom == nullptr) {
      *error = std::string("filter ") + filter_at(level.index).name() +
               ": what is behind it can only be opened for one client";
      return nullptr;
    }
    const OpenBehind open = opener_behind({this, level.index, bottom.get()},
                                          {name, is_readonly, disk ? &*disk : nullptr, wanted});
    std::unique_ptr<Backend> opened = open(readonly, error);
    if (opened != nullptr)
      opened->keep(bottom);
    return opened;
  };
}

} // namespace asyncnbd::backend
