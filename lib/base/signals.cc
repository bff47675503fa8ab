#include "lib/base/signals.h"

#include <csignal>
#include <thread>

#include "lib/base/log.h"

namespace pgtier {

std::stop_source StopOnSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::stop_source stop;
  std::thread([signals, stop]() mutable {
    int signal = 0;
    sigwait(&signals, &signal);
    log::Info("stopping", {{"signal", static_cast<long long>(signal)}});
    stop.request_stop();
  }).detach();
  return stop;
}

}  // namespace pgtier
