# PgBouncer in the foreground; without a logfile in its configuration it logs to stderr.
FROM docker.io/library/debian:trixie-slim

RUN groupadd --gid 998 pgbouncer \
 && useradd --uid 998 --gid 998 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pgbouncer \
 && apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends pgbouncer \
 && rm -rf /var/lib/apt/lists/* /etc/pgbouncer/* \
 && install -d -o 998 -g 998 /run/pgbouncer

USER 998
# On SIGTERM PgBouncer 1.23 and later take no new clients and wait for those they have to leave; the pod's grace
# period bounds it.
ENTRYPOINT ["pgbouncer"]
CMD ["/etc/pgbouncer/pgbouncer.ini"]
