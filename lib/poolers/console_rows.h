// Rows of an admin console into structs, by column name: columns grow by version. lib/poolers' own.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/poolers/pgbouncer_views.h"
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

// What PgBouncer and PgCat show alike; a column that one of them lacks reads as 0.

inline Result<std::vector<ConfigEntry>> ReadConfig(Result<postgres::Rows> rows) {
  return ReadAll<ConfigEntry>(std::move(rows), [](ColumnReader& row) {
    return ConfigEntry{row.Text("key"), row.Text("value"), row.Text("default"), row.Text("changeable") == "yes"};
  });
}

inline Result<std::vector<DatabaseStats>> ReadDatabases(Result<postgres::Rows> rows) {
  return ReadAll<DatabaseStats>(std::move(rows), [](ColumnReader& row) {
    DatabaseStats database;
    database.name = row.Text("name");
    database.host = row.Text("host");
    database.port = row.Number("port");
    database.database = row.Text("database");
    database.force_user = row.Text("force_user");
    database.pool_size = row.Number("pool_size");
    database.min_pool_size = row.Number("min_pool_size");
    // Until PgBouncer 1.23 the column had the name of the old setting.
    database.reserve_pool_size = row.Number("reserve_pool_size") + row.Number("reserve_pool");
    database.pool_mode = row.Text("pool_mode");
    database.max_connections = row.Number("max_connections");
    database.current_connections = row.Number("current_connections");
    database.paused = row.Number("paused") != 0;
    database.disabled = row.Number("disabled") != 0;
    return database;
  });
}

}  // namespace pgtier::poolers
