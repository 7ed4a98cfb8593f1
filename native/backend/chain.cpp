// See chain.hpp.
#include "backend/chain.hpp"

#include <algorithm>
#include <utility>

#include "backend/turns.hpp"

namespace asyncnbd::backend {

namespace {

// With one thread, a client expects answers in order. If requests can be in progress without a
// thread, only turns keep that order.
std::unique_ptr<Backend> in_order(Bottom &bottom, std::unique_ptr<Backend> opened) {
  return put_in_turns(std::move(opened), std::make_shared<TurnQueue>(1, 1, bottom.resources()),
                      false);
}

} // namespace

Chain::Chain(std::vector<ChainFilter> filters) : filters_(std::move(filters)) {
  for (size_t i = 0; i < filters_.size(); i++)
    if (OpeningFilter *filter = opening_at(i))
      filter->placed({this, i + 1, nullptr});
}

void Chain::get_ready(int thread_model) {
  const host::StartScope scope(&shutdown_wish_);
  for (size_t i = filters_.size(); i > 0; i--)
    filter_at(i - 1).get_ready(thread_model);
}

void Chain::end() {
  for (size_t i = 0; i < filters_.size(); i++)
    filter_at(i).end();
}

bool Chain::opens_readonly(bool is_readonly) const {
  for (const ChainFilter &filter : filters_)
    if (filter.filter)
      is_readonly = filter.filter->opens_readonly(is_readonly);
  return is_readonly;
}

bool Chain::keeps_state() const {
  return std::any_of(filters_.begin(), filters_.end(), [](const ChainFilter &filter) {
    return filter.filter && filter.filter->keeps_state();
  });
}

bool Chain::opens_for_all() const {
  return std::any_of(filters_.begin(), filters_.end(), [](const ChainFilter &filter) {
    return filter.filter && filter.filter->opens_for_all();
  });
}

bool Chain::has_opening_filters() const {
  return std::any_of(filters_.begin(), filters_.end(),
                     [](const ChainFilter &filter) { return filter.opening != nullptr; });
}

// ---- questions of the handshake ----------------------------------------------------------------

bool Level::preconnect(bool readonly) const {
  const auto lock = chain->turn_behind(*this);
  return chain->preconnect(*this, readonly);
}

std::optional<std::vector<ExportEntry>> Level::list_exports(bool readonly) const {
  const auto lock = chain->turn_behind(*this);
  return chain->list_exports(*this, readonly);
}

std::optional<std::string> Level::default_export(bool readonly) const {
  const auto lock = chain->turn_behind(*this);
  return chain->default_export(*this, readonly);
}

std::unique_ptr<Backend> Level::open(const std::string &export_name, bool readonly,
                                     std::string *error) const {
  return chain->open_level(*this, {export_name, readonly, nullptr, WANTS_ALL}, error);
}

bool Level::serializes_connections() const {
  return chain->least_thread_model(*bottom) == ThreadModel::serialize_connections;
}

bool Level::opens_behind() const {
  return chain->opening_at(index) != nullptr;
}

bool Chain::preconnect(const Level &level, bool readonly) {
  if (level.index == filters_.size())
    return level.bottom->preconnect(readonly);
  return filter_at(level.index).preconnect(behind(level), readonly);
}

std::optional<std::vector<ExportEntry>> Chain::list_exports(const Level &level, bool readonly) {
  if (level.index == filters_.size())
    return level.bottom->list_exports(readonly);
  return filter_at(level.index).list_exports(behind(level), readonly);
}

std::optional<std::string> Chain::default_export(const Level &level, bool readonly) {
  if (level.index == filters_.size())
    return level.bottom->default_export(readonly);
  return filter_at(level.index).default_export(behind(level), readonly);
}

// ---- opening ----------------------------------------------------------------------------------

std::unique_ptr<Backend> Chain::open(Bottom &bottom, const Asked &asked, std::string *error) {
  std::unique_ptr<Backend> opened = open_level(front(bottom), asked, error);
  if (opened != nullptr && bottom.threads() == 1)
    opened = in_order(bottom, std::move(opened));
  return prepared(std::move(opened), asked.wanted, error);
}

std::unique_ptr<Backend> open_without_filters(Bottom &bottom, const std::string &export_name,
                                              bool readonly, const Wanted &wanted,
                                              Submitter submitter, std::string *error) {
  std::unique_ptr<Backend> opened = bottom.open(export_name, readonly, submitter);
  if (opened != nullptr && bottom.threads() == 1 && bottom.thread_model() == ThreadModel::async)
    opened = in_order(bottom, std::move(opened));
  return prepared(std::move(opened), wanted, error);
}

std::unique_ptr<Backend> Chain::open_level(const Level &level, const Asked &asked,
                                           std::string *error) {
  const auto lock = turn_of_call(level);
  const std::optional<std::string> name =
      canonical_name(level, asked.export_name, asked.is_readonly, error);
  if (!name)
    return nullptr;
  std::unique_ptr<Backend> opened =
      open_at(level, {*name, asked.is_readonly, asked.disk, asked.wanted}, error);
  // Requests that were given up may be answered after the server's end, and then pass through
  // filters' layers.
  if (opened != nullptr)
    opened->keep(shared_from_this());
  return opened;
}

std::unique_ptr<Backend> Chain::open_at(const Level &level, const Asked &asked,
                                        std::string *error) {
  if (level.index == filters_.size())
    return level.bottom->open(asked.export_name, asked.is_readonly, Submitter::layers);
  std::unique_ptr<Backend> opened;
  if (OpeningFilter *filter = opening_at(level.index))
    opened = filter->open_in_front(behind(level), asked.export_name, asked.is_readonly, error);
  else
    opened = open_native(level, asked, error);
  return opened != nullptr ? in_turns(level, std::move(opened)) : nullptr;
}

// The name of the export for a client that asks for ""; there may be none.
std::optional<std::string> Chain::canonical_name(const Level &level, const std::string &export_name,
                                                 bool readonly, std::string *error) {
  const bool is_plugin = level.index == filters_.size();
  if (!export_name.empty() || (!is_plugin && !has_opening_filters()))
    return export_name;
  const auto lock = turn_of_question(level);
  std::optional<std::string> name = default_export(level, readonly);
  if (!name)
    *error = "there is no default export";
  return name;
}

std::unique_ptr<Backend> Chain::open_native(const Level &level, const Asked &asked,
                                            std::string *error) {
  Filter &filter = *filters_[level.index].filter;
  host::CallContext &context = level.bottom->context();
  const OpenBehind open =
      filter.opens_for_all() ? opener_for_all(level, asked) : opener_behind(level, asked);
  const Opening opening{context, asked.export_name, asked.is_readonly, open,
                        [bottom = level.bottom] { bottom->give_up_opening(); }};
  if (!filter.admits(opening, error))
    return nullptr;
  std::optional<std::string> disk = asked.disk != nullptr ? std::optional(*asked.disk) : "";
  if (asked.disk == nullptr && filter.keeps_state())
    disk = disk_of(level, asked.export_name, asked.is_readonly);
  if (!disk)
    return nullptr;
  std::unique_ptr<Backend> opened =
      filter.open_behind(open, opening, filter.opens_readonly(asked.is_readonly), error);
  if (opened == nullptr)
    return nullptr;
  std::unique_ptr<Backend> layer;
  // Its state may depend on what is below.
  DiskState *state = state_of(*disk, level.index, opened->facts(), error);
  if (error->empty())
    layer = filter.open(&opened, opening, state, error);
  if (layer == nullptr)
    opened->close_unused();
  return layer;
}

// The name, if the plugin lists it in addition to the default. std::nullopt: unknown, because the
// plugin has failed. Names that native filters show to clients do not matter.
std::optional<std::string> Chain::disk_of(Level level, const std::string &export_name,
                                          bool readonly) {
  if (export_name.empty())
    return "";
  const auto lock = turn_of_question(level);
  while (level.index < filters_.size() && opening_at(level.index) == nullptr)
    level.index++;
  const auto behind = turn_behind(level);
  const auto normal = default_export(level, readonly);
  if (!normal || *normal == export_name)
    return normal ? std::optional("") : std::nullopt;
  const auto listed = list_exports(level, readonly);
  if (!listed)
    return std::nullopt;
  const bool is_listed =
      std::any_of(listed->begin(), listed->end(),
                  [&export_name](const ExportEntry &entry) { return entry.name == export_name; });
  return is_listed ? export_name : "";
}

DiskState *Chain::state_of(const std::string &disk, size_t filter, const Facts &below,
                           std::string *error) {
  std::lock_guard lock(mutex_);
  std::vector<std::unique_ptr<DiskState>> &states = disks_[disk].states;
  states.resize(filters_.size());
  if (!states[filter])
    states[filter] = filters_[filter].filter->new_disk(below, error);
  return states[filter].get();
}

// ---- turns ------------------------------------------------------------------------------------

ThreadModel Chain::least_thread_model(Bottom &bottom) const {
  ThreadModel least = bottom.thread_model();
  for (size_t i = 0; i < filters_.size(); i++)
    least = std::min(least, filter_at(i).thread_model());
  return least;
}

std::shared_ptr<TurnQueue> Chain::all_calls_at(size_t index, Bottom &bottom) {
  std::lock_guard lock(mutex_);
  std::shared_ptr<TurnQueue> &calls = all_calls_[index];
  if (calls == nullptr)
    calls = std::make_shared<TurnQueue>(1, 1, bottom.resources());
  return calls;
}

std::unique_lock<TurnQueue> Chain::serialize_calls_at(size_t index, Bottom &bottom) {
  if (index == filters_.size() || least_thread_model(bottom) > ThreadModel::serialize_all_requests)
    return {};
  return std::unique_lock(*all_calls_at(index, bottom));
}

std::unique_lock<TurnQueue> Chain::serialize_calls(Bottom &bottom) {
  return serialize_calls_at(place_of_turns(), bottom);
}

// Held while the filter or plugin at that place is opened, with everything behind it. Not held
// while layers in front of it are opened: they may wait, or send requests.
std::unique_lock<TurnQueue> Chain::turn_of_call(const Level &level) {
  if (!has_turns(level.index))
    return {};
  return serialize_calls_at(level.index, *level.bottom);
}

// Held while the filter or plugin there is asked during an opening. Behind turns, the opening
// already has the turn.
std::unique_lock<TurnQueue> Chain::turn_of_question(const Level &level) {
  if (level.index >= place_of_turns())
    return {};
  return serialize_calls(*level.bottom);
}

// Held while something further behind is asked; not by its opening, which already has that turn.
std::unique_lock<TurnQueue> Chain::turn_behind(const Level &level) {
  if (level.index <= place_of_turns() || !has_turns(level.index))
    return {};
  return serialize_calls_at(level.index, *level.bottom);
}

// Turns with the least thread model of all. If that model lets all calls be parallel, turns further
// behind only hand calls to a worker where the caller must not block.
std::shared_ptr<TurnQueue> Chain::turns_at(size_t index, Bottom &bottom, ThreadModel model) {
  if (model <= ThreadModel::serialize_all_requests)
    return all_calls_at(index, bottom);
  if (model == ThreadModel::serialize_requests)
    return std::make_shared<TurnQueue>(1, 1, bottom.resources());
  const unsigned most = index == place_of_turns() ? bottom.threads() : UINT32_MAX;
  return std::make_shared<TurnQueue>(most, bottom.threads(), bottom.resources());
}

// Where the turns for the whole chain stand: in front of the outermost filter whose calls block, or
// in front of everything, if one of the other filters limits the number of calls. If the result is
// the number of filters, there are none: the plugin has its own turns.
size_t Chain::place_of_turns() const {
  size_t outermost = filters_.size();
  for (size_t i = filters_.size(); i > 0; i--) {
    if (opening_at(i - 1) != nullptr)
      outermost = i - 1;
    else if (filter_at(i - 1).thread_model() < ThreadModel::async)
      return 0;
  }
  return outermost;
}

// At that place, and in front of each further filter whose calls block: layers in between may call
// it on behalf of another client, or go on after a request with a turn was given up. Directly
// behind another such filter, a call already has its turn.
bool Chain::has_turns(size_t index) const {
  const size_t first = place_of_turns();
  return index == first ||
         (index > first && opening_at(index) != nullptr && opening_at(index - 1) == nullptr);
}

std::unique_ptr<Backend> Chain::in_turns(const Level &level, std::unique_ptr<Backend> opened) {
  if (!has_turns(level.index))
    return opened;
  const ThreadModel model = least_thread_model(*level.bottom);
  const bool calls_in_turn = model <= ThreadModel::serialize_all_requests;
  return put_in_turns(std::move(opened), turns_at(level.index, *level.bottom, model),
                      calls_in_turn);
}

} // namespace asyncnbd::backend
