// The process' own Prometheus metrics. prometheus-cpp stays behind this header.
#pragma once

#include <map>
#include <memory>
#include <string>

namespace pgtier {

using Labels = std::map<std::string, std::string>;

// A registry of counters, gauges and histograms. Names follow Prometheus' conventions: base units, `_total` for
// counters. Every call finds or makes the series; help is taken from the first call for a name. Thread-safe.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void Increment(const std::string& name, const std::string& help, const Labels& labels = {}, double by = 1);
  void Set(const std::string& name, const std::string& help, const Labels& labels, double value);
  // Adds `seconds` to a histogram with buckets from 1 ms to 60 s.
  void Observe(const std::string& name, const std::string& help, const Labels& labels, double seconds);
  // Adds `count` to a histogram with buckets from 1 to 100,000.
  void ObserveCount(const std::string& name, const std::string& help, const Labels& labels, double count);
  // Removes the series of every gauge whose labels contain all of `labels` (an object that was deleted).
  void Forget(const Labels& labels);

  // The text exposition format, as /metrics serves it.
  [[nodiscard]] std::string Serialize() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pgtier
