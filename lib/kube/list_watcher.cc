#include "lib/kube/list_watcher.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <thread>
#include <utility>

#include "lib/base/log.h"
#include "lib/kube/json.h"

namespace pgtier::kube {
namespace {

constexpr Duration kPageDeadline = std::chrono::seconds(60);
constexpr Duration kTooShort = std::chrono::seconds(1);
constexpr size_t kErrorBodyBytes = size_t{64} << 10;

// "Too large resource version": the server's cache is behind what we have seen (an API server restored, or another
// replica). It comes as a Status of reason Timeout, with this cause or, from older servers, with these words.
bool IsTooLargeVersion(const nlohmann::json& status) {
  const nlohmann::json& causes = At(status, {"details", "causes"});
  if (causes.is_array()) {
    for (const auto& cause : causes) {
      if (StringAt(cause, {"reason"}) == "ResourceVersionTooLarge") return true;
    }
  }
  return StringAt(status, {"message"}).find("Too large resource version") != std::string::npos;
}

bool IsExpired(int code, const nlohmann::json& status) {
  const std::string reason = StringAt(status, {"reason"});
  return code == 410 || reason == "Expired" || reason == "Gone" || IsTooLargeVersion(status);
}

}  // namespace

// What one stream has brought so far.
struct ListWatcher::Round {
  bool initial = false;  // in the initial events of a WatchList
  bool any_event = false;
  MonoTime begun = std::chrono::steady_clock::now();
  FrameSplitter frames;
  int http_status = 0;
  std::string error_body;
  std::optional<Error> refused;  // an ERROR event, or an answer other than 200
  bool expired = false;
  bool endless = false;  // the initial events have no end that is marked
};

// Ends a stream when its initial events fall silent.
class SilenceGuard {
 public:
  // All outlive this.
  SilenceGuard(Duration limit, const std::stop_token& stop)
      : limit_(limit), link_(stop, [this] { stop_.request_stop(); }), thread_([this](const std::stop_token& over) {
          while (SleepFor(limit_ / 10, over)) {
            if (std::chrono::steady_clock::now() - MonoTime(MonoTime::duration(heard_)) < limit_) continue;
            fell_silent_ = true;
            stop_.request_stop();
            return;
          }
        }) {}

  void Heard() { heard_ = std::chrono::steady_clock::now().time_since_epoch().count(); }
  void Disarm() { thread_.request_stop(); }
  [[nodiscard]] std::stop_token token() const { return stop_.get_token(); }
  [[nodiscard]] bool fell_silent() const { return fell_silent_; }

 private:
  const Duration limit_;
  std::stop_source stop_;
  std::stop_callback<std::function<void()>> link_;
  // Until something is there at all other limits count.
  std::atomic<MonoTime::rep> heard_ = MonoTime::max().time_since_epoch().count();
  std::atomic<bool> fell_silent_ = false;
  std::jthread thread_;
};

ListWatcher::ListWatcher(Client* client, WatchScope scope, WatchSink* sink, Metrics* metrics, WatchTuning tuning)
    : client_(client),
      scope_(std::move(scope)),
      sink_(sink),
      metrics_(metrics),
      tuning_(tuning),
      random_(std::random_device()()),
      watch_list_(tuning.use_watch_list),
      backoff_(tuning.backoff_min),
      broken_since_(std::chrono::steady_clock::now().time_since_epoch().count()) {}

void ListWatcher::MarkOpen() { broken_since_ = 0; }

void ListWatcher::MarkBroken() {
  MonoTime::rep open = 0;
  broken_since_.compare_exchange_strong(open, std::chrono::steady_clock::now().time_since_epoch().count());
}

Duration ListWatcher::broken_for() const {
  const MonoTime::rep since = broken_since_;
  return since == 0 ? Duration::zero() : std::chrono::steady_clock::now() - MonoTime(MonoTime::duration(since));
}

void ListWatcher::Run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    Next next = Next::kContinue;
    if (!resource_version_.empty()) {
      next = WatchOnce(/*initial_events=*/false, stop);
    } else if (watch_list_) {
      next = WatchOnce(/*initial_events=*/true, stop);
    } else {
      next = ListOnce(stop);
    }
    if (next == Next::kRelist) resource_version_.clear();
    if (next == Next::kContinue) {
      backoff_ = tuning_.backoff_min;
    } else if (!BackOff(stop)) {
      return;
    }
  }
}

ListWatcher::Next ListWatcher::ListOnce(const std::stop_token& stop) {
  ListOptions options;
  options.label_selector = scope_.label_selector;
  options.field_selector = scope_.field_selector;
  options.metadata_only = scope_.metadata_only;
  options.limit = tuning_.page_size;
  sink_->BeginList();
  do {
    auto page = client_->List(scope_.resource, scope_.namespace_, options, Deadline::After(kPageDeadline), stop);
    if (!page.has_value()) {
      if (!stop.stop_requested()) Note("list_failed", page.error().message);
      return Next::kRelist;  // a token that expired half way means beginning again, too
    }
    const nlohmann::json& items = At(*page, {"items"});
    if (items.is_array()) {
      for (const auto& object : items) sink_->Upsert(object);
    }
    options.continue_token = StringAt(*page, {"metadata", "continue"});
    resource_version_ = StringAt(*page, {"metadata", "resourceVersion"});
  } while (!options.continue_token.empty());
  sink_->EndList();
  return resource_version_.empty() ? Next::kBackOff : Next::kContinue;
}

std::string ListWatcher::WatchPath(bool initial_events) {
  // 5 to 10 minutes, so that streams that began together don't end together (client-go).
  const int seconds = std::uniform_int_distribution<int>(300, 600)(random_);
  std::string path = scope_.resource.Path(scope_.namespace_) +
                     "?watch=true&allowWatchBookmarks=true&timeoutSeconds=" + std::to_string(seconds);
  if (initial_events) {
    path += "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
  } else {
    path += "&resourceVersion=" + PercentEncode(resource_version_);
  }
  if (!scope_.label_selector.empty()) path += "&labelSelector=" + PercentEncode(scope_.label_selector);
  if (!scope_.field_selector.empty()) path += "&fieldSelector=" + PercentEncode(scope_.field_selector);
  return path;
}

ListWatcher::Next ListWatcher::WatchOnce(bool initial_events, const std::stop_token& stop) {
  Round round;
  round.initial = initial_events;
  if (initial_events) sink_->BeginList();
  auto on_data = [&](const http::Response& head, std::string_view chunk) -> Status {
    round.http_status = head.status;
    if (head.status == 200) {
      if (!round.initial) MarkOpen();
      return round.frames.Feed(chunk, [&](std::string_view frame) { return OnEvent(round, frame); });
    }
    retry_after_ = head.retry_after;
    round.error_body += chunk.substr(0, kErrorBodyBytes - std::min(kErrorBodyBytes, round.error_body.size()));
    return {};
  };
  Status outcome;
  if (initial_events) {
    SilenceGuard guard(tuning_.initial_silence, stop);
    auto guarded = [&](const http::Response& head, std::string_view chunk) -> Status {
      guard.Heard();
      Status done = on_data(head, chunk);
      if (!round.initial) guard.Disarm();
      return done;
    };
    outcome = client_->Watch(WatchPath(true), scope_.metadata_only, guarded, guard.token());
    round.endless = round.endless || (guard.fell_silent() && round.initial && !stop.stop_requested());
  } else {
    outcome = client_->Watch(WatchPath(false), scope_.metadata_only, on_data, stop);
  }
  MarkBroken();
  if (stop.stop_requested()) return Next::kContinue;
  if (round.http_status != 0 && round.http_status != 200) {
    round.refused = ErrorFromStatus(round.http_status, round.error_body, "watch");
    auto status = ParseJson(round.error_body);
    round.expired = IsExpired(round.http_status, status.has_value() ? *status : nlohmann::json());
  }
  return Judge(round, outcome);
}

Status ListWatcher::OnEvent(Round& round, std::string_view frame) {
  PGTIER_ASSIGN_OR_RETURN(const WatchEvent event, ParseWatchEvent(frame));
  if (event.type == WatchEvent::Type::kError) {
    const auto code = static_cast<int>(IntAt(event.object, {"code"}, 500));
    round.refused = ErrorFromStatus(code, DumpJson(event.object), "watch");
    round.expired = IsExpired(code, event.object);
    const long long seconds = IntAt(event.object, {"details", "retryAfterSeconds"});
    if (seconds > 0) retry_after_ = std::chrono::seconds(seconds);
    return *round.refused;
  }
  round.any_event = true;
  backoff_ = tuning_.backoff_min;
  switch (event.type) {
    case WatchEvent::Type::kAdded:
    case WatchEvent::Type::kModified:
      sink_->Upsert(event.object);
      break;
    case WatchEvent::Type::kDeleted:
      sink_->Erase(event.object);
      break;
    default:
      if (round.initial && IsInitialEventsEnd(event.object)) {
        round.initial = false;
        sink_->EndList();
        MarkOpen();
      } else if (round.initial) {
        round.endless = true;
        return MakeError(Code::kUnimplemented, "a bookmark before the end of the initial events");
      }
      break;
  }
  // In the initial events the versions are in no order: the stream can only be continued from the end of them.
  if (!round.initial) {
    std::string version = StringAt(event.object, {"metadata", "resourceVersion"});
    if (!version.empty()) resource_version_ = std::move(version);
  }
  return {};
}

ListWatcher::Next ListWatcher::Judge(const Round& round, const Status& outcome) {
  if (round.refused.has_value()) {
    // A server without WatchList (before 1.32, or with the gate off) calls the parameter invalid.
    if (round.initial && round.http_status == 422) {
      watch_list_ = false;
      Note("no_watch_list", round.refused->message);
      return Next::kContinue;
    }
    Note(round.expired ? "expired" : "refused", round.refused->message);
    return round.expired ? Next::kRelist : Next::kBackOff;
  }
  if (round.endless) {
    watch_list_ = false;
    Note("no_watch_list", "the end of the initial events is not marked; listing in pages");
    return Next::kContinue;
  }
  if (!outcome.has_value()) {
    Note("broken", outcome.error().message);
    return Next::kBackOff;
  }
  if (!round.any_event && std::chrono::steady_clock::now() - round.begun < kTooShort) {
    Note("too_short", "the watch was closed at once without an event");
    return Next::kBackOff;
  }
  return Next::kContinue;
}

bool ListWatcher::BackOff(const std::stop_token& stop) {
  // Up to as much again by chance, so that all watches of all processes don't come back at the same moment.
  Duration wait = std::chrono::duration_cast<Duration>(backoff_ * std::uniform_real_distribution<>(1, 2)(random_));
  wait = std::max(std::min(wait, tuning_.backoff_max), retry_after_.value_or(Duration::zero()));
  retry_after_.reset();
  backoff_ = std::min(backoff_ * 2, tuning_.backoff_max);
  return SleepFor(wait, stop);
}

void ListWatcher::Note(const char* reason, const std::string& message) {
  if (metrics_ != nullptr) {
    metrics_->Increment("pgtier_watch_interruptions_total", "Watches that ended otherwise than by their timeout",
                        {{"resource", std::string(scope_.resource.plural)}, {"reason", reason}});
  }
  log::Warn("watch interrupted", {{"resource", scope_.resource.plural}, {"reason", reason}, {"error", message}});
}

}  // namespace pgtier::kube
