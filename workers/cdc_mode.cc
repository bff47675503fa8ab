// Mode cdc: the consumer of workers/cdc, as the worker runs it.
#include <thread>

#include "workers/cdc/consumer.h"
#include "workers/mode.h"

namespace pgtier::workers {
namespace {

constexpr Duration kWatchEvery = std::chrono::milliseconds(200);

CdcOptions OptionsOf(const ModeContext& context) {
  const Config& config = context.config;
  CdcOptions options;
  options.database = context.connect;
  options.policy = config.policy;
  options.slot = config.slot;
  options.publication = config.publication;
  options.batch_rows = static_cast<size_t>(config.batch_rows);
  options.batch_interval = config.batch_interval;
  options.spill.memory = static_cast<size_t>(config.spill_memory);
  if (!config.spill_directory.empty()) options.spill.directory = config.spill_directory;
  return options;
}

class Cdc final : public Mode {
 public:
  explicit Cdc(ModeContext context) : context_(std::move(context)), consumer_(OptionsOf(context_), &context_.metrics) {}

  // The consumer tries again by itself: what it knows of the stream outlives a session.
  Status Run(const std::stop_token& stop) override {
    if (context_.config.slot.empty() || context_.config.publication.empty()) {
      return MakeError(Code::kInvalidArgument, "mode cdc needs slot and publication");
    }
    std::jthread watch([this](const std::stop_token& over) {
      while (SleepFor(kWatchEvery, over)) Tell(consumer_.state());
    });
    consumer_.Run(stop);
    return {};
  }

 private:
  void Tell(const CdcState& state) {
    context_.progress.SetReady(state.streaming);
    if (!state.streaming || !state.behind) {
      context_.progress.Idle();
      return;
    }
    context_.progress.Working();
    if (std::exchange(seen_, state.progress) != state.progress) context_.progress.Done();
  }

  ModeContext context_;
  CdcConsumer consumer_;
  MonoTime seen_;
};

}  // namespace

std::unique_ptr<Mode> MakeCdc(ModeContext context) { return std::make_unique<Cdc>(std::move(context)); }

}  // namespace pgtier::workers
