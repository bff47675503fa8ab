// The policy's authority over the years, by a clock of the test's own. Clients are judged by what they trusted when
// they last looked.
#include "controllers/scale_tier/certificates.h"

#include <gmock/gmock.h>

#include "lib/pki/certificate.h"
#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using std::chrono::hours;

class CertificatesTest : public testing::Test {
 protected:
  CertificatesTest() : needs_(NeedsOf(scene_.policy, scene_.resolved, 0)), now_(scene_.now) { Pass(); }

  void Pass() {
    Result<Certificates> renewed = Renew(all_, needs_, now_);
    ASSERT_TRUE(renewed.has_value()) << renewed.error().message;
    all_ = *renewed;
  }
  void After(int days) { now_ += hours(24 * days); }
  // Whether a client that trusts `trusted` takes what the primary presents.
  bool Believes(const std::string& trusted) const {
    return pki::VerifyServer(all_.postgres.identity.certificate, trusted, "kyoyu-primary.data.svc", now_).has_value();
  }

  Scene scene_;
  CertificateNeeds needs_;
  WallTime now_;
  Certificates all_;
};

TEST_F(CertificatesTest, EveryServiceIsNamed) {
  std::vector<std::string> postgres = pki::ReadCertificate(all_.postgres.identity.certificate)->names;
  std::vector<std::string> pooler = pki::ReadCertificate(all_.pooler.identity.certificate)->names;
  for (const char* service : {"kyoyu-primary", "kyoyu-1", "kyoyu-2", "kyoyu-3"}) {
    for (const char* suffix : {"", ".data", ".data.svc", ".data.svc.cluster.local"}) {
      EXPECT_THAT(postgres, testing::Contains(std::string(service) + suffix));
    }
  }
  for (const char* service : {"kyoyu.data.svc", "kyoyu-rw.data.svc", "kyoyu-ro.data.svc", "kyoyu-ro"}) {
    EXPECT_THAT(pooler, testing::Contains(service));
    EXPECT_THAT(postgres, testing::Not(testing::Contains(service)));
  }
}

TEST_F(CertificatesTest, AtRestNothingIsDrawnAnew) {
  Certificates before = all_;
  After(59);
  Pass();
  EXPECT_EQ(all_.postgres.fingerprint, before.postgres.fingerprint);
  EXPECT_EQ(all_.pooler.fingerprint, before.pooler.fingerprint);
  EXPECT_EQ(all_.Trust(), before.Trust());
}

TEST_F(CertificatesTest, AServersCertificateIsRenewedAtTwoThirdsAndTrustedAsBefore) {
  Certificates before = all_;
  After(61);
  Pass();
  EXPECT_NE(all_.postgres.fingerprint, before.postgres.fingerprint);
  EXPECT_NE(all_.pooler.fingerprint, before.pooler.fingerprint);
  EXPECT_EQ(all_.Trust(), before.Trust());
  EXPECT_TRUE(Believes(before.Trust()));
}

TEST_F(CertificatesTest, AnAuthorityIsFollowedWithoutAnybodyRefused) {
  std::string first = all_.Trust();
  After(731);
  Pass();
  ASSERT_NE(all_.authority.certificate, first);
  EXPECT_TRUE(Believes(first)) << "an application that has not read the Secret anew";
  EXPECT_TRUE(Believes(all_.authority.certificate));
  EXPECT_TRUE(Believes(all_.Trust()));
  // A server that has not reloaded yet, before a client that has.
  std::string both = all_.Trust();
  EXPECT_THAT(both, testing::HasSubstr(first));
  Certificates during = all_;
  After(29);
  Pass();
  EXPECT_EQ(all_.postgres.fingerprint, during.postgres.fingerprint);
  After(2);
  Pass();
  EXPECT_EQ(all_.Trust(), all_.authority.certificate) << "the former authority has faded";
  EXPECT_NE(all_.postgres.fingerprint, during.postgres.fingerprint) << "or nobody would see that it was reloaded";
  EXPECT_FALSE(Believes(first));
  EXPECT_TRUE(Believes(both));
}

TEST_F(CertificatesTest, ARequestIsCarriedOutOnce) {
  std::string first = all_.Trust();
  needs_.request = "2026-11-20";
  Pass();
  Certificates rotated = all_;
  EXPECT_NE(rotated.authority.certificate, first);
  EXPECT_EQ(rotated.request, "2026-11-20");
  Pass();
  EXPECT_EQ(all_.postgres.fingerprint, rotated.postgres.fingerprint);
  needs_.request.clear();
  Pass();
  EXPECT_EQ(all_.authority.certificate, rotated.authority.certificate) << "the annotation was taken away";
  needs_.request = "again";
  now_ += std::chrono::seconds(1);
  Pass();
  // Two in a row: who knows only the first is still led here.
  EXPECT_TRUE(Believes(first));
  EXPECT_TRUE(Believes(rotated.authority.certificate));
  EXPECT_TRUE(Believes(all_.authority.certificate));
}

TEST_F(CertificatesTest, AFormerAuthorityThatIsTakenAwayIsTrustedNoMore) {
  std::string leaked = all_.Trust();
  needs_.request = "a leak";
  Pass();
  EXPECT_TRUE(Believes(leaked));
  std::string during = all_.postgres.fingerprint;
  all_.former.clear();
  all_.cross.clear();
  Pass();
  EXPECT_EQ(all_.Trust(), all_.authority.certificate);
  EXPECT_EQ(all_.pooler.trust, all_.Trust());
  EXPECT_NE(all_.postgres.fingerprint, during) << "or nobody would see that it was reloaded";
  EXPECT_FALSE(Believes(leaked));
}

TEST_F(CertificatesTest, ALostAuthorityIsReplacedAndWhatServersPresentStaysTrusted) {
  ServerCertificate presented = all_.postgres;
  all_.authority = {};
  EXPECT_FALSE(all_.Trust().empty()) << "the operator must reach servers to mend it";
  Pass();
  EXPECT_TRUE(pki::VerifyServer(presented.identity.certificate, all_.Trust(), "kyoyu-1", now_).has_value());
  EXPECT_TRUE(Believes(all_.authority.certificate));
}

TEST_F(CertificatesTest, AKeyOfAnotherIsDamageToo) {
  all_.postgres.identity.key = all_.pooler.identity.key;
  std::string before = all_.postgres.fingerprint;
  Pass();
  EXPECT_NE(all_.postgres.fingerprint, before);
  EXPECT_TRUE(pki::IsKeyOf(all_.postgres.identity.key, all_.postgres.identity.certificate));
}

TEST_F(CertificatesTest, MoreReplicasNeedMoreNames) {
  std::string before = all_.postgres.fingerprint;
  nlohmann::json object = TwoTiers();
  object["spec"]["tiers"][1]["readReplicas"]["min"] = 5;
  Scene larger(object);
  needs_ = NeedsOf(larger.policy, larger.resolved, 0);
  Pass();
  EXPECT_NE(all_.postgres.fingerprint, before);
  EXPECT_THAT(pki::ReadCertificate(all_.postgres.identity.certificate)->names, testing::Contains("kyoyu-6"));
  std::string six = all_.postgres.fingerprint;
  needs_ = NeedsOf(scene_.policy, scene_.resolved, 0);
  Pass();
  EXPECT_EQ(all_.postgres.fingerprint, six) << "fewer need no other";
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
