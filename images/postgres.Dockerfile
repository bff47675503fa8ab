# Postgres 17 with the extensions that the tiers use, all of them Debian's packages.
FROM docker.io/library/debian:trixie-slim

# The ids are fixed before any package makes them: volumes outlive images, and pods name them in runAsUser.
# No main cluster is made: the data folder is a volume, and the pod initialises it.
RUN groupadd --gid 999 postgres \
 && useradd --uid 999 --gid 999 --no-create-home --home-dir /var/lib/postgresql --shell /bin/bash postgres \
 && mkdir -p /etc/postgresql-common \
 && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf \
 && apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      postgresql-17 postgresql-17-timescaledb postgresql-17-pgvector postgresql-17-cron \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o 999 -g 999 -m 0700 /var/lib/postgresql/data \
 && install -d -o 999 -g 999 -m 0775 /run/postgresql

COPY images/postgres/ /usr/local/bin/

# The root file system may be read-only: all that is written goes to /var/lib/postgresql/data, /run/postgresql
# and /tmp, which the pod mounts.
ENV PATH=/usr/lib/postgresql/17/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8
USER 999
# A fast shutdown; SIGTERM would wait for every client to leave (PostgreSQL, 18.5).
STOPSIGNAL SIGINT
ENTRYPOINT ["pgtier-postgres"]
