// The loop that follows a collection: list, watch, and what to do when either breaks. Reflector is its typed face.
#pragma once

#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <stop_token>
#include <string>

#include "lib/base/clock.h"
#include "lib/base/metrics.h"
#include "lib/base/result.h"
#include "lib/kube/client.h"
#include "lib/kube/resource.h"
#include "lib/kube/watch.h"

namespace pgtier::kube {

// What is followed.
struct WatchScope {
  Resource resource;
  std::string namespace_ = {};  // empty: all
  std::string label_selector = {};
  std::string field_selector = {};
  bool metadata_only = false;  // objects come as PartialObjectMetadata
};

// Where the loop delivers. Called on the loop's thread.
class WatchSink {
 public:
  virtual ~WatchSink() = default;
  // All objects follow as Upsert until EndList; those that were not among them are gone.
  virtual void BeginList() = 0;
  virtual void Upsert(const nlohmann::json& object) = 0;
  virtual void Erase(const nlohmann::json& object) = 0;
  virtual void EndList() = 0;
};

struct WatchTuning {
  Duration backoff_min = std::chrono::milliseconds(800);  // client-go's reflector
  Duration backoff_max = std::chrono::seconds(30);
  int page_size = 500;
  bool use_watch_list = true;
  // Servers before 1.27 know no WatchList and pass over its parameter: they send what there is, and never the bookmark
  // that ends it. Silence for so long, or another bookmark, is taken for that; then pages are listed.
  Duration initial_silence = std::chrono::seconds(10);
};

class ListWatcher {
 public:
  // All three outlive this; `metrics` may be null.
  ListWatcher(Client* client, WatchScope scope, WatchSink* sink, Metrics* metrics, WatchTuning tuning = {});

  // Follows until `stop`. Failures are logged and counted, and tried again for ever.
  void Run(const std::stop_token& stop);

  // For how long what the sink holds has not been followed; zero while a watch is open. Thread-safe. A peer that falls
  // silent shows after 150 s only, when a bookmark is overdue.
  [[nodiscard]] Duration broken_for() const;

 private:
  enum class Next { kContinue, kRelist, kBackOff };
  struct Round;  // one stream

  Next ListOnce(const std::stop_token& stop);
  Next WatchOnce(bool initial_events, const std::stop_token& stop);
  Status OnEvent(Round& round, std::string_view frame);
  Next Judge(const Round& round, const Status& outcome);
  std::string WatchPath(bool initial_events);
  bool BackOff(const std::stop_token& stop);
  void Note(const char* reason, const std::string& message);
  void MarkOpen();
  void MarkBroken();

  Client* const client_;
  const WatchScope scope_;
  WatchSink* const sink_;
  Metrics* const metrics_;
  const WatchTuning tuning_;
  std::minstd_rand random_;
  bool watch_list_;                      // false once the server turned out not to know it
  std::string resource_version_;         // of what the sink holds; empty: list first
  std::optional<Duration> retry_after_;  // the server's wish for the next wait
  Duration backoff_;
  std::atomic<MonoTime::rep> broken_since_;  // zero: a watch is open
};

}  // namespace pgtier::kube
