// The table that a benchmark prints, and the JSON that it leaves.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace pgtier::bench {

struct Row {
  std::string what;
  double value = 0;
  std::string unit;               // "MiB", "ms", …
  std::optional<double> at_most;  // The aim; nothing: none is set, or `aim` says it in words.
  std::string aim;                // In words, where it is no upper bound of this very number.
  std::vector<double> samples;    // What `value` is the median of, where it is one.
};

class Report {
 public:
  // Prints the row at once, so that a long run shows where it is.
  void Add(Row row);
  // Aim: at most that much.
  void Add(const std::string& what, double value, const std::string& unit, std::optional<double> at_most = {});
  // Writes all rows, with what names the run (numbers of policies and so on). False when the file cannot be written.
  [[nodiscard]] bool Write(const std::filesystem::path& path) const;

  // Facts that the figures depend on; printed and written too.
  void Note(const std::string& name, const std::string& value);

 private:
  std::vector<Row> rows_;
  std::vector<std::pair<std::string, std::string>> notes_;
};

// The value below which `share` of the samples lie (0.5: the median). `samples` is not empty.
double Quantile(std::vector<double> samples, double share);

}  // namespace pgtier::bench
