// Indexes without holding up writes. CREATE INDEX CONCURRENTLY that is broken off leaves an INVALID index behind, which
// takes writes' time and serves no query: it is dropped, and the index built again.
#include <regex>

#include "lib/base/log.h"
#include "lib/postgres/quote.h"
#include "migrations/steps.h"

namespace pgtier::migrations {
namespace {

enum class Stands { kMissing, kInvalid, kBuilding, kValid, kElsewhere };

struct Seen {
  Stands stands = Stands::kMissing;
  std::string quoted;  // "schema"."index"
};

// An index stands in the schema of its table.
Result<Seen> Look(postgres::Connection& connection, const ConcurrentIndex& index, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(
      auto rows,
      connection.Query("SELECT pg_catalog.format('%I.%I', n.nspname, $2::text) AS quoted, c.oid IS NOT NULL AS there,"
                       " i.indexrelid IS NOT NULL AS here, coalesce(i.indisvalid, false) AS valid, EXISTS (SELECT FROM"
                       " pg_catalog.pg_stat_progress_create_index p WHERE p.index_relid = c.oid) AS building"
                       " FROM pg_catalog.pg_class t JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace"
                       " LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = t.relnamespace AND c.relname = $2::text"
                       " LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid AND i.indrelid = t.oid"
                       " WHERE t.oid = pg_catalog.to_regclass($1)",
                       {index.table, index.name}, deadline));
  if (rows.empty()) return MakeError(Code::kNotFound, "TableNotFound: there is no table " + index.table);
  postgres::Row row = rows[0];
  Seen seen;
  PGTIER_ASSIGN_OR_RETURN(seen.quoted, row.Get<std::string>("quoted"));
  PGTIER_ASSIGN_OR_RETURN(bool there, row.Get<bool>("there"));
  PGTIER_ASSIGN_OR_RETURN(bool here, row.Get<bool>("here"));
  PGTIER_ASSIGN_OR_RETURN(bool valid, row.Get<bool>("valid"));
  PGTIER_ASSIGN_OR_RETURN(bool building, row.Get<bool>("building"));
  if (!there) return seen;
  seen.stands = !here ? Stands::kElsewhere : valid ? Stands::kValid : building ? Stands::kBuilding : Stands::kInvalid;
  return seen;
}

Error Elsewhere(const ConcurrentIndex& index) {
  return MakeError(Code::kAlreadyExists, "IndexNameTaken: something else than an index of " + index.table +
                                             " has the name " + index.name + "; give the index another one");
}

// No lock of these statements holds up reads or writes while it is waited for, so nothing is won by giving up.
Status WithoutLockTimeout(postgres::Connection& connection, const std::string& statement, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto shown, connection.Query("SHOW lock_timeout", deadline));
  PGTIER_ASSIGN_OR_RETURN(auto row, shown.Single());
  PGTIER_ASSIGN_OR_RETURN(auto before, row.Get<std::string>(0));
  PGTIER_RETURN_IF_ERROR(connection.Query("SET lock_timeout = 0", deadline));
  auto done = connection.Query(statement, deadline);
  if (connection.Usable()) {
    PGTIER_RETURN_IF_ERROR(
        connection.Query("SELECT pg_catalog.set_config('lock_timeout', $1, false)", {before}, deadline));
  }
  if (!done.has_value()) return done.error();
  return {};
}

class CreateIndex final : public Step {
 public:
  CreateIndex(std::string table, std::string name, std::vector<std::string> columns, std::string definition,
              bool unique)
      : table_(std::move(table)),
        name_(std::move(name)),
        columns_(std::move(columns)),
        definition_(std::move(definition)),
        unique_(unique) {}

  Result<std::vector<std::string>> Plan(postgres::Connection& connection, Deadline deadline) override {
    PGTIER_ASSIGN_OR_RETURN(auto index, Index(connection));
    return PlanIndex(connection, index, deadline);
  }
  Result<Progress> Advance(postgres::Connection& connection, StepState&, const SaveCheckpoint&,
                           Deadline deadline) override {
    PGTIER_ASSIGN_OR_RETURN(auto index, Index(connection));
    return BuildIndex(connection, index, deadline);
  }

 private:
  [[nodiscard]] Result<ConcurrentIndex> Index(const postgres::Connection& connection) const {
    ConcurrentIndex index;
    index.name = name_;
    PGTIER_ASSIGN_OR_RETURN(index.table, QuoteTable(connection, table_));
    PGTIER_ASSIGN_OR_RETURN(auto name, postgres::QuoteIdentifier(connection, name_));
    std::string what = definition_;
    if (what.empty()) {
      for (const std::string& column : columns_) {
        PGTIER_ASSIGN_OR_RETURN(auto quoted, postgres::QuoteIdentifier(connection, column));
        what += (what.empty() ? "(" : ", ") + quoted;
      }
      what += ")";
    }
    index.statement = std::string("CREATE ") + (unique_ ? "UNIQUE " : "") + "INDEX CONCURRENTLY " + name + " ON " +
                      index.table + " " + what;
    return index;
  }

  std::string table_, name_;
  std::vector<std::string> columns_;
  std::string definition_;
  bool unique_;
};

}  // namespace

std::optional<ConcurrentIndex> ParseConcurrentIndex(const std::string& statement) {
  static const std::regex kStatement(
      R"re(^\s*CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?("[^"]+"|\w+)\s+ON\s+(?:ONLY\s+)?((?:"[^"]+"|[\w$]+)(?:\.(?:"[^"]+"|[\w$]+))?)[\s(])re",
      std::regex::icase);
  std::smatch match;
  if (!std::regex_search(statement, match, kStatement)) return std::nullopt;
  ConcurrentIndex index;
  index.name = match[1].str();
  if (index.name.front() == '"') {
    index.name = index.name.substr(1, index.name.size() - 2);
  } else {
    for (char& c : index.name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  index.table = match[2].str();
  index.statement = statement;
  return index;
}

Result<std::vector<std::string>> PlanIndex(postgres::Connection& connection, const ConcurrentIndex& index,
                                           Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(Seen seen, Look(connection, index, deadline));
  if (seen.stands == Stands::kElsewhere) return Elsewhere(index);
  if (seen.stands == Stands::kValid) return std::vector<std::string>{"the index is there already"};
  std::vector<std::string> lines;
  if (seen.stands == Stands::kInvalid) {
    lines.push_back("drops the INVALID index " + seen.quoted + ", left by a build that was broken off");
  }
  lines.push_back("runs: " + index.statement);
  lines.push_back("takes SHARE UPDATE EXCLUSIVE on the table: reads and writes go on; waits for older transactions");
  return lines;
}

Result<Progress> BuildIndex(postgres::Connection& connection, const ConcurrentIndex& index, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(Seen seen, Look(connection, index, deadline));
  Progress progress;
  switch (seen.stands) {
    case Stands::kElsewhere:
      return Elsewhere(index);
    case Stands::kValid:
      progress.done = true;
      return progress;
    case Stands::kBuilding:
      // Of a runner that was killed: the server goes on until it finds out, or is done.
      progress.message = "IndexBeingBuilt: another session builds it";
      SleepFor(std::chrono::seconds(1), {});
      return progress;
    case Stands::kInvalid:
      log::Warn("dropping an index that a build has left INVALID", {{"index", seen.quoted}});
      PGTIER_RETURN_IF_ERROR(
          WithoutLockTimeout(connection, "DROP INDEX CONCURRENTLY IF EXISTS " + seen.quoted, deadline));
      [[fallthrough]];
    case Stands::kMissing:
      break;
  }
  PGTIER_RETURN_IF_ERROR(WithoutLockTimeout(connection, index.statement, deadline));
  // Looked at again by the next call: done is what stands in the catalogue.
  progress.message = "checking the index";
  return progress;
}

Result<std::unique_ptr<Step>> MakeCreateIndex(const StepConfig& step) {
  std::optional<Error> error;
  settings::JsonReader root(step.definition, "step " + step.name + ": ", &error);
  settings::JsonReader field = root.Object("createIndex", true);
  std::string table;
  std::string name;
  std::string definition;
  bool unique = false;
  field.Text("table", table, true);
  field.Text("name", name, true);
  field.Text("definition", definition);
  field.Flag("unique", unique);
  std::vector<std::string> columns;
  if (field.Has("columns")) {
    const nlohmann::json& list = field.json()["columns"];
    for (const nlohmann::json& column : list) {
      if (column.is_string()) columns.push_back(column.get<std::string>());
    }
    if (!list.is_array() || columns.size() != list.size()) field.Fail("columns", "is no list of names");
  }
  if (columns.empty() == definition.empty()) field.Fail("columns", "or definition, one of them, is needed");
  if (error.has_value()) return *std::move(error);
  return std::unique_ptr<Step>(std::make_unique<CreateIndex>(table, name, columns, definition, unique));
}

}  // namespace pgtier::migrations
