#include "lib/http/transport.h"

namespace pgtier::http {

bool MayRepeat(const Request& request) {
  return request.idempotent || request.method == "GET" || request.method == "HEAD" || request.method == "PUT" ||
         request.method == "DELETE";
}

}  // namespace pgtier::http
