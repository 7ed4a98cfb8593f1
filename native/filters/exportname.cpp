// Sets which exports clients see: which names are listed and allowed, the default one, and their
// descriptions.
#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "backend/layer.hpp"
#include "filters/registry.hpp"
#include "filters/shell.hpp"
#include "host/context.hpp"
#include "host/log.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::ExportEntry;

enum class List : uint8_t { keep, error, empty, default_only, given };

// How an export is described.
class Description {
public:
  enum class Kind : uint8_t { keep, none, fixed, script };

  // False: the word is unknown.
  bool parse(const std::string &word) {
    constexpr size_t FIXED = sizeof "fixed:" - 1;
    constexpr size_t SCRIPT = sizeof "script:" - 1;
    if (word.compare(0, FIXED, "fixed:") == 0) {
      kind_ = Kind::fixed;
      text_ = word.substr(FIXED);
    } else if (word.compare(0, SCRIPT, "script:") == 0) {
      kind_ = Kind::script;
      text_ = word.substr(SCRIPT);
      environment_ = ShellEnvironment::copied();
    } else if (word == "none") {
      kind_ = Kind::none;
    } else {
      return word == "keep";
    }
    return true;
  }

  bool is_kept() const { return kind_ == Kind::keep; }

  // The new description. A script may block.
  std::string of(const std::string &name) const {
    return kind_ == Kind::script ? told_by_script(name) : text_;
  }

private:
  // The script's output, up to the protocol's limit, without its last newline; the exit status does
  // not matter.
  std::string told_by_script(const std::string &name) const {
    const std::string commands = "export name; name=" + shell_quoted(name) + "\n" + text_ + "\n";
    std::string output;
    std::string failure;
    if (run_shell(Shell::standard, commands, environment_, wire::MAX_STRING_BYTES, &output,
                  &failure) == -1 &&
        !failure.empty())
      host::log_error("filter exportname: exportdesc=script: %s", failure.c_str());
    if (!output.empty() && output.back() == '\n')
      output.pop_back();
    return output.substr(0, output.find('\0'));
  }

  Kind kind_ = Kind::keep;
  std::string text_;             // or the commands; "" for none
  ShellEnvironment environment_; // of a script
};

class DescribedLayer final : public backend::PassingLayer {
public:
  DescribedLayer(std::unique_ptr<Backend> opened, const Description &description, std::string name)
      : PassingLayer(std::move(opened)), description_(description), name_(std::move(name)) {}

private:
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override {
    backend::Wanted of_below = wanted;
    of_below.description = false;
    if (!PassingLayer::collect(of_below, facts, error))
      return false;
    if (wanted.description)
      facts->description = description_.of(name_);
    return true;
  }

  const Description &description_; // owned by the filter
  const std::string name_;
};

struct Settings {
  std::optional<std::string> default_export;
  List list = List::keep;
  bool is_strict = false;
  std::vector<std::string> names;
  Description description;

  bool has(const std::string &name) const {
    return std::find(names.begin(), names.end(), name) != names.end();
  }
};

class ExportnameFilter final : public backend::Filter {
public:
  explicit ExportnameFilter(Settings settings) : settings_(std::move(settings)) {}

  const char *name() const override { return "exportname"; }

  std::optional<std::vector<ExportEntry>> list_exports(const backend::Level &behind,
                                                       bool readonly) override;

  std::optional<std::string> default_export(const backend::Level &behind, bool readonly) override {
    if (is_default_refused()) {
      host::ContextScope scope(&behind.bottom->context());
      host::log_error(
          "filter exportname: a client that names no export is refused: an empty exportname= would "
          "allow it");
      return std::nullopt;
    }
    // The default name of the backend below may not be allowed; "" is, because it was not refused.
    if (settings_.is_strict)
      return settings_.default_export.value_or("");
    return settings_.default_export ? settings_.default_export : behind.default_export(readonly);
  }

  bool admits(const backend::Opening &opening, std::string *error) override {
    if (!settings_.is_strict || settings_.has(opening.export_name))
      return true;
    *error = "filter exportname: the client is refused: export \"" + opening.export_name +
             "\" is not named by any exportname=";
    return false;
  }

  backend::Wanted wanted_of_below(const backend::Wanted &wanted) const override {
    backend::Wanted of_below = wanted;
    of_below.description = wanted.description && settings_.description.is_kept();
    return of_below;
  }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *, std::string *) override {
    if (settings_.description.is_kept())
      return std::move(*below);
    return std::make_unique<DescribedLayer>(std::move(*below), settings_.description,
                                            opening.export_name);
  }

private:
  bool is_default_refused() const { return settings_.is_strict && !settings_.has(""); }
  std::optional<std::vector<ExportEntry>> listed(const backend::Level &behind, bool readonly) const;

  const Settings settings_;
};

// The list before descriptions. std::nullopt: the list failed, and that has been logged.
std::optional<std::vector<ExportEntry>> ExportnameFilter::listed(const backend::Level &behind,
                                                                 bool readonly) const {
  if (settings_.list == List::keep)
    return behind.list_exports(readonly);
  std::vector<ExportEntry> entries;
  if (settings_.list == List::given)
    for (const std::string &name : settings_.names)
      entries.push_back({name, ""});
  return entries;
}

std::optional<std::vector<ExportEntry>> ExportnameFilter::list_exports(const backend::Level &behind,
                                                                       bool readonly) {
  host::ContextScope scope(&behind.bottom->context());
  if (settings_.list == List::error) {
    host::log_error("filter exportname: the client's list of exports fails because of "
                    "exportname-list=error");
    return std::nullopt;
  }
  if (settings_.list == List::default_only) {
    std::optional<std::string> name;
    if (!is_default_refused())
      name = default_export(behind, readonly);
    std::vector<ExportEntry> entries;
    if (name)
      entries.push_back({*name, ""}); // without a description, as in nbdkit
    return entries;
  }
  std::optional<std::vector<ExportEntry>> entries = listed(behind, readonly);
  if (entries && !settings_.description.is_kept())
    for (ExportEntry &entry : *entries)
      entry.description = settings_.description.of(entry.name);
  return entries;
}

// Options: defaultExport; list, "keep" (by default), "error", "empty", "defaultonly" or "explicit";
// strict; names; description, "keep" (by default), "none", "fixed:TEXT" or "script:COMMANDS".
// nullptr, with a message in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_exportname(const FilterOptions &options,
                                                 const backend::Resources &, std::string *error) {
  OptionReader reader("exportname", options);
  Settings settings;
  if (options.find("defaultExport") != options.end())
    settings.default_export = reader.text("defaultExport");
  settings.list =
      reader.choice<List>("list", {"keep", "error", "empty", "defaultonly", "explicit"});
  settings.is_strict = reader.boolean("strict", false);
  settings.names = reader.list("names");
  if (!settings.description.parse(reader.text("description", "keep")))
    reader.complain("description", "keep, none, fixed:TEXT or script:COMMANDS");
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<ExportnameFilter>(std::move(settings));
}

const Registered registered_exportname("exportname", make_exportname);

} // namespace

} // namespace asyncnbd::filters
