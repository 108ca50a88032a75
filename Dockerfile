# syntax=docker/dockerfile:1
# The image: one binary, the libraries that it needs, and no shell. Build it with `make docker`, or for both architectures with
#   docker buildx build --platform linux/amd64,linux/arm64 .
# The compiler always runs on the architecture of the machine that builds, and compiles for the other one where that is asked for; emulating
# a processor would take an hour. The base is named by its exact version, so that a build tomorrow is the build of today.

FROM --platform=$BUILDPLATFORM rust:1.95.0-slim-bookworm AS build
ARG BUILDARCH
ARG TARGETARCH
SHELL ["/bin/bash", "-o", "pipefail", "-eu", "-c"]
# `ring` has a little C in it; Kafka's client and its OpenSSL are built from source, which takes make, perl and a C++ compiler. binutils has
# the readelf of scripts/image-root.sh.
RUN apt-get update \
    && apt-get install -y --no-install-recommends binutils ca-certificates g++ gcc libc6-dev make perl \
    && if [ "${TARGETARCH:-$BUILDARCH}" != "$BUILDARCH" ]; then \
         case "$TARGETARCH" in \
           amd64) apt-get install -y --no-install-recommends gcc-x86-64-linux-gnu g++-x86-64-linux-gnu libc6-dev-amd64-cross ;; \
           arm64) apt-get install -y --no-install-recommends gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross ;; \
         esac; \
       fi \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# The caches belong to the builder, not to a layer: a second build compiles what has changed and nothing else. Locked, because the builds of
# two architectures may run at the same time.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/source/target,sharing=locked \
    bash scripts/image-build.sh "${TARGETARCH:-$BUILDARCH}" "$BUILDARCH" /image

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED
LABEL org.opencontainers.image.title="outboxd" \
      org.opencontainers.image.description="A transactional outbox relay for Postgres" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.documentation="https://docs.rs/outboxd" \
      org.opencontainers.image.base.name="scratch"
COPY --from=build /image /
USER 65532:65532
# The configuration is to be mounted here. Its `http.listen` should be 0.0.0.0:9187, so that metrics can be read from outside.
ENV OUTBOXD_CONFIG=/etc/outboxd/outboxd.toml
EXPOSE 9187
# Whether the process lives and answers, at the http.listen of the configuration. Readiness is another question: a relay that waits for its
# database is not helped by a restart. Ask `outboxd health`, or /readyz.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/outboxd", "health", "--live"]
# SIGTERM drains: deliveries in flight finish, what has not begun is released.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/outboxd"]
CMD ["run"]
