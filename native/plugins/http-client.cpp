// See http-client.hpp. The client hands its requests to the loop, which does the work.
#include <pthread.h>
#include <utility>

#include "http-loop.hpp"

namespace http {

namespace {

/// Takes the certificates from the environment variables that the curl command and other programs
/// use.
void trust_as_curl_does(Settings &settings) {
  const Environment &environment = settings.environment;
  settings.ca_file = environment.value_of("CURL_CA_BUNDLE");
  if (!settings.ca_file.empty())
    return;
  settings.ca_file = environment.value_of("SSL_CERT_FILE");
  settings.ca_directory = environment.value_of("SSL_CERT_DIR");
}

} // namespace

Client::Client(std::unique_ptr<Loop> loop) : loop_(std::move(loop)) {}

Client::~Client() = default;

std::unique_ptr<Client> Client::start(Settings settings) {
  const Library *const found = library();
  if (found == nullptr)
    return nullptr;
  if (settings.uses_default_ca_file && settings.ca_file.empty() && settings.ca_directory.empty())
    trust_as_curl_does(settings);
  auto loop = std::make_unique<Loop>(*found, std::move(settings));
  if (!loop->start())
    return nullptr;
  return std::unique_ptr<Client>(new Client(std::move(loop)));
}

void Client::submit(Request request) {
  auto job = std::make_unique<Job>();
  job->deadline = Clock::now() + std::chrono::milliseconds(request.retry.deadline_ms);
  job->request = std::move(request);
  loop_->submit(std::move(job));
}

void Client::call(std::function<void()> work) {
  loop_->call(std::move(work));
}

Response Client::perform(Request request) {
  std::mutex mutex;
  // std::condition_variable would need a newer libstdc++ than some systems have.
  pthread_cond_t is_over = PTHREAD_COND_INITIALIZER;
  std::optional<Response> result;
  request.done = [&](const Response &response) {
    std::lock_guard lock(mutex);
    result = response;
    pthread_cond_signal(&is_over); // under the lock, because the waiter destroys it on return
  };
  submit(std::move(request));
  std::unique_lock lock(mutex);
  while (!result)
    pthread_cond_wait(&is_over, mutex.native_handle());
  return std::move(*result);
}

void Client::stop() {
  loop_->stop();
}

} // namespace http
