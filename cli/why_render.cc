#include <algorithm>

#include "cli/why.h"
#include "lib/base/time_format.h"

namespace pgtier::cli {
namespace {

using Json = nlohmann::json;

void Put(Json& object, const char* name, const std::string& text) {
  if (!text.empty()) object[name] = text;
}

void Put(Json& object, const char* name, const std::optional<WallTime>& time) {
  if (time.has_value()) object[name] = FormatTime(*time);
}

double InSeconds(Duration duration) {
  return static_cast<double>(std::chrono::floor<std::chrono::seconds>(duration).count());
}

Json TriggerToJson(const TriggerReport& trigger) {
  Json object{{"name", trigger.name}, {"source", trigger.source}, {"state", trigger.state}};
  Put(object, "value", trigger.value);
  Put(object, "threshold", trigger.threshold);
  if (trigger.window > Duration::zero()) object["forSeconds"] = InSeconds(trigger.window);
  if (trigger.so_far.has_value()) object["soFarSeconds"] = InSeconds(*trigger.so_far);
  Put(object, "breachedSince", trigger.breached_since);
  Put(object, "observedAt", trigger.observed_at);
  Put(object, "missing", trigger.missing);
  Put(object, "unknownReason", trigger.unknown_reason);
  return object;
}

Tone ToneOf(const std::string& state) {
  if (state == "Firing" || state == "On") return Tone::kBad;
  if (state == "Breached" || state == "Unknown") return Tone::kWarning;
  return state == "Calm" ? Tone::kGood : Tone::kPlain;
}

std::string Ago(WallTime then, WallTime now) {
  Duration ago = std::max<Duration>(now - then, Duration::zero());
  return FormatDuration(std::chrono::floor<std::chrono::seconds>(ago));
}

std::string WindowInWords(const TriggerReport& trigger) {
  if (trigger.window == Duration::zero()) return "-";
  Duration so_far = std::min(trigger.so_far.value_or(Duration::zero()), trigger.window);
  return FormatDuration(std::chrono::floor<std::chrono::seconds>(so_far)) + " of " + FormatDuration(trigger.window);
}

std::string RenderTier(const TierReport& tier, const Style& style, WallTime now) {
  std::string text = style.Paint(tier.name, Tone::kStrong) + " (" + tier.standing;
  // What is said of a tier that was left is of an earlier time.
  bool inside = tier.standing == "Current" || tier.standing == "Entered";
  if (inside && tier.entered_at.has_value()) text += " since " + FormatTime(*tier.entered_at);
  text += ")";
  if ((inside || tier.standing == "Entering") && !tier.message.empty()) text += ": " + tier.message;
  if (tier.triggers.empty()) return text + "\n";
  text += tier.match == "all" ? "\n  fires when all of these do\n" : "\n";
  Table table({"  TRIGGER", "SOURCE", "STATE", "VALUE", "THRESHOLD", "WINDOW", "READ", "MISSING"});
  for (const TriggerReport& trigger : tier.triggers) {
    bool demand = trigger.threshold.empty();
    table.Add({{"  " + trigger.name},
               {trigger.source},
               {trigger.state, ToneOf(trigger.state)},
               {demand                  ? "-"
                : trigger.value.empty() ? "?"
                                        : trigger.value},
               {demand ? "-" : trigger.threshold},
               {WindowInWords(trigger)},
               {trigger.observed_at.has_value() ? Ago(*trigger.observed_at, now) + " ago" : "-"},
               {trigger.missing.empty() ? "nothing" : trigger.missing}});
  }
  return text + table.Render(style);
}

void PutShadow(Json& object, const ShadowReport& shadow) {
  Put(object, "queue", shadow.queue);
  Put(object, "lag", shadow.lag);
  Put(object, "workers", shadow.workers);
  object["queueAlert"] = shadow.queue_alert;
  if (shadow.epoch > 0) object["epoch"] = shadow.epoch;
  if (!shadow.slot.name.empty()) {
    Json& slot = object["slot"] = {{"name", shadow.slot.name}, {"active", shadow.slot.active}};
    Put(slot, "walStatus", shadow.slot.wal_status);
  }
  Put(object, "database", shadow.database);
  if (!shadow.audit_events.table.empty()) {
    Json& events =
        object["auditEvents"] = {{"table", shadow.audit_events.table}, {"exists", shadow.audit_events.exists}};
    Put(events, "rows", shadow.audit_events.rows);
    Put(events, "finding", shadow.audit_events.finding);
  }
  object["tables"] = Json::array();
  for (const crds::ShadowTableStatus& table : shadow.tables) {
    Json each{{"name", table.name}, {"installed", table.installed}};
    Put(each, "shadow", table.shadow);
    Put(each, "finding", table.finding);
    object["tables"].push_back(std::move(each));
  }
}

std::string RenderShadow(const ShadowReport& shadow, const std::string& tier, const Style& style) {
  std::string text;
  if (!shadow.database.empty()) text += "Tables in " + shadow.database + "\n";
  if (!shadow.queue.empty()) {
    text += "Queue " + shadow.queue + " rows (alert above " + std::to_string(shadow.queue_alert) + ")";
    if (tier == "cdc") {
      text += "; the slot keeps " + shadow.lag + " of log";
    } else if (shadow.queue != "0") {
      text += "; the oldest waits for " + shadow.lag;
    }
    if (!shadow.workers.empty()) text += "; workers ready " + shadow.workers;
    text += "; epoch " + std::to_string(shadow.epoch) + "\n";
  }
  if (!shadow.audit_events.table.empty()) {
    const crds::AuditEventsStatus& events = shadow.audit_events;
    text += "Events of the application in " + events.table;
    if (!events.exists) text += ", which is not there yet";
    if (events.exists && !events.rows.empty()) text += ", about " + events.rows + " rows";
    text += events.finding.empty() ? "\n" : ": " + style.Paint(events.finding, Tone::kWarning) + "\n";
  }
  if (!shadow.slot.name.empty()) {
    text += "Slot " + shadow.slot.name + " " + (shadow.slot.active ? "is read" : "is read by nobody") +
            (shadow.slot.wal_status.empty() ? "" : ", wal_status " + shadow.slot.wal_status) + "\n";
  }
  if (shadow.tables.empty()) return text;
  Table tables({"TABLE", "HISTORY", "KEPT", "FINDING"});
  for (const crds::ShadowTableStatus& table : shadow.tables) {
    tables.Add({{table.name},
                {table.shadow},
                {table.installed ? "yes" : "no", table.installed ? Tone::kGood : Tone::kBad},
                {table.finding.empty() ? "-" : table.finding}});
  }
  return text + "\n" + tables.Render(style);
}

}  // namespace

Json ToJson(const WhyReport& report) {
  Json object{{"kind", report.shadow.has_value() ? "ShadowTablePolicy" : "ScaleTierPolicy"},
              {"name", report.name},
              {"namespace", report.namespace_},
              {"statusIsOld", report.status_is_old}};
  Put(object, "tier", report.tier);
  Put(object, "tierSince", report.tier_since);
  Put(object, "nextTier", report.next_tier);
  Put(object, "targetTier", report.target_tier);
  if (!report.problems.empty()) object["problems"] = report.problems;
  for (const char* list : {"conditions", "tiers", "gates"}) object[list] = Json::array();
  for (const ConditionReport& condition : report.conditions) {
    object["conditions"].push_back({{"type", condition.type},
                                    {"status", condition.status},
                                    {"reason", condition.reason},
                                    {"message", condition.message}});
  }
  for (const TierReport& tier : report.tiers) {
    Json each{{"name", tier.name}, {"standing", tier.standing}, {"match", tier.match}, {"triggers", Json::array()}};
    Put(each, "enteredAt", tier.entered_at);
    Put(each, "message", tier.message);
    for (const TriggerReport& trigger : tier.triggers) each["triggers"].push_back(TriggerToJson(trigger));
    object["tiers"].push_back(std::move(each));
  }
  for (const GateReport& gate : report.gates) {
    object["gates"].push_back({{"name", gate.name}, {"open", gate.open}, {"message", gate.message}});
  }
  if (report.shadow.has_value()) PutShadow(object, *report.shadow);
  return object;
}

std::string Render(const WhyReport& report, const Style& style, WallTime now) {
  std::string text = style.Paint(report.name, Tone::kStrong) + " in " + report.namespace_ + ": ";
  text += report.tier.empty() ? "no tier yet" : "tier " + style.Paint(report.tier, Tone::kStrong);
  if (report.tier_since.has_value()) text += " for " + Ago(*report.tier_since, now);
  if (!report.target_tier.empty()) text += ", changing to " + report.target_tier;
  if (!report.next_tier.empty()) text += ", next " + report.next_tier;
  text += "\n";
  if (report.status_is_old) {
    text +=
        style.Paint("the operator has not seen the last edit yet: what follows is of the one before", Tone::kWarning);
    text += "\n";
  }
  for (const std::string& problem : report.problems)
    text += style.Paint("cannot be read: " + problem, Tone::kBad) + "\n";
  for (const ConditionReport& condition : report.conditions) {
    bool good = condition.type == "Ready" && condition.status == "True";
    text += style.Paint(condition.type + " " + condition.status, good ? Tone::kGood : Tone::kWarning) + " (" +
            condition.reason + ")" + (condition.message.empty() ? "" : ": " + condition.message) + "\n";
  }
  if (report.shadow.has_value()) text += RenderShadow(*report.shadow, report.tier, style);
  for (const TierReport& tier : report.tiers) text += "\n" + RenderTier(tier, style, now);
  text += "\n";
  Table gates({"GATE", "STATE", "BECAUSE"});
  for (const GateReport& gate : report.gates) {
    gates.Add({{gate.name}, {gate.open ? "open" : "shut", gate.open ? Tone::kGood : Tone::kWarning}, {gate.message}});
  }
  return text + gates.Render(style);
}

}  // namespace pgtier::cli
