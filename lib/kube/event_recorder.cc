#include "lib/kube/event_recorder.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "lib/base/log.h"
#include "lib/base/time_format.h"
#include "lib/kube/json.h"

namespace pgtier::kube {
namespace {

constexpr Duration kWriteDeadline = std::chrono::seconds(10);
constexpr size_t kMaxNoteBytes = 1024;
constexpr size_t kMaxNameBytes = 253;
constexpr size_t kMaxSeries = 4096;

// At most `limit` bytes, not cut inside a UTF-8 character.
std::string Cut(std::string text, size_t limit) {
  if (text.size() <= limit) return text;
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0U) == 0x80U) --limit;
  text.resize(limit);
  return text;
}

std::string EventName(const std::string& regarding, WallTime now) {
  constexpr std::string_view kHex = "0123456789abcdef";
  auto nanos = static_cast<unsigned long long>(now.time_since_epoch().count());
  std::string suffix;
  for (int shift = 60; shift >= 0; shift -= 4) suffix += kHex[(nanos >> shift) & 15U];
  return Cut(regarding, kMaxNameBytes - 1 - suffix.size()) + "." + suffix;
}

}  // namespace

EventRecorder::EventRecorder(Client* client, const Clock* clock, Metrics* metrics, EventRecorderOptions options)
    : client_(client),
      clock_(clock),
      metrics_(metrics),
      options_(std::move(options)),
      thread_([this](const std::stop_token& stop) { Run(stop); }) {}

EventRecorder::~EventRecorder() = default;

void EventRecorder::Record(Event event) {
  event.note = Cut(std::move(event.note), kMaxNoteBytes);
  {
    std::lock_guard lock(mutex_);
    if (queue_.size() < options_.queue_size) {
      queue_.push_back(std::move(event));
      wake_.notify_all();
      return;
    }
  }
  if (metrics_ != nullptr) metrics_->Increment("pgtier_events_dropped_total", "Events given up: the queue was full");
}

bool EventRecorder::Flush(Deadline deadline) {
  std::unique_lock lock(mutex_);
  return wake_.wait_until(lock, deadline.at(), [this] { return queue_.empty() && !writing_; });
}

void EventRecorder::Run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    std::optional<Event> event;
    {
      std::unique_lock lock(mutex_);
      writing_ = false;
      wake_.notify_all();
      wake_.wait_for(lock, stop, options_.series_interval, [this] { return !queue_.empty(); });
      if (!queue_.empty()) {
        event = std::move(queue_.front());
        queue_.pop_front();
        writing_ = true;
      }
    }
    if (event.has_value()) Write(*event, stop);
    Tidy(stop);
  }
}

void EventRecorder::Write(const Event& event, const std::stop_token& stop) {
  Status written;
  auto found = series_.find(event);
  if (found != series_.end() && clock_->MonoNow() - found->second.last_mono < options_.series_window) {
    Series& series = found->second;
    ++series.count;
    series.last = clock_->Now();
    series.last_mono = clock_->MonoNow();
    // The first repeat shows at once, further ones now and then.
    if (series.count > 2 && series.last_mono - series.written_at < options_.series_interval) return;
    written = WriteSeries(series, stop);
    if (!written.has_value() && written.error().code == Code::kNotFound) {
      series = Series{};  // the server forgets events after an hour: begin anew
      written = WriteNew(event, series, stop);
    }
  } else {
    if (series_.size() >= kMaxSeries) series_.clear();
    written = WriteNew(event, series_[event] = Series{}, stop);
    if (!written.has_value()) series_.erase(event);
  }
  if (written.has_value() || stop.stop_requested()) return;
  if (metrics_ != nullptr) metrics_->Increment("pgtier_events_failed_total", "Events that could not be written");
  log::Warn("event not written", {{"reason", event.reason}, {"error", written.error().message}});
}

Status EventRecorder::WriteNew(const Event& event, Series& series, const std::stop_token& stop) {
  const ObjectReference& regarding = event.regarding;
  const WallTime now = clock_->Now();
  series.key = {regarding.namespace_.empty() ? "default" : regarding.namespace_, EventName(regarding.name, now)};
  series.last = now;
  series.last_mono = series.written_at = clock_->MonoNow();
  nlohmann::json reference = {
      {"apiVersion", regarding.api_version}, {"kind", regarding.kind}, {"name", regarding.name}};
  if (!regarding.namespace_.empty()) reference["namespace"] = regarding.namespace_;
  if (!regarding.uid.empty()) reference["uid"] = regarding.uid;
  const nlohmann::json object = {{"apiVersion", kEvents.ApiVersion()},
                                 {"kind", kEvents.kind},
                                 {"metadata", {{"namespace", series.key.namespace_}, {"name", series.key.name}}},
                                 {"eventTime", FormatMicroTime(now)},
                                 {"reportingController", options_.controller},
                                 {"reportingInstance", Cut(options_.instance, 128)},
                                 {"action", event.action},
                                 {"reason", event.reason},
                                 {"regarding", reference},
                                 {"note", event.note},
                                 {"type", event.warning ? "Warning" : "Normal"}};
  auto created = client_->Create(kEvents, object, Deadline::After(kWriteDeadline), stop);
  // The name has our clock's nanoseconds in it: one that exists is this event, sent twice.
  if (!created.has_value() && created.error().code != Code::kAlreadyExists) return created.error();
  return {};
}

Status EventRecorder::WriteSeries(Series& series, const std::stop_token& stop) {
  series.written_at = clock_->MonoNow();
  const nlohmann::json patch = {
      {"series", {{"count", series.count}, {"lastObservedTime", FormatMicroTime(series.last)}}}};
  auto patched = client_->MergePatch(kEvents, series.key, patch, Deadline::After(kWriteDeadline), stop);
  if (!patched.has_value()) return patched.error();
  series.written = series.count;
  return {};
}

void EventRecorder::Tidy(const std::stop_token& stop) {
  const MonoTime now = clock_->MonoNow();
  for (auto entry = series_.begin(); entry != series_.end() && !stop.stop_requested();) {
    Series& series = entry->second;
    if (series.count != series.written && now - series.written_at >= options_.series_interval) {
      // Failure is of no consequence: the count goes out with the next write, or is lost with the series.
      std::ignore = WriteSeries(series, stop);
    }
    entry = now - series.last_mono >= options_.series_window ? series_.erase(entry) : std::next(entry);
  }
}

}  // namespace pgtier::kube
