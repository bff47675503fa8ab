// The authority's certificates, judged by the library's own eye and by the program `openssl verify`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "lib/base/time_format.h"
#include "lib/pki/authority.h"
#include "lib/pki/certificate.h"

namespace pgtier::pki {
namespace {

using std::chrono::hours;
using testing::HasSubstr;

constexpr Duration kDay = hours(24);

class Pki : public testing::Test {
 protected:
  Pki() : now_(std::chrono::system_clock::now()), old_(*MakeAuthority("pgtier data/kyoyu 1", now_, 300 * kDay)) {}

  Identity Server(const Identity& authority, Duration life = 90 * kDay) {
    auto issued = IssueServer(authority, {"kyoyu-primary", "kyoyu-primary.data.svc"}, now_, life);
    EXPECT_TRUE(issued.has_value()) << issued.error().message;
    return *issued;
  }

  WallTime now_;
  Identity old_;
};

TEST_F(Pki, AServerIsKnownByEachOfItsNamesAndNoOther) {
  Identity server = Server(old_);
  EXPECT_TRUE(VerifyServer(server.certificate, old_.certificate, "kyoyu-primary", now_).has_value());
  EXPECT_TRUE(VerifyServer(server.certificate, old_.certificate, "kyoyu-primary.data.svc", now_).has_value());
  EXPECT_TRUE(VerifyServer(server.certificate, old_.certificate, "", now_).has_value());
  EXPECT_FALSE(VerifyServer(server.certificate, old_.certificate, "kyoyu-2", now_).has_value());
  EXPECT_THAT(ReadCertificate(server.certificate)->names,
              testing::ElementsAre("kyoyu-primary", "kyoyu-primary.data.svc"));
  EXPECT_TRUE(IsKeyOf(server.key, server.certificate));
  EXPECT_FALSE(IsKeyOf(old_.key, server.certificate));
}

TEST_F(Pki, OfAnotherAuthorityNothingIsBelieved) {
  Identity other = *MakeAuthority("pgtier data/kyoyu 1", now_, 300 * kDay);
  EXPECT_FALSE(VerifyServer(Server(other).certificate, old_.certificate, "kyoyu-primary", now_).has_value());
  EXPECT_FALSE(IsSignedBy(Server(other).certificate, old_.certificate)) << "the name alone proves nothing";
  EXPECT_TRUE(IsSignedBy(Server(old_).certificate, old_.certificate));
}

TEST_F(Pki, AServersCertificateSignsNothing) {
  Identity server = Server(old_);
  Identity forged = *IssueServer(server, {"kyoyu-2"}, now_, kDay);
  EXPECT_FALSE(VerifyServer(forged.certificate + server.certificate, old_.certificate, "kyoyu-2", now_).has_value());
}

TEST_F(Pki, BeforeAndAfterItsLifeItIsRefused) {
  Identity server = Server(old_);
  auto at = [&](Duration offset) {
    return VerifyServer(server.certificate, old_.certificate, "kyoyu-primary",
                        now_ + std::chrono::duration_cast<WallTime::duration>(offset))
        .has_value();
  };
  EXPECT_TRUE(at(-std::chrono::minutes(50))) << "clocks differ";
  EXPECT_FALSE(at(-hours(2)));
  EXPECT_TRUE(at(89 * kDay));
  EXPECT_FALSE(at(91 * kDay));
}

TEST_F(Pki, ItIsRenewedAtTwoThirds) {
  Facts facts = *ReadCertificate(Server(old_).certificate);
  EXPECT_FALSE(DueForRenewal(facts, now_));
  EXPECT_FALSE(DueForRenewal(facts, now_ + hours(24 * 59)));
  EXPECT_TRUE(DueForRenewal(facts, now_ + hours(24 * 61)));
}

TEST_F(Pki, NothingOutlivesItsAuthority) {
  EXPECT_EQ(ReadCertificate(Server(old_, 9000 * kDay).certificate)->not_after,
            ReadCertificate(old_.certificate)->not_after);
}

TEST_F(Pki, WhoTrustsOnlyTheOldAuthorityFollowsTheNewOne) {
  Identity next = *MakeAuthority("pgtier data/kyoyu 2", now_, 600 * kDay);
  auto cross = CrossSign(old_, next.certificate, now_);
  ASSERT_TRUE(cross.has_value()) << cross.error().message;
  Identity server = Server(next);
  std::string chain = server.certificate + *cross;
  for (const std::string& trusted :
       {old_.certificate, next.certificate, next.certificate + old_.certificate, old_.certificate + next.certificate}) {
    Status verified = VerifyServer(chain, trusted, "kyoyu-primary", now_);
    EXPECT_TRUE(verified.has_value()) << verified.error().message;
  }
  EXPECT_FALSE(VerifyServer(server.certificate, old_.certificate, "kyoyu-primary", now_).has_value());
  EXPECT_EQ(SplitBundle(chain)->size(), 2U);
}

TEST_F(Pki, OpenSslsOwnProgramAgrees) {
  if (std::system("openssl version > /dev/null 2>&1") != 0) GTEST_SKIP() << "the program openssl is not installed";
  Identity next = *MakeAuthority("pgtier data/kyoyu 2", now_, 600 * kDay);
  std::string cross = *CrossSign(old_, next.certificate, now_);
  std::string folder = testing::TempDir() + "pki-" + std::to_string(getpid());
  std::filesystem::create_directory(folder);
  auto write = [&](const char* name, const std::string& text) { std::ofstream(folder + "/" + name) << text; };
  write("old.crt", old_.certificate);
  write("next.crt", next.certificate);
  write("cross.crt", cross);
  write("server.crt", Server(next).certificate);
  auto run = [&](const std::string& arguments) {
    return std::system(("cd " + folder + " && openssl " + arguments + " > log 2>&1").c_str()) == 0;
  };
  std::string strict = "verify -x509_strict -purpose sslserver -verify_hostname kyoyu-primary ";
  EXPECT_TRUE(run(strict + "-CAfile next.crt server.crt"));
  EXPECT_TRUE(run(strict + "-CAfile old.crt -untrusted cross.crt server.crt"));
  EXPECT_FALSE(run(strict + "-CAfile old.crt server.crt"));
  EXPECT_FALSE(run("verify -verify_hostname other -CAfile next.crt server.crt"));
  std::filesystem::remove_all(folder);
}

TEST_F(Pki, RubbishIsRefusedInWords) {
  EXPECT_EQ(ReadCertificate("rubbish").error().code, Code::kInvalidArgument);
  EXPECT_EQ(IssueServer({old_.certificate, "rubbish"}, {"a"}, now_, kDay).error().code, Code::kInvalidArgument);
  EXPECT_EQ(IssueServer(old_, {}, now_, kDay).error().code, Code::kInvalidArgument);
  EXPECT_EQ(IssueServer(old_, {"a,DNS:evil"}, now_, kDay).error().code, Code::kInvalidArgument);
  EXPECT_EQ(VerifyServer("", old_.certificate, "", now_).error().code, Code::kUnauthenticated);
}

}  // namespace
}  // namespace pgtier::pki
