# Debian's Prometheus, which the demo's and the tests' clusters run. Its data folder is a volume.
FROM docker.io/library/debian:trixie-slim

RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends prometheus ca-certificates \
 && rm -rf /var/lib/apt/lists/* /var/lib/prometheus \
 && install -d -o 65534 -g 65534 /prometheus

USER 65534:65534
ENTRYPOINT ["prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
