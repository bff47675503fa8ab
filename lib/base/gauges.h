// Gauges of many objects in little memory. Private to lib/base.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "lib/base/metrics.h"

namespace pgtier {

// Ten thousand policies have some seven series each. prometheus-cpp keeps the labels of each three times and copies all
// of them at a scrape; here the labels that name an object are kept once an object, the others once altogether.
class Gauges {
 public:
  void Set(const std::string& name, const std::string& help, const Labels& labels, double value);
  void Forget(const Labels& labels);
  // Appends the text exposition format, by families.
  void Serialize(std::string& text) const;

 private:
  struct Family {
    std::string name;
    std::string help;
  };
  struct Sample {
    uint32_t family = 0;
    std::map<std::string, int>::iterator rest;  // in rests_
    double value = 0;
  };

  mutable std::mutex mutex_;
  std::vector<Family> families_;
  std::map<std::string, int> rests_;  // labels beside the object's, as text, and how many samples have them
  std::map<std::string, std::vector<Sample>> objects_;  // by the object's labels as text
};

}  // namespace pgtier
