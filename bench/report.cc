#include "bench/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

namespace pgtier::bench {
namespace {

std::string InWords(double value) {
  char text[32];
  const char* format = value == std::floor(value) || std::abs(value) >= 1000 ? "%.0f" : "%.2f";
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

}  // namespace

void Report::Add(Row row) {
  std::string aim = row.aim;
  if (row.at_most.has_value()) {
    aim = "<= " + InWords(*row.at_most) + (row.value <= *row.at_most ? "" : "  MISSED");
  }
  std::printf("%-66s %10s %-8s %s\n", row.what.c_str(), InWords(row.value).c_str(), row.unit.c_str(), aim.c_str());
  std::fflush(stdout);
  rows_.push_back(std::move(row));
}

void Report::Add(const std::string& what, double value, const std::string& unit, std::optional<double> at_most) {
  Add(Row{what, value, unit, at_most, {}, {}});
}

void Report::Note(const std::string& name, const std::string& value) {
  std::printf("# %s: %s\n", name.c_str(), value.c_str());
  std::fflush(stdout);
  notes_.emplace_back(name, value);
}

bool Report::Write(const std::filesystem::path& path) const {
  nlohmann::json document{{"notes", nlohmann::json::object()}, {"rows", nlohmann::json::array()}};
  for (const auto& [name, value] : notes_) document["notes"][name] = value;
  for (const Row& row : rows_) {
    nlohmann::json entry{{"what", row.what}, {"value", row.value}, {"unit", row.unit}};
    if (row.at_most.has_value()) entry["at_most"] = *row.at_most;
    if (!row.aim.empty()) entry["aim"] = row.aim;
    if (!row.samples.empty()) entry["samples"] = row.samples;
    document["rows"].push_back(std::move(entry));
  }
  std::ofstream file(path);
  file << document.dump(1) << '\n';
  return file.good();
}

double Quantile(std::vector<double> samples, double share) {
  std::sort(samples.begin(), samples.end());
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(samples.size())));
  return samples[std::clamp<size_t>(rank, 1, samples.size()) - 1];
}

}  // namespace pgtier::bench
