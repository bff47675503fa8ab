#include "lib/base/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <mutex>
#include <utility>

namespace pgtier {
namespace {

const prometheus::Histogram::BucketBoundaries kSecondsBuckets = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                                                 0.5,   1,      2.5,   5,    10,    30,   60};

bool Contains(const Labels& all, const Labels& some) {
  return std::all_of(some.begin(), some.end(), [&](const auto& label) {
    auto found = all.find(label.first);
    return found != all.end() && found->second == label.second;
  });
}

}  // namespace

struct Metrics::Impl {
  prometheus::Registry registry;
  std::mutex mutex;
  std::map<std::pair<std::string, Labels>, prometheus::Gauge*> gauges;
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

void Metrics::Increment(const std::string& name, const std::string& help, const Labels& labels, double by) {
  prometheus::BuildCounter().Name(name).Help(help).Register(impl_->registry).Add(labels).Increment(by);
}

void Metrics::Set(const std::string& name, const std::string& help, const Labels& labels, double value) {
  std::lock_guard lock(impl_->mutex);
  auto& gauge = prometheus::BuildGauge().Name(name).Help(help).Register(impl_->registry).Add(labels);
  impl_->gauges[{name, labels}] = &gauge;
  gauge.Set(value);
}

void Metrics::Observe(const std::string& name, const std::string& help, const Labels& labels, double seconds) {
  prometheus::BuildHistogram()
      .Name(name)
      .Help(help)
      .Register(impl_->registry)
      .Add(labels, kSecondsBuckets)
      .Observe(seconds);
}

void Metrics::Forget(const Labels& labels) {
  std::lock_guard lock(impl_->mutex);
  for (auto it = impl_->gauges.begin(); it != impl_->gauges.end();) {
    if (!Contains(it->first.second, labels)) {
      ++it;
      continue;
    }
    prometheus::BuildGauge().Name(it->first.first).Register(impl_->registry).Remove(it->second);
    it = impl_->gauges.erase(it);
  }
}

std::string Metrics::Serialize() const { return prometheus::TextSerializer().Serialize(impl_->registry.Collect()); }

}  // namespace pgtier
