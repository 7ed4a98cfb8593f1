// The file of blocks that have been written: what is written again a moment later goes through
// memory, and nothing that happens to the file is more than an error.
#include <doctest/doctest.h>

#include <cerrno>
#include <csignal>
#include <dirent.h>
#include <memory>
#include <set>
#include <string>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "simulation.hpp"
#include "store/file_windows.hpp"
#include "store/guarded_copy.hpp"
#include "store/temporary_file.hpp"

using namespace asyncnbd;
using store::FileWindows;

namespace {

constexpr size_t UNIT = FileWindows::UNIT_BYTES;

std::set<int> open_files() {
  std::set<int> found;
  DIR *directory = opendir("/proc/self/fd");
  while (const dirent *entry = readdir(directory))
    if (entry->d_name[0] != '.')
      found.insert(std::stoi(entry->d_name));
  closedir(directory);
  return found;
}

struct Memfd {
  int fd = memfd_create("disk", MFD_CLOEXEC);
  Memfd() { REQUIRE(ftruncate(fd, 4 * UNIT) == 0); }
  ~Memfd() { close(fd); }
};

struct File {
  SimulatedClock clock;
  transport::PagePipes pipes;
  std::string error;
  std::unique_ptr<store::TemporaryFile> file;
  int fd = -1;

  File() {
    const std::set<int> before = open_files();
    file =
        store::TemporaryFile::make(store::TemporaryFile::directory(&error), pipes, clock, &error);
    REQUIRE(file);
    for (const int opened : open_files())
      if (before.count(opened) == 0 && lseek(opened, 0, SEEK_END) == 0)
        fd = opened;
    REQUIRE(fd != -1);
  }
  std::vector<uint8_t> read(uint64_t offset, size_t bytes) const {
    std::vector<uint8_t> content(bytes);
    CHECK(file->read(content.data(), bytes, offset) == 0);
    return content;
  }
};

std::vector<uint8_t> content(size_t bytes, uint8_t first) {
  std::vector<uint8_t> made(bytes);
  for (size_t i = 0; i < bytes; i++)
    made[i] = static_cast<uint8_t>(first + i / 512);
  return made;
}

} // namespace

// ThreadSanitizer's memcpy does not stand being left by a signal.
#if defined(__SANITIZE_THREAD__)
constexpr bool IS_WATCHED = true;
#else
constexpr bool IS_WATCHED = false;
#endif

TEST_CASE("memory is given only for a range that was written just before") {
  SimulatedClock clock;
  const Memfd file;
  FileWindows windows(file.fd, clock);
  CHECK(windows.about_to_write(100, 50) == nullptr);
  uint8_t *const memory = windows.about_to_write(100, 50);
  REQUIRE(memory != nullptr);
  CHECK(windows.about_to_write(0, UNIT) == memory - 100);
  CHECK(windows.about_to_write(UNIT - 1, 2) == nullptr);
  CHECK(windows.about_to_write(UNIT - 1, 2) == memory - 100 + UNIT - 1);
  memory[0] = 7;
  uint8_t read = 0;
  CHECK(pread(file.fd, &read, 1, 100) == 1);
  CHECK(read == 7);
  clock.advance(FileWindows::LATELY);
  CHECK(windows.about_to_write(100, 50) == memory);
  clock.advance(2 * FileWindows::LATELY);
  CHECK(windows.about_to_write(100, 50) == nullptr);
  CHECK(windows.about_to_write(100, 50) == memory);
}

TEST_CASE("a range across two windows or far away has no memory") {
  SimulatedClock clock;
  const Memfd file;
  FileWindows windows(file.fd, clock);
  for (const uint64_t offset : {FileWindows::WINDOW_BYTES - 1, uint64_t{1} << 62})
    for (int i = 0; i < 2; i++)
      CHECK(windows.about_to_write(offset, 2) == nullptr);
}

TEST_CASE("a pipe has no memory") {
  SimulatedClock clock;
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  FileWindows windows(ends[0], clock);
  for (int i = 0; i < 2; i++)
    CHECK(windows.about_to_write(0, 2) == nullptr);
  close(ends[0]);
  close(ends[1]);
}

TEST_CASE("a copy to missing memory fails, and the next copy does not" *
          doctest::skip(IS_WATCHED)) {
  SimulatedClock clock;
  const Memfd file;
  FileWindows windows(file.fd, clock);
  const std::vector<uint8_t> data = content(UNIT, 1);
  windows.about_to_write(0, UNIT);
  uint8_t *const memory = windows.about_to_write(0, UNIT);
  REQUIRE(memory != nullptr);
  REQUIRE(ftruncate(file.fd, 0) == 0);
  CHECK_FALSE(store::copy_guarded(memory, data.data(), UNIT));
  REQUIRE(ftruncate(file.fd, UNIT) == 0);
  CHECK(store::copy_guarded(memory, data.data(), UNIT));
  std::vector<uint8_t> read(UNIT);
  CHECK(pread(file.fd, read.data(), UNIT, 0) == static_cast<ssize_t>(UNIT));
  CHECK(read == data);
}

TEST_CASE("repeated writes are what is read") {
  File disk;
  std::vector<uint8_t> model = content(4 * UNIT, 1);
  REQUIRE(disk.file->write(model.data(), model.size(), 0) == 0);
  for (uint8_t i = 1; i < 40; i++) {
    const uint64_t offset = (i * 977) % (3 * UNIT);
    const std::vector<uint8_t> data = content(1 + (i * 4099) % UNIT, i);
    REQUIRE(disk.file->overwrite(data.data(), data.size(), offset) == 0);
    std::copy(data.begin(), data.end(), model.begin() + static_cast<ptrdiff_t>(offset));
    REQUIRE(disk.read(0, model.size()) == model);
  }
}

TEST_CASE("if the file's mapping is gone, writes still work" * doctest::skip(IS_WATCHED)) {
  File disk;
  const std::vector<uint8_t> data = content(UNIT, 9);
  REQUIRE(disk.file->overwrite(data.data(), data.size(), 0) == 0);
  REQUIRE(ftruncate(disk.fd, UNIT / 2) == 0);
  CHECK(disk.file->overwrite(data.data(), data.size(), 0) == 0);
  CHECK(disk.read(0, UNIT) == data);
}

TEST_CASE("if there is no room either, that is the error" * doctest::skip(IS_WATCHED)) {
  signal(SIGXFSZ, SIG_IGN);
  File disk;
  const std::vector<uint8_t> data = content(UNIT, 9);
  REQUIRE(disk.file->overwrite(data.data(), data.size(), 0) == 0);
  REQUIRE(ftruncate(disk.fd, UNIT / 2) == 0);
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit full{UNIT / 2, before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_FSIZE, &full) == 0);
  const int error = disk.file->overwrite(data.data(), data.size(), 0);
  setrlimit(RLIMIT_FSIZE, &before);
  CHECK(error == ENOSPC);
  signal(SIGXFSZ, SIG_DFL);
}

TEST_CASE("a range being received keeps its space, and its neighbours do not") {
  File disk;
  const std::vector<uint8_t> data = content(3 * UNIT, 9);
  REQUIRE(disk.file->write(data.data(), data.size(), 0) == 0);
  // Written, but nobody knows when; asking is not writing.
  CHECK(disk.file->begin_receiving(UNIT, UNIT) == nullptr);
  CHECK(disk.file->begin_receiving(UNIT, UNIT) == nullptr);
  REQUIRE(disk.file->overwrite(data.data(), UNIT, UNIT) == 0);
  uint8_t *const memory = disk.file->begin_receiving(UNIT, UNIT);
  REQUIRE(memory != nullptr);
  auto blocks = [&] {
    struct stat facts {};
    REQUIRE(fstat(disk.fd, &facts) == 0);
    return static_cast<size_t>(facts.st_blocks) * 512;
  };
  const size_t before = blocks();
  disk.file->discard(3 * UNIT, 0);
  CHECK(blocks() == before - 2 * UNIT);
  memory[7] = 77;
  CHECK(disk.read(UNIT + 7, 1) == std::vector<uint8_t>{77});
  CHECK(disk.read(0, UNIT) == std::vector<uint8_t>(UNIT, 0));
  CHECK(disk.read(2 * UNIT, UNIT) == std::vector<uint8_t>(UNIT, 0));
  disk.file->end_receiving(UNIT, UNIT);
  disk.file->discard(3 * UNIT, 0);
  CHECK(blocks() == before - 3 * UNIT);
}
