# The operator, kubectl-pgtier and the demo's load program.
#
#   docker build -f images/pgtier.Dockerfile -t localhost/pgtier/pgtier:dev .
#
# compiles them in a container. Where they are compiled already (build/image holds what goes to /usr/local),
#
#   docker build -f images/pgtier.Dockerfile --build-arg BINARIES=prebuilt -t localhost/pgtier/pgtier:dev .
#
# takes those, which must come from Debian 12 too.
ARG BINARIES=compiled

FROM docker.io/library/debian:bookworm-slim AS compiled
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      g++ cmake ninja-build mold libcpprest-dev nlohmann-json3-dev libyaml-cpp-dev libpq-dev \
      prometheus-cpp-dev libspdlog-dev libcli11-dev libexpected-dev libssl-dev zlib1g-dev ca-certificates
COPY . /src
WORKDIR /src
RUN cmake --preset release \
 && cmake --build --preset release \
 && cmake --install build/release --strip --prefix /out

FROM scratch AS prebuilt
COPY build/image/ /out/

FROM ${BINARIES} AS binaries

FROM docker.io/library/debian:bookworm-slim
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      libcpprest2.10 libpq5 libyaml-cpp0.7 libprometheus-cpp-core1.0 libprometheus-cpp-pull1.0 \
      libspdlog1.10 libfmt9 libssl3 ca-certificates \
 && rm -rf /var/lib/apt/lists/*
COPY --from=binaries /out/ /usr/local/
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/pgtier-operator"]
