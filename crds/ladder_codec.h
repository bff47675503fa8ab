// The parts that every ladder has, from and to JSON.
#pragma once

#include <nlohmann/json.hpp>

#include "crds/field_reader.h"
#include "crds/ladder.h"

namespace pgtier::crds {

Meta DecodeMeta(const FieldReader& metadata);
// An item of spec.tiers: name, approval and enterWhen.
void DecodeTierRule(const FieldReader& field, TierRule& tier);
// `field` is the spec.
void DecodeLadderSpec(const FieldReader& field, LadderSpec& spec);
// `field` is the status.
void DecodeLadderStatus(const FieldReader& field, LadderStatus& status);

// `field` is any status.
std::vector<Condition> DecodeConditions(const FieldReader& field);

nlohmann::json EncodeCondition(const Condition& condition);
// No nulls, no empty lists: what is empty or absent is left out.
nlohmann::json EncodeLadderStatus(const LadderStatus& status);
void Put(nlohmann::json& object, const char* name, const std::string& text);
void Put(nlohmann::json& object, const char* name, const std::optional<WallTime>& time);
template <typename T>
void PutList(nlohmann::json& object, const char* name, const std::vector<T>& items,
             nlohmann::json (*encode)(const T&)) {
  if (items.empty()) return;
  nlohmann::json& list = object[name] = nlohmann::json::array();
  for (const T& item : items) list.push_back(encode(item));
}

}  // namespace pgtier::crds
