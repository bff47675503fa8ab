#include "lib/postgres/scram.h"

#include <gtest/gtest.h>

namespace pgtier::postgres {
namespace {

// The exchange of RFC 7677, section 3, as Postgres stores it.
constexpr char kPencil[] =
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

TEST(Scram, TellsThePasswordOfAVerifier) {
  EXPECT_TRUE(IsVerifierOf(kPencil, "pencil"));
  EXPECT_FALSE(IsVerifierOf(kPencil, "pencil "));
  EXPECT_FALSE(IsVerifierOf(kPencil, ""));
}

TEST(Scram, WhatIsNoVerifierIsOfNoPassword) {
  std::string pencil = kPencil;
  for (size_t length = 0; length < pencil.rfind(':'); ++length) {
    EXPECT_FALSE(IsVerifierOf(pencil.substr(0, length), "pencil")) << length;
  }
  for (const char* text :
       {"md5c1cfd71ee0e5e1cbd7c5a3b3a4b8f3a1", "SCRAM-SHA-256$0:W22Z$WG5d:wfPL", "SCRAM-SHA-256$-1:W22Z$WG5d:wfPL",
        "SCRAM-SHA-256$99999999999:W22Z$WG5d:wfPL", "SCRAM-SHA-256$4096:*$*:*", "SCRAM-SHA-256$$:$:"}) {
    EXPECT_FALSE(IsVerifierOf(text, "pencil")) << text;
  }
}

}  // namespace
}  // namespace pgtier::postgres
