# What the testbed's own cluster runs: as its pause container, as CoreDNS, as local-path-provisioner and as the
# latter's helper, which needs a shell. The context is the folder of programs.sh.
FROM docker.io/library/debian:bookworm-slim
COPY coredns local-path-provisioner /usr/local/bin/
CMD ["sleep", "infinity"]
