# The program in a small image. It is not compiled in here: `cargo build --release` comes first. The base must not be older
# than the system that compiled it; on anything newer than Debian 12, name that with --build-arg BASE=...
ARG BASE=debian:bookworm-slim
FROM ${BASE}
# Whom to trust on the way to Azure.
RUN test -e /etc/ssl/certs/ca-certificates.crt \
    || (apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*)
ARG BINARY=target/release/longshore
COPY compose/entrypoint /usr/local/bin/entrypoint
COPY ${BINARY} /usr/local/bin/longshore
ENV XDG_CACHE_HOME=/var/cache
STOPSIGNAL SIGTERM
EXPOSE 9464
ENTRYPOINT ["entrypoint"]
CMD ["--help"]
