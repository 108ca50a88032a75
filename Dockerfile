# syntax=docker/dockerfile:1
# The image: one binary on a base without a shell. Build with `docker build -t outboxd .` or `make docker`.

FROM rust:1-slim-bookworm AS build
# `ring` has a little C in it.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# The caches belong to the builder, not to a layer: a second build compiles what has changed and nothing else.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --locked --profile dist --bin outboxd && cp target/dist/outboxd /outboxd

# glibc, libgcc, CA certificates and a user without rights: what the binary needs and nothing an intruder could use.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /outboxd /usr/local/bin/outboxd
# The configuration is to be mounted here. Its `http.listen` should be 0.0.0.0:9187, so that metrics can be read from outside.
ENV OUTBOXD_CONFIG=/etc/outboxd/outboxd.toml
EXPOSE 9187
# Asks /readyz, so a relay that stalls is unhealthy, not only one that has died.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/outboxd", "health"]
# SIGTERM drains: what is in flight finishes, what has not begun is released.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/outboxd"]
CMD ["run"]
