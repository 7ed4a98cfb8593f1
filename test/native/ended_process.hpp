// How a process ends in which something runs that may end it.
#pragma once

#include <doctest/doctest.h>

#include <csignal>
#include <functional>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

// After which one that hangs is ended by SIGALRM; only a failing test meets it.
constexpr unsigned DEADLINE_SECONDS = 60;

struct Outcome {
  int signal = 0; // that has ended it
  std::string words;
};

// Of what runs in a process of its own.
inline Outcome outcome_in_process(const std::function<void()> &run) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  REQUIRE(child != -1);
  if (child == 0) {
    alarm(DEADLINE_SECONDS);
    signal(SIGABRT, SIG_DFL); // doctest would tell of it
    const rlimit no_core{0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    dup2(ends[1], STDERR_FILENO);
    run();
    _exit(0);
  }
  close(ends[1]);
  Outcome outcome;
  char part[512];
  for (ssize_t length; (length = read(ends[0], part, sizeof part)) > 0;)
    outcome.words.append(part, static_cast<size_t>(length));
  close(ends[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  outcome.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  return outcome;
}
