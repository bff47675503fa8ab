// What a plan asks of what was seen.
#include <algorithm>

#include "controllers/shadow_table/plan.h"
#include "core/words.h"

namespace pgtier::controllers::shadow_table {

bool IsInstalled(const shadow::State& state, const shadow::Spec& spec) {
  if (!state.installed || state.version != shadow::InstalledVersion()) return false;
  // As many as in the spec: one that it names no longer is to be taken out.
  return state.tables.size() == spec.tables.size() &&
         std::all_of(state.tables.begin(), state.tables.end(),
                     [](const shadow::TableState& table) { return table.installed; });
}

std::string SlotDanger(const shadow::SlotState& slot, const Resolved& resolved) {
  if (!slot.exists) return "slot " + resolved.spec.slot + " is gone";
  auto retained = static_cast<double>(slot.retained_bytes);
  auto bytes = [](double number) { return core::FormatValue(number, core::Unit::kBytes); };
  if (slot.wal_status == "lost" || slot.wal_status == "unreserved") {
    return "the server throws away WAL of slot " + resolved.spec.slot + " (wal_status " + slot.wal_status +
           "), which kept " + bytes(retained);
  }
  if (resolved.max_retained_wal.has_value() && retained > *resolved.max_retained_wal) {
    return "slot " + resolved.spec.slot + " keeps " + bytes(retained) + " of WAL, more than maxRetainedWAL, " +
           bytes(*resolved.max_retained_wal);
  }
  // A quarter of what the server would keep is left for the way back.
  if (slot.safe_wal_size.has_value() && static_cast<double>(*slot.safe_wal_size) < retained / 3) {
    return "slot " + resolved.spec.slot + " keeps " + bytes(retained) +
           " of WAL, which comes near max_slot_wal_keep_size: " + bytes(static_cast<double>(*slot.safe_wal_size)) +
           " are left";
  }
  return "";
}

std::string Blocking(const std::vector<shadow::Finding>& findings) {
  std::string text;
  for (const shadow::Finding& finding : findings) {
    if (!finding.blocks) continue;
    text += (text.empty() ? "" : "; ") + finding.code + ": " + finding.object + ": " + finding.message;
    if (!finding.cure.empty()) text += ": " + finding.cure;
  }
  return text;
}

}  // namespace pgtier::controllers::shadow_table
