// UPDATE of a whole table in batches along a unique key. The last key of a batch is committed with the batch, so each
// row is visited once, whatever happens to the process. What is visited are the keys that the table had at the start:
// rows that writers add later are theirs to write right.
#include <algorithm>

#include "lib/postgres/quote.h"
#include "lib/postgres/sqlstate.h"
#include "migrations/steps.h"

namespace pgtier::migrations {
namespace {

constexpr int64_t kBatchRows = 1000;
constexpr int64_t kMostBatchRows = 100'000;
constexpr int64_t kLeastBatchRows = 10;
// A batch holds the locks of its rows until it has ended.
constexpr Duration kLongBatch = std::chrono::seconds(1);
constexpr Duration kLongestPause = std::chrono::seconds(10);
constexpr int64_t kCountedExactly = 100'000;

using postgres::Connection;

// "a, b" of quoted columns; "($1, $2)" from a number on.
std::string List(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : ", ") + item;
  return text;
}

class Backfill final : public Step {
 public:
  struct Definition {
    std::string table;
    std::vector<std::string> key;  // empty: the primary key
    std::string set, where;
    int64_t batch_rows = kBatchRows;
    Duration pause{0};
  };

  explicit Backfill(Definition definition) : d_(std::move(definition)), rows_(d_.batch_rows) {}

  Result<std::vector<std::string>> Plan(Connection& connection, Deadline deadline) override {
    PGTIER_RETURN_IF_ERROR(Resolve(connection, deadline));
    PGTIER_ASSIGN_OR_RETURN(int64_t total, Count(connection, deadline));
    // The planner reads the expressions, and nothing runs.
    auto explained = connection.Query("EXPLAIN " + Update("false"), deadline);
    if (!explained.has_value()) return explained.error();
    return std::vector<std::string>{"updates " + table_ + ", about " + std::to_string(total) + " rows along " +
                                        List(key_) + ", in batches of " + std::to_string(d_.batch_rows) +
                                        " rows: SET " + d_.set + (d_.where.empty() ? "" : " WHERE " + d_.where),
                                    "takes ROW EXCLUSIVE on the table, and the rows of a batch until it is committed"};
  }

  Result<Progress> Advance(Connection& connection, StepState& state, const SaveCheckpoint& save,
                           Deadline deadline) override {
    PGTIER_RETURN_IF_ERROR(Resolve(connection, deadline));
    if (state.checkpoint.is_null()) return Start(connection, state, save, deadline);
    MonoTime began = std::chrono::steady_clock::now();
    Result<Progress> progress = Batch(connection, state, save, deadline);
    Duration took = std::chrono::steady_clock::now() - began;
    if (!progress.has_value()) {
      // Fewer rows meet fewer locks.
      rows_ = std::max(std::min(kLeastBatchRows, d_.batch_rows), rows_ / 2);
      return progress;
    }
    if (took > kLongBatch) {
      rows_ = std::max(std::min(kLeastBatchRows, d_.batch_rows), rows_ / 2);
    } else if (took < kLongBatch / 4) {
      rows_ = std::min(d_.batch_rows, rows_ * 2);
    }
    if (!progress->done && d_.pause > Duration::zero()) SleepFor(d_.pause, {});
    return progress;
  }

 private:
  // Quotes names, and finds the key.
  Status Resolve(Connection& connection, Deadline deadline) {
    if (!key_.empty()) return {};
    PGTIER_ASSIGN_OR_RETURN(table_, QuoteTable(connection, d_.table));
    PGTIER_ASSIGN_OR_RETURN(
        auto rows,
        connection.Query("SELECT i.indisprimary AS primary, (SELECT string_agg(pg_catalog.quote_ident(a.attname), ', '"
                         " ORDER BY k.place) FROM unnest(i.indkey) WITH ORDINALITY k(number, place) JOIN"
                         " pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number"
                         " WHERE k.place <= i.indnkeyatts) AS columns, (SELECT bool_and(a.attnotnull) FROM"
                         " unnest(i.indkey) WITH ORDINALITY k(number, place) JOIN pg_catalog.pg_attribute a ON"
                         " a.attrelid = i.indrelid AND a.attnum = k.number WHERE k.place <= i.indnkeyatts) AS filled"
                         " FROM pg_catalog.pg_index i WHERE i.indrelid = pg_catalog.to_regclass($1) AND i.indisunique"
                         " AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL",
                         {table_}, deadline));
    std::vector<std::string> wanted;
    for (const std::string& column : d_.key) {
      PGTIER_ASSIGN_OR_RETURN(auto rows_quoted,
                              connection.Query("SELECT pg_catalog.quote_ident($1) AS q", {column}, deadline));
      PGTIER_ASSIGN_OR_RETURN(auto quoted, rows_quoted[0].Get<std::string>("q"));
      wanted.push_back(std::move(quoted));
    }
    for (postgres::Row row : rows) {
      PGTIER_ASSIGN_OR_RETURN(bool primary, row.Get<bool>("primary"));
      std::string columns(row.Text("columns").value_or(""));
      PGTIER_ASSIGN_OR_RETURN(auto filled, row.Find<bool>("filled"));
      if (wanted.empty() ? !primary : (columns != List(wanted) || !filled.value_or(false))) continue;
      std::vector<std::string> found;
      for (size_t from = 0; from <= columns.size();) {
        size_t comma = std::min(columns.find(", ", from), columns.size());
        found.push_back(columns.substr(from, comma - from));
        from = comma + 2;
      }
      key_ = std::move(found);
      return {};
    }
    return MakeError(Code::kFailedPrecondition,
                     wanted.empty()
                         ? "KeyMissing: " + table_ +
                               " is not there or has no primary key; name the columns of"
                               " a unique index without NULL by backfill.key"
                         : "KeyMissing: " + table_ + " has no unique index of NOT NULL columns (" + List(wanted) + ")");
  }

  Result<int64_t> Count(Connection& connection, Deadline deadline) {
    PGTIER_ASSIGN_OR_RETURN(
        auto rows, connection.Query("SELECT (SELECT count(*) FROM (SELECT FROM " + table_ + " LIMIT " +
                                        std::to_string(kCountedExactly) +
                                        ") AS rows) AS counted, (SELECT greatest(reltuples, 0)::bigint FROM"
                                        " pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass($1)) AS estimate",
                                    {table_}, deadline));
    PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
    PGTIER_ASSIGN_OR_RETURN(int64_t counted, row.Get<int64_t>("counted"));
    PGTIER_ASSIGN_OR_RETURN(int64_t estimate, row.Get<int64_t>("estimate"));
    return counted < kCountedExactly ? counted : std::max(counted, estimate);
  }

  [[nodiscard]] std::string Update(const std::string& range) const {
    return "UPDATE " + table_ + " SET " + d_.set + " WHERE " + range +
           (d_.where.empty() ? "" : " AND (" + d_.where + ")");
  }

  // "(a, b) > ($1, $2)"
  [[nodiscard]] std::string Compare(const char* how, size_t first) const {
    std::vector<std::string> numbers;
    for (size_t i = 0; i < key_.size(); ++i) numbers.push_back("$" + std::to_string(first + i));
    return "(" + List(key_) + ") " + how + " (" + List(numbers) + ")";
  }

  static void Append(const nlohmann::json& values, postgres::Params& params) {
    for (const nlohmann::json& value : values) params.emplace_back(value.get<std::string>());
  }

  nlohmann::json KeyOf(const postgres::Row& row) const {
    nlohmann::json values = nlohmann::json::array();
    for (size_t i = 0; i < key_.size(); ++i) values.push_back(std::string(row.Text(i).value_or("")));
    return values;
  }

  Result<Progress> Start(Connection& connection, StepState& state, const SaveCheckpoint& save, Deadline deadline) {
    std::string descending;
    for (const std::string& column : key_) descending += (descending.empty() ? "" : ", ") + column + " DESC";
    PGTIER_ASSIGN_OR_RETURN(
        auto last, connection.Query("SELECT " + List(key_) + " FROM " + table_ + " ORDER BY " + descending + " LIMIT 1",
                                    deadline));
    Progress progress;
    progress.done = last.empty();
    PGTIER_ASSIGN_OR_RETURN(progress.total, Count(connection, deadline));
    state.checkpoint = {{"visited", 0}, {"total", progress.total}, {"until", nullptr}, {"after", nullptr}};
    if (!last.empty()) state.checkpoint["until"] = KeyOf(last[0]);
    PGTIER_RETURN_IF_ERROR(save(state, progress, deadline));
    return progress;
  }

  Result<Progress> Batch(Connection& connection, StepState& state, const SaveCheckpoint& save, Deadline deadline) {
    const nlohmann::json& until = state.checkpoint.at("until");
    const nlohmann::json& after = state.checkpoint.at("after");
    Progress progress;
    progress.total = state.checkpoint.at("total").get<int64_t>();
    progress.finished = state.checkpoint.at("visited").get<int64_t>();
    if (until.is_null()) {
      progress.done = true;
      return progress;
    }
    PGTIER_ASSIGN_OR_RETURN(auto transaction, postgres::Transaction::Begin(connection, deadline));
    postgres::Params params;
    Append(until, params);
    std::string range = Compare("<=", 1);
    if (!after.is_null()) {
      range += " AND " + Compare(">", 1 + key_.size());
      Append(after, params);
    }
    PGTIER_ASSIGN_OR_RETURN(
        auto keys, connection.Query("SELECT " + List(key_) + " FROM " + table_ + " WHERE " + range + " ORDER BY " +
                                        List(key_) + " LIMIT " + std::to_string(rows_),
                                    params, deadline));
    if (!keys.empty()) {
      nlohmann::json last = KeyOf(keys[keys.size() - 1]);
      postgres::Params bounds;
      Append(last, bounds);
      std::string batch = Compare("<=", 1);
      if (!after.is_null()) {
        batch += " AND " + Compare(">", 1 + key_.size());
        Append(after, bounds);
      }
      PGTIER_RETURN_IF_ERROR(connection.Query(Update(batch), bounds, deadline));
      progress.finished += static_cast<int64_t>(keys.size());
      state.checkpoint["after"] = last;
      state.checkpoint["visited"] = progress.finished;
    }
    progress.done = static_cast<int64_t>(keys.size()) < rows_;
    // An estimate is no promise.
    progress.total = progress.done ? progress.finished : std::max(progress.total, progress.finished);
    PGTIER_RETURN_IF_ERROR(save(state, progress, deadline));
    PGTIER_RETURN_IF_ERROR(transaction.Commit(deadline));
    return progress;
  }

  Definition d_;
  int64_t rows_;  // of the next batch
  std::string table_;
  std::vector<std::string> key_;  // quoted
};

}  // namespace

Result<std::unique_ptr<Step>> MakeBackfill(const StepConfig& step) {
  std::optional<Error> error;
  settings::JsonReader root(step.definition, "step " + step.name + ": ", &error);
  settings::JsonReader field = root.Object("backfill", true);
  Backfill::Definition definition;
  field.Text("table", definition.table, true);
  field.Text("set", definition.set, true);
  field.Text("where", definition.where);
  field.Number("batchRows", definition.batch_rows, 1, kMostBatchRows);
  field.Time("pause", definition.pause);
  if (definition.pause > kLongestPause) field.Fail("pause", "is longer than 10s");
  if (field.Has("key")) {
    const nlohmann::json& list = field.json()["key"];
    for (const nlohmann::json& column : list) {
      if (column.is_string()) definition.key.push_back(column.get<std::string>());
    }
    if (!list.is_array() || definition.key.size() != list.size()) field.Fail("key", "is no list of names");
  }
  if (error.has_value()) return *std::move(error);
  return std::unique_ptr<Step>(std::make_unique<Backfill>(std::move(definition)));
}

}  // namespace pgtier::migrations
