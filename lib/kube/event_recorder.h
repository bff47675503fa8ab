// Events (events.k8s.io/v1): what the operator did, on the object it did it to. Never in the way of a pass.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "lib/base/clock.h"
#include "lib/base/metrics.h"
#include "lib/kube/client.h"

namespace pgtier::kube {

struct ObjectReference {
  std::string api_version;
  std::string kind;
  std::string namespace_;
  std::string name;
  std::string uid;

  auto operator<=>(const ObjectReference&) const = default;
};

struct Event {
  ObjectReference regarding;
  bool warning = false;
  std::string reason;  // CamelCase, at most 128 bytes
  std::string action;  // CamelCase: what was done or tried; the API requires it
  std::string note;    // at most 1024 bytes; longer ones are cut

  auto operator<=>(const Event&) const = default;
};

struct EventRecorderOptions {
  std::string controller = "pgtier.dev/operator";
  std::string instance;                              // this process
  size_t queue_size = 1000;                          // further events are dropped and counted
  Duration series_window = std::chrono::minutes(6);  // a repeat within this belongs to the series (client-go)
  // A series that goes on is written at most this often; the repeats between count all the same.
  Duration series_interval = std::chrono::seconds(30);
};

class EventRecorder {
 public:
  // All outlive this; `metrics` may be null. Starts a thread of its own.
  EventRecorder(Client* client, const Clock* clock, Metrics* metrics, EventRecorderOptions options);
  // Stops at once; what still waits is given up.
  ~EventRecorder();
  EventRecorder(const EventRecorder&) = delete;
  EventRecorder& operator=(const EventRecorder&) = delete;

  // Never blocks, never fails. An event equal in every field to one of the last six minutes becomes a series of it
  // (count, lastObservedTime), so a note with changing numbers makes events of its own.
  void Record(Event event);

  // Waits until what was recorded so far is written or given up. False: not by the deadline.
  bool Flush(Deadline deadline);

 private:
  struct Series {
    ObjectKey key;  // of the Event object
    int count = 1;
    int written = 1;
    WallTime last{};
    MonoTime last_mono{};
    MonoTime written_at{};
  };

  void Run(const std::stop_token& stop);
  void Write(const Event& event, const std::stop_token& stop);
  Status WriteNew(const Event& event, Series& series, const std::stop_token& stop);
  Status WriteSeries(Series& series, const std::stop_token& stop);
  void Tidy(const std::stop_token& stop);

  Client* const client_;
  const Clock* const clock_;
  Metrics* const metrics_;
  const EventRecorderOptions options_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::deque<Event> queue_;
  bool writing_ = false;
  std::map<Event, Series> series_;  // touched by the thread only
  std::jthread thread_;
};

}  // namespace pgtier::kube
