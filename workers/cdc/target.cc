#include "workers/cdc/target.h"

#include <limits>
#include <map>
#include <set>

#include "lib/postgres/quote.h"

namespace pgtier::workers {
namespace {

using postgres::Lsn;

// A leaf that is gone is known by pgtier.shadow_parts; one that came a moment ago by its ancestors.
constexpr const char* kTable = R"(
SELECT t.id, to_regclass(format('%I.%I', t.history_schema, t.history_name)) IS NOT NULL AS kept, t.source_schema || '.' || t.source_name AS source,
       format('%I.%I', t.history_schema, t.history_name) AS history, t.new_row IS NOT NULL OR t.old_row IS NOT NULL AS images
FROM pgtier.shadow_tables AS t
WHERE t.policy = $1
  AND (t.source = $2::oid OR t.source IN (SELECT relid FROM pg_partition_ancestors($2::oid))
       OR EXISTS (SELECT FROM pgtier.shadow_parts AS l WHERE l.table_id = t.id AND l.relation = $2::oid))
ORDER BY t.installed DESC, t.id DESC LIMIT 1)";

// The columns as they were named at $2: what was changed later is undone. A name that a later column took over means
// the older one.
constexpr const char* kColumns = R"(
WITH versions AS (
  SELECT attnum, was_name AS name, new_column, old_column, id, true AS undone
  FROM pgtier.shadow_renames WHERE table_id = $1 AND lsn > $2::pg_lsn
  UNION ALL
  SELECT attnum, name, new_column, old_column, 9223372036854775807, false FROM pgtier.shadow_columns WHERE table_id = $1),
standing AS (SELECT DISTINCT ON (attnum) * FROM versions ORDER BY attnum, id)
SELECT DISTINCT ON (name) name, new_column, old_column FROM standing ORDER BY name, undone DESC)";

constexpr const char* kFacts = R"(
SELECT coalesce((SELECT min(lsn) FROM pgtier.shadow_renames WHERE table_id = $1 AND lsn > $2::pg_lsn)::text, '') AS until,
       coalesce((SELECT string_agg(attname, ',') FROM pg_attribute
                 WHERE attrelid = to_regclass($3) AND attnum > 0 AND NOT attisdropped
                   AND attname IN ('epoch', 'position', 'at_utc', 'operation', 'actor')), '') AS meta)";

struct Places {
  std::optional<std::string> fresh, former;
};

Result<std::string> CopyStatement(postgres::Connection& connection, const Target& target,
                                  const std::vector<std::string>& columns) {
  std::string list;
  auto add = [&](const std::string& name) { list += (list.empty() ? "" : ", ") + name; };
  if (target.epoch) add("epoch");
  if (target.at_utc) add("at_utc");
  if (target.operation) add("operation");
  if (target.actor) add("actor");
  for (const std::string& column : columns) {
    PGTIER_ASSIGN_OR_RETURN(std::string quoted, postgres::QuoteIdentifier(connection, column));
    add(quoted);
  }
  if (target.position) add("position");
  return "COPY " + target.history + " (" + list + ") FROM STDIN";
}

}  // namespace

Result<Target> FindTarget(postgres::Connection& connection, const std::string& policy,
                          const pgoutput::Relation& relation, Lsn commit, Deadline deadline) {
  Target target;
  target.generation = relation.generation;
  target.until = Lsn{std::numeric_limits<uint64_t>::max()};
  PGTIER_ASSIGN_OR_RETURN(auto tables, connection.Query(kTable, {policy, std::to_string(relation.id)}, deadline));
  if (tables.empty()) {
    target.source = relation.schema + "." + relation.name;
    return target;
  }
  const postgres::Row table = tables[0];
  PGTIER_ASSIGN_OR_RETURN(target.table, table.Get<int64_t>("id"));
  PGTIER_ASSIGN_OR_RETURN(bool kept, table.Get<bool>("kept"));
  PGTIER_ASSIGN_OR_RETURN(target.source, table.Get<std::string>("source"));
  PGTIER_ASSIGN_OR_RETURN(target.history, table.Get<std::string>("history"));
  PGTIER_ASSIGN_OR_RETURN(bool images, table.Get<bool>("images"));
  target.dropped = !kept;
  if (target.dropped) return target;
  if (images) {
    return MakeError(Code::kUnimplemented,
                     "history " + target.history + " records whole rows as JSON, which cdc does not write");
  }
  target.sequence = "pgtier.position_" + std::to_string(target.table);

  // ONLY: whoever changes columns locks a partitioned history before its partitions, which may be many.
  PGTIER_ASSIGN_OR_RETURN(auto locked,
                          connection.Execute("LOCK TABLE ONLY " + target.history + " IN ROW EXCLUSIVE MODE", deadline));
  const postgres::Params at = {std::to_string(target.table), commit.ToString()};
  PGTIER_ASSIGN_OR_RETURN(auto known, connection.Query(kColumns, at, deadline));
  std::map<std::string, Places, std::less<>> places;
  for (const postgres::Row row : known) {
    PGTIER_ASSIGN_OR_RETURN(std::string name, row.Get<std::string>("name"));
    Places& place = places[name];
    PGTIER_ASSIGN_OR_RETURN(place.fresh, row.Find<std::string>("new_column"));
    PGTIER_ASSIGN_OR_RETURN(place.former, row.Find<std::string>("old_column"));
  }
  PGTIER_ASSIGN_OR_RETURN(auto facts, connection.Query(kFacts, {at[0], at[1], target.history}, deadline));
  PGTIER_ASSIGN_OR_RETURN(std::string until, facts[0].Get<std::string>("until"));
  if (!until.empty()) {
    PGTIER_ASSIGN_OR_RETURN(target.until, Lsn::Parse(until));
  }
  PGTIER_ASSIGN_OR_RETURN(std::string meta, facts[0].Get<std::string>("meta"));
  std::set<std::string> has;
  for (size_t begin = 0; begin <= meta.size();) {
    const size_t end = std::min(meta.find(',', begin), meta.size());
    has.insert(meta.substr(begin, end - begin));
    begin = end + 1;
  }
  target.epoch = has.contains("epoch");
  target.at_utc = has.contains("at_utc");
  target.operation = has.contains("operation");
  target.actor = has.contains("actor");
  target.position = has.contains("position");

  // By the history's names, so that leaves whose columns stand in another order share a COPY.
  std::map<std::string, size_t> fresh, former;
  for (size_t i = 0; i < relation.columns.size(); ++i) {
    auto found = places.find(relation.columns[i].name);
    if (found == places.end()) {
      return MakeError(Code::kFailedPrecondition, "column " + relation.columns[i].name + " of " + target.source +
                                                      " is unknown to its history " + target.history +
                                                      ", which must be brought into line first");
    }
    if (found->second.fresh.has_value()) fresh.emplace(*found->second.fresh, i);
    if (found->second.former.has_value()) former.emplace(*found->second.former, i);
  }
  std::vector<std::string> columns;
  for (const auto& [name, index] : fresh) {
    columns.push_back(name);
    target.fresh.push_back(index);
  }
  for (const auto& [name, index] : former) {
    columns.push_back(name);
    target.former.push_back(index);
  }
  PGTIER_ASSIGN_OR_RETURN(target.copy, CopyStatement(connection, target, columns));
  return target;
}

}  // namespace pgtier::workers
