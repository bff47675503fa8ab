// Base64 as Kubernetes' Secrets and kubeconfigs use it (RFC 4648, section 4: padded, no line breaks).
#pragma once

#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace pgtier {

std::string EncodeBase64(std::string_view bytes);
// White space in it is skipped, as YAML folds long lines. Errors: kInvalidArgument, without the text: it may be a
// secret.
Result<std::string> DecodeBase64(std::string_view text);

}  // namespace pgtier
