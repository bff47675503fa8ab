#include "lib/base/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "lib/base/gauges.h"

namespace pgtier {
namespace {

const prometheus::Histogram::BucketBoundaries kSecondsBuckets = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                                                 0.5,   1,      2.5,   5,    10,    30,   60};

const prometheus::Histogram::BucketBoundaries kCountBuckets = {1, 10, 50, 100, 250, 500, 1000, 2500, 10'000, 100'000};

}  // namespace

struct Metrics::Impl {
  prometheus::Registry registry;
  Gauges gauges;
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

void Metrics::Increment(const std::string& name, const std::string& help, const Labels& labels, double by) {
  prometheus::BuildCounter().Name(name).Help(help).Register(impl_->registry).Add(labels).Increment(by);
}

void Metrics::Set(const std::string& name, const std::string& help, const Labels& labels, double value) {
  impl_->gauges.Set(name, help, labels, value);
}

void Metrics::Observe(const std::string& name, const std::string& help, const Labels& labels, double seconds) {
  prometheus::BuildHistogram()
      .Name(name)
      .Help(help)
      .Register(impl_->registry)
      .Add(labels, kSecondsBuckets)
      .Observe(seconds);
}

void Metrics::ObserveCount(const std::string& name, const std::string& help, const Labels& labels, double count) {
  prometheus::BuildHistogram()
      .Name(name)
      .Help(help)
      .Register(impl_->registry)
      .Add(labels, kCountBuckets)
      .Observe(count);
}

void Metrics::Forget(const Labels& labels) { impl_->gauges.Forget(labels); }

std::string Metrics::Serialize() const {
  std::string text = prometheus::TextSerializer().Serialize(impl_->registry.Collect());
  impl_->gauges.Serialize(text);
  return text;
}

}  // namespace pgtier
