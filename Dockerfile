# syntax=docker/dockerfile:1
# The image: one binary, the libraries that it needs, and no shell. Build with `docker build -t outboxd .` or `make docker`.
# The base is named by its exact version, so that a build tomorrow is the build of today.

FROM rust:1.95.0-slim-bookworm AS build
# `ring` has a little C in it; Kafka's client and its OpenSSL are built from source, which takes make, perl and a C++ compiler.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates g++ gcc libc6-dev make perl \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# The caches belong to the builder, not to a layer: a second build compiles what has changed and nothing else.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --locked --profile dist --bin outboxd && cp target/dist/outboxd /outboxd
# What the binary needs and nothing an intruder could use: its libraries, CA certificates, a user without rights, a place for files.
RUN mkdir -p /image/usr/local/bin /image/etc/outboxd /image/etc/ssl/certs /image/tmp && chmod 1777 /image/tmp \
    && cp /outboxd /image/usr/local/bin/outboxd \
    && ldd /outboxd | grep -o '/[^ )]*' | xargs -I{} cp -L --parents {} /image \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
    && echo 'nonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin' > /image/etc/passwd \
    && echo 'nonroot:x:65532:' > /image/etc/group \
    && echo 'hosts: files dns' > /image/etc/nsswitch.conf

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="outboxd" \
      org.opencontainers.image.description="A transactional outbox relay for Postgres" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.documentation="https://docs.rs/outboxd" \
      org.opencontainers.image.base.name="scratch"
COPY --from=build /image /
USER 65532:65532
# The configuration is to be mounted here. Its `http.listen` should be 0.0.0.0:9187, so that metrics can be read from outside.
ENV OUTBOXD_CONFIG=/etc/outboxd/outboxd.toml
EXPOSE 9187
# Whether the process lives and answers, at the http.listen of the configuration. Readiness is another question: a relay that waits for its database
# is not mended by a restart. Ask `outboxd health`, or /readyz.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/outboxd", "health", "--live"]
# SIGTERM drains: what is in flight finishes, what has not begun is released.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/outboxd"]
CMD ["run"]
