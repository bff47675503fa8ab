#include "lib/kube/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/kube/reflector.h"

namespace pgtier::kube {
namespace {

class StoreTest : public testing::Test {
 protected:
  // What the callback heard since the last call, as "key:before>now".
  std::vector<std::string> Heard() { return std::exchange(heard_, {}); }
  static std::string Show(const Store<int>::Ptr& object) { return object == nullptr ? "-" : std::to_string(*object); }

  std::vector<std::string> heard_;
  Store<int> store_{[this](const ObjectKey& key, const Store<int>::Ptr& before, const Store<int>::Ptr& now) {
    heard_.push_back(key.name + ":" + Show(before) + ">" + Show(now));
  }};
};

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

TEST_F(StoreTest, AListMarksAndSweeps) {
  store_.BeginList();
  store_.Put({"", "a"}, "u1", "1", 10);
  store_.Put({"", "b"}, "u2", "2", 20);
  EXPECT_FALSE(store_.synced());
  store_.EndList();
  EXPECT_TRUE(store_.synced());
  EXPECT_THAT(Heard(), ElementsAre("a:->10", "b:->20"));

  store_.BeginList();
  store_.Put({"", "b"}, "u2", "2", 20);  // as it was: no news
  store_.Put({"", "c"}, "u3", "3", 30);
  EXPECT_NE(store_.Get({"", "a"}), nullptr) << "gone before the list was complete";
  store_.EndList();
  EXPECT_THAT(Heard(), ElementsAre("c:->30", "a:10>-"));
  EXPECT_EQ(store_.Get({"", "a"}), nullptr);
  EXPECT_EQ(store_.List().size(), 2U);
}

TEST_F(StoreTest, AListThatBreaksOffSweepsNothing) {
  store_.BeginList();
  store_.Put({"", "a"}, "u1", "1", 10);
  store_.EndList();
  store_.BeginList();
  store_.BeginList();
  store_.Put({"", "a"}, "u1", "1", 10);
  store_.EndList();
  EXPECT_THAT(Heard(), ElementsAre("a:->10"));
}

TEST_F(StoreTest, AnotherUidIsAnotherObject) {
  store_.Put({"", "a"}, "u1", "1", 10);
  store_.Put({"", "a"}, "u1", "2", 11);
  store_.Put({"", "a"}, "u2", "3", 12);
  EXPECT_THAT(Heard(), ElementsAre("a:->10", "a:10>11", "a:11>-", "a:->12"));
  store_.Erase({"", "a"});
  store_.Erase({"", "a"});
  EXPECT_THAT(Heard(), ElementsAre("a:12>-"));
}

TEST_F(StoreTest, AReadersCopyStays) {
  store_.Put({"", "a"}, "u1", "1", 10);
  auto mine = store_.Get({"", "a"});
  store_.Erase({"", "a"});
  EXPECT_EQ(*mine, 10);
}

}  // namespace
}  // namespace pgtier::kube
