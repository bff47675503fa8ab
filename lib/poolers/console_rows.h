// Rows of an admin console into structs, by column name: columns grow by version. lib/poolers' own.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/postgres/connection.h"

namespace pgtier::poolers {

inline constexpr int64_t kMicrosecondsPerSecond = 1'000'000;

// Reads columns of one row; keeps the first fault, so that a struct is filled without a check in each line.
class ColumnReader {
 public:
  explicit ColumnReader(const postgres::Row& row) : row_(row) {}

  [[nodiscard]] std::string Text(std::string_view column) const { return std::string(row_.Text(column).value_or("")); }
  // 0 where the running version has no such column.
  int64_t Number(std::string_view column) {
    if (!row_.Has(column)) return 0;
    auto value = row_.Find<int64_t>(column);
    if (value.has_value()) return value->value_or(0);
    if (!fault_.has_value()) fault_ = value.error();
    return 0;
  }
  [[nodiscard]] const std::optional<Error>& fault() const { return fault_; }

 private:
  const postgres::Row& row_;
  std::optional<Error> fault_;
};

template <typename T, typename Fill>
Result<std::vector<T>> ReadAll(Result<postgres::Rows> rows, Fill fill) {
  if (!rows.has_value()) return std::move(rows).error();
  std::vector<T> all;
  all.reserve(rows->size());
  for (const postgres::Row& row : *rows) {
    ColumnReader reader(row);
    all.push_back(fill(reader));
    if (reader.fault().has_value()) return *reader.fault();
  }
  return all;
}

}  // namespace pgtier::poolers
