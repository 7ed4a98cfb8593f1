// What a C++ plugin may expect of the C++ library, tried at every stage: streams, locales,
// exceptions, casts, threads. Its disk is 1 MiB of the text that it has made with them.

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#include <iomanip>
#include <iostream>
#include <locale>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

struct Shape {
  virtual ~Shape() = default;
};
struct Square final : Shape {};

std::string text;

std::string caught() {
  try {
    throw std::runtime_error("thrown");
  } catch (const std::exception &error) {
    return error.what();
  }
}

std::string made_in_thread() {
  std::string result;
  std::thread thread([&result] {
    std::ostringstream out;
    out.imbue(std::locale::classic());
    out << std::setw(6) << std::setfill('0') << 42 << ' ' << std::hex << 255 << ' ' << 1.5;
    result = out.str();
  });
  thread.join();
  return result;
}

void cxx_load() {
  std::cerr << "cerr works" << std::endl;
  std::clog << "clog works" << std::endl;
}

void cxx_dump_plugin() {
  std::cout << "cout_works=" << 1 << std::endl;
  std::cout << "caught=" << caught() << "\n" << std::flush;
}

void *cxx_open(int) {
  const std::unique_ptr<Shape> shape = std::make_unique<Square>();
  std::istringstream in("12 34");
  int first = 0;
  int second = 0;
  in >> first >> second;
  text = caught() + " " + made_in_thread() + " " + std::to_string(first + second) + " " +
         (dynamic_cast<Square *>(shape.get()) != nullptr ? "square" : "no square") + "\n";
  return NBDKIT_HANDLE_NOT_NEEDED;
}

int64_t cxx_get_size(void *) {
  return 1 << 20;
}

int cxx_pread(void *, void *buf, uint32_t count, uint64_t offset, uint32_t) {
  for (uint32_t i = 0; i < count; i++)
    static_cast<char *>(buf)[i] = text[(offset + i) % text.size()];
  return 0;
}

// Not designated initializers: g++ warns of every field they leave out.
struct nbdkit_plugin plugin = [] {
  struct nbdkit_plugin table = {};
  table.name = "cxxprobe";
  table.load = cxx_load;
  table.dump_plugin = cxx_dump_plugin;
  table.open = cxx_open;
  table.get_size = cxx_get_size;
  table.pread = cxx_pread;
  return table;
}();

} // namespace

NBDKIT_REGISTER_PLUGIN(plugin)
