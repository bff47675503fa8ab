#include "workers/cdc/sink.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace pgtier::workers {
namespace {

constexpr std::string_view kActor = "pgtier.actor";
constexpr std::string_view kCutover = "pgtier.cutover";

struct Cutover {
  std::string policy, to, secret;
  int64_t epoch = 0;
};

Result<Cutover> ParseCutover(std::string_view content) {
  const auto json = nlohmann::json::parse(content, nullptr, false);
  const auto bad = MakeError(Code::kInvalidArgument, "a message pgtier.cutover that is none of pgtier's");
  if (!json.is_object() || !json.contains("policy") || !json.contains("to") || !json.contains("epoch") ||
      !json.contains("secret")) {
    return bad;
  }
  const auto &policy = json["policy"], &to = json["to"], &epoch = json["epoch"], &secret = json["secret"];
  if (!policy.is_string() || !to.is_string() || !epoch.is_number_integer() || !secret.is_string()) return bad;
  return Cutover{policy.get<std::string>(), to.get<std::string>(), secret.get<std::string>(), epoch.get<int64_t>()};
}

}  // namespace

Status CdcSink::Begin(const pgoutput::Transaction& transaction) {
  skip_ = transaction.commit < history_->checkpoint().lsn;
  if (!skip_ && transaction.uncertain_messages) {
    refused_ = transaction.commit;
    return MakeError(Code::kAborted, "a transaction must be read again, without streaming");
  }
  context_ = {};
  context_.xid = transaction.xid;
  context_.commit = transaction.commit;
  context_.time = transaction.time;
  return {};
}

Status CdcSink::Row(const pgoutput::Change& change) {
  PGTIER_RETURN_IF_ERROR(heartbeat_());
  if (skip_) return {};
  if (!reached_.Applies()) {
    ++passed_over_;
    return {};
  }
  context_.epoch = reached_.epoch;
  if (!oldest_.has_value()) oldest_ = context_.time;
  return history_->Add(change, context_);
}

Status CdcSink::Logical(const pgoutput::Message& message) {
  if (skip_) return {};
  if (message.name == kActor) {
    context_.actor = message.content.empty() ? std::nullopt : std::optional<std::string>(message.content);
    return {};
  }
  if (message.name != kCutover) return {};
  // Anybody may emit messages; one that makes no sense, or does not know the secret, is nobody's barrier.
  auto cutover = ParseCutover(message.content);
  if (!cutover.has_value() || cutover->policy != policy_ || cutover->secret != reached_.secret) return {};
  if (cutover->epoch <= std::max(reached_.epoch, reached_.ended_epoch)) return {};
  (cutover->to == "cdc" ? reached_.epoch : reached_.ended_epoch) = cutover->epoch;
  return {};
}

Status CdcSink::Commit(const pgoutput::Transaction& transaction) {
  if (transaction.end > reached_.lsn) reached_.lsn = transaction.end;
  return {};
}

void CdcSink::Passed(postgres::Lsn lsn) {
  if (lsn > reached_.lsn) reached_.lsn = lsn;
}

bool CdcSink::barrier_reached() const {
  const Checkpoint& kept = history_->checkpoint();
  return reached_.epoch != kept.epoch || reached_.ended_epoch != kept.ended_epoch;
}

}  // namespace pgtier::workers
