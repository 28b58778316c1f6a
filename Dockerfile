# The one image of toolcrib: the binary, the selector's sentence model, and a Python with pandas for sandboxed programs.
#   docker build -t toolcrib:0.1.0 .
# Configure: executor.sandbox.python = "/opt/toolcrib/python/bin/python",
#            executor.workspace_root = "/var/lib/toolcrib/work" (k8s/base/toolcrib.toml does).

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package node --bin toolcrib \
 && install -D target/release/toolcrib /out/toolcrib

# Python must come from the same Debian release as the last stage: the environment links to it.
FROM debian:12-slim AS python
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY scripts/install-python scripts/tools-dir scripts/
COPY shared/sandbox/requirements.txt shared/sandbox/
RUN scripts/install-python /opt/toolcrib/python

FROM debian:12-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o 65532 -g 65532 -m 0700 /var/lib/toolcrib /var/lib/toolcrib/work
COPY --from=python /opt/toolcrib/python /opt/toolcrib/python
COPY --from=build /out/toolcrib /usr/local/bin/toolcrib
COPY models /usr/local/share/toolcrib/models
USER 65532:65532
WORKDIR /var/lib/toolcrib
ENTRYPOINT ["toolcrib"]
