#include "crds/ladder_codec.h"
#include "crds/shadow_table_policy_codec.h"

namespace pgtier::crds {
namespace {

using Json = nlohmann::json;

Json EncodeShadowSummary(const ShadowSummary& summary) {
  Json object = Json::object();
  Put(object, "closest", summary.closest);
  Put(object, "queue", summary.queue);
  Put(object, "lag", summary.lag);
  Put(object, "tables", summary.tables);
  Put(object, "workers", summary.workers);
  return object;
}

Json EncodeTable(const ShadowTableStatus& table) {
  Json object{{"name", table.name}, {"installed", table.installed}};
  Put(object, "shadow", table.shadow);
  Put(object, "finding", table.finding);
  return object;
}

}  // namespace

Json EncodeStatus(const ShadowTablePolicyStatus& status) {
  Json object = EncodeLadderStatus(status);
  object["summary"] = EncodeShadowSummary(status.summary);
  if (status.epoch > 0) object["epoch"] = status.epoch;
  Put(object, "database", status.database);
  PutList(object, "tables", status.tables, EncodeTable);
  if (!status.audit_events.table.empty()) {
    Json& audit =
        object["auditEvents"] = {{"table", status.audit_events.table}, {"exists", status.audit_events.exists}};
    Put(audit, "rows", status.audit_events.rows);
    Put(audit, "finding", status.audit_events.finding);
  }
  if (!status.slot.name.empty()) {
    Json& slot = object["slot"] = {{"name", status.slot.name}, {"active", status.slot.active}};
    Put(slot, "walStatus", status.slot.wal_status);
  }
  return object;
}

}  // namespace pgtier::crds
