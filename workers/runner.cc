#include "workers/runner.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <thread>

#include "lib/base/log.h"
#include "lib/http/server.h"

namespace pgtier::workers {
namespace {

constexpr Duration kReloadInterval = std::chrono::seconds(1);
constexpr Duration kFirstPause = std::chrono::milliseconds(200);
constexpr Duration kLongestPause = std::chrono::seconds(10);
constexpr Duration kCalm = std::chrono::seconds(30);  // after that long without an error pauses begin small again

http::Response Page(int status, std::string body) {
  http::Response response;
  response.status = status;
  response.body = std::move(body);
  return response;
}

// The configuration with all that it refers to: what a change is seen by.
struct Loaded {
  std::string text;
  Config config;
  postgres::ConnectOptions connect;

  [[nodiscard]] bool Same(const Loaded& other) const {
    return text == other.text && connect.password == other.connect.password &&
           connect.ssl_root_pem == other.connect.ssl_root_pem;
  }
};

Result<Loaded> Load(const std::string& path, const Modes& modes) {
  Loaded loaded;
  PGTIER_ASSIGN_OR_RETURN(loaded.text, settings::ReadFile(path));
  auto config = ParseConfig(loaded.text);
  if (!config.has_value()) return std::move(config).error().WithContext(path);
  loaded.config = *std::move(config);
  if (!modes.contains(loaded.config.mode)) {
    return MakeError(Code::kInvalidArgument, path + ": mode \"" + loaded.config.mode + "\" is not known");
  }
  PGTIER_ASSIGN_OR_RETURN(loaded.connect, ConnectOptionsOf(loaded.config));
  return loaded;
}

constexpr size_t kMostParts = 2;  // of a mode
using Progresses = std::array<Progress, kMostParts>;

// The parts of one mode with one configuration, each on a thread of its own, until it is destroyed.
class Running {
 public:
  Running(const Loaded& loaded, const std::vector<MakeMode>& parts, Metrics& metrics, Progresses& progresses) {
    for (size_t i = 0; i < parts.size(); ++i) {
      threads_.emplace_back([context = ModeContext{loaded.config, loaded.connect, metrics, progresses.at(i)},
                             make = parts[i]](const std::stop_token& stop) { Keep(context, make, stop); });
    }
    // A mode may have fewer parts than the one before.
    for (size_t i = parts.size(); i < progresses.size(); ++i) progresses.at(i).SetReady(true);
  }
  ~Running() {
    for (std::jthread& thread : threads_) thread.request_stop();  // all of them, before one is waited for
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

 private:
  static void Keep(const ModeContext& context, MakeMode make, const std::stop_token& stop) {
    Duration pause = kFirstPause;
    while (!stop.stop_requested()) {
      auto began = std::chrono::steady_clock::now();
      Status ended = make(context)->Run(stop);
      context.progress.SetReady(false);
      context.progress.Idle();
      if (ended.has_value() || stop.stop_requested()) continue;
      log::Warn("the worker's mode ended; it is begun again",
                {{"mode", context.config.mode}, {"error", ended.error().message}});
      context.metrics.Increment("pgtier_shadow_errors_total", "Times that the worker had to begin again", {});
      if (std::chrono::steady_clock::now() - began > kCalm) pause = kFirstPause;
      SleepFor(pause, stop);
      pause = std::min(pause * 2, kLongestPause);
    }
  }
  std::vector<std::jthread> threads_;
};

}  // namespace

Status RunWorker(const std::string& config_path, const Modes& modes, const std::stop_token& stop) {
  PGTIER_ASSIGN_OR_RETURN(Loaded loaded, Load(config_path, modes));
  Metrics metrics;
  Progresses progresses;
  auto ready = [&] { return std::ranges::all_of(progresses, [](const Progress& each) { return each.Ready(); }); };
  auto healthy = [&](Duration limit) {
    return std::ranges::all_of(progresses, [&](const Progress& each) { return each.Healthy(limit); });
  };
  std::atomic<Duration> stall_limit{loaded.config.stall_limit};
  PGTIER_ASSIGN_OR_RETURN(
      auto server,
      http::Server::Start(
          loaded.config.listen_address, loaded.config.listen_port,
          {{"/metrics", [&] { return Page(200, metrics.Serialize()); }},
           {"/healthz",
            [&] { return healthy(stall_limit) ? Page(200, "ok\n") : Page(503, "work, but no progress\n"); }},
           {"/readyz", [&] { return ready() ? Page(200, "ok\n") : Page(503, "not connected\n"); }}}));
  log::Info("pgtier-worker runs", {{"policy", loaded.config.policy},
                                   {"mode", loaded.config.mode},
                                   {"port", static_cast<long long>(server->port())}});
  auto running = std::make_unique<Running>(loaded, modes.at(loaded.config.mode), metrics, progresses);
  std::string complained;
  while (SleepFor(kReloadInterval, stop)) {
    auto now = Load(config_path, modes);
    if (!now.has_value()) {
      if (now.error().message != complained) {
        log::Warn("the configuration is wrong; the one before stays", {{"error", now.error().message}});
      }
      complained = now.error().message;
      continue;
    }
    complained.clear();
    if (now->Same(loaded)) continue;
    log::Info("the configuration has changed");
    running.reset();
    loaded = *std::move(now);
    stall_limit = loaded.config.stall_limit;
    running = std::make_unique<Running>(loaded, modes.at(loaded.config.mode), metrics, progresses);
  }
  running.reset();
  return {};
}

}  // namespace pgtier::workers
