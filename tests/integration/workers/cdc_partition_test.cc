#include "tests/integration/workers/conversion.h"

namespace pgtier::testing {
namespace {

class CdcPartitionTest : public Conversion<CdcFixture> {};

TEST_F(CdcPartitionTest, TheConsumerGoesOn) {
  TheConsumerGoesOn("SELECT relkind = 'p' FROM pg_class WHERE relname = 'acc_history'");
}

}  // namespace
}  // namespace pgtier::testing
