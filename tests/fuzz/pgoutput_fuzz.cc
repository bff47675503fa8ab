// Messages of the server's output plugin, each behind its length in two bytes: whatever comes, the decoder stays inside
// of the message, and transactions come out whole and in order.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "lib/pgoutput/assembler.h"

namespace {

using pgtier::Status;
using pgtier::pgoutput::Change;
using pgtier::pgoutput::Message;
using pgtier::pgoutput::Transaction;
using pgtier::pgoutput::Value;

size_t sum = 0;  // every byte that a view shows is read, for AddressSanitizer to see

void Touch(std::string_view view) {
  for (char c : view) sum += static_cast<unsigned char>(c);
}

void Touch(const Message& message) {
  Touch(message.schema);
  Touch(message.name);
  Touch(message.content);
  for (const auto& column : message.columns) Touch(column.name);
  for (const auto* row : {&message.old_row, &message.new_row}) {
    for (const Value& value : *row) Touch(value.bytes);
  }
}

class Order : public pgtier::pgoutput::Sink {
 public:
  Status Begin(const Transaction&) override {
    if (open_) abort();
    open_ = true;
    seq_ = 0;
    return {};
  }
  Status Row(const Change& change) override {
    if (!open_ || change.seq != ++seq_ || change.relation->generation == 0) abort();
    for (const auto* row : {&change.message->old_row, &change.message->new_row}) {
      for (const Value& value : *row) Touch(value.bytes);
    }
    return {};
  }
  Status Logical(const Message& message) override {
    if (!open_ || !message.transactional) abort();
    Touch(message.content);
    return {};
  }
  Status Commit(const Transaction&) override {
    if (!open_) abort();
    open_ = false;
    return {};
  }

 private:
  bool open_ = false;
  uint64_t seq_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  Order order;
  pgtier::pgoutput::Assembler assembler(&order, {});
  bool usable = true;
  while (rest.size() >= 2) {
    const size_t length = size_t{static_cast<uint8_t>(rest[0])} << 8U | static_cast<uint8_t>(rest[1]);
    rest.remove_prefix(2);
    const std::string_view message = rest.substr(0, length);
    rest.remove_prefix(message.size());
    for (bool in_stream : {false, true}) {
      // A copy of just its length: reading past it is seen.
      const std::string copy(message);
      Message decoded;
      if (pgtier::pgoutput::Decoder::DecodeOne(copy, in_stream, decoded).has_value()) Touch(decoded);
    }
    if (usable) usable = assembler.Feed(message).has_value();
  }
  return 0;
}
